//! What clients send about vault entries.
//!
//! A client may send back a whole answer; fields that only the server decides are ignored. Every
//! other unknown field is an error.
//!
//! Omitted fields stay unchanged. A change of the source of an entry's credentials has these
//! consequences:
//!
//! | from | to | |
//! | --- | --- | --- |
//! | own credentials | bound | they are erased, and with them the method AUTHENTICATOR, which needs them |
//! | bound | own credentials | both fields of the binding are cleared in the same request; credentials alone are refused, because unbinding by accident would be the worse error |
//! | bound | bound, the binding sent again | a cache duration that is not sent along is the connection's again |
//!
//! The messages about bound entries use the wording of the published clients.

use keyway::entries::{Binding, CredentialSource, TfaMethod};
use keyway::{Access, Broker, BrokerError, CacheTtl, ConnectionId, EntryContent, EntryId, EntrySelector, InvalidInput};
use serde_json::json;
use utoipa::PartialSchema;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType};
use utoipa::openapi::{RefOr, Schema};

use super::attributes::{self, AttributeChanges};
use super::entry;
use super::name::pair;
use crate::http::body::{Change, Fields, FromBody, body};
use crate::http::error::ApiError;
use crate::http::schema::{described, named, schema};
use crate::view::words::words;

body! {
    /// The fields of an entry in a `POST` or a `PUT`.
    #[derive(Default, PartialEq)]
    pub(crate) struct EntryChanges ignoring(entry::names()) {
        /// Selects the entry to change; without it, user and domain select it.
        #[schema(value_type = Option<Uuid>)]
        pub(crate) id: Option<EntryId>,
        #[schema(min_length = 1, max_length = 512)]
        pub(crate) permissioned_user_id: Option<String>,
        /// The address of a site, with http or https. Compared exactly as sent.
        #[schema(min_length = 1, max_length = 2048)]
        pub(crate) domain: Option<String>,
        #[schema(max_length = 512, value_type = Option<String>)]
        pub(crate) user_alias: Change<String>,
        /// AUTHENTICATOR requires `tfa_secret`, and is not available for a bound entry.
        #[schema(value_type = Option<TfaMethodName>)]
        pub(crate) tfa_method: Change<TfaMethod>,
        /// Not available with a binding.
        pub(crate) passkey: Option<bool>,
        /// The connection to bind to, together with `secret_ref`.
        #[schema(value_type = Option<Uuid>)]
        pub(crate) secret_provider_id: Change<ConnectionId>,
        /// The item to bind to, together with `secret_provider_id`.
        #[schema(min_length = 1, max_length = 2048, value_type = Option<String>)]
        pub(crate) secret_ref: Change<String>,
        /// The entry's own cache duration; requires a binding. 0 is always live.
        #[schema(value_type = Option<u32>, maximum = 4294967295i64)]
        pub(crate) secret_cache_ttl_seconds: Change<CacheTtl>,
        /// Encrypted by the client; not available with a binding.
        #[schema(max_length = 65536, value_type = Option<String>)]
        pub(crate) user_name: Change<String>,
        /// Encrypted by the client; not available with a binding.
        #[schema(max_length = 65536, value_type = Option<String>)]
        pub(crate) password: Change<String>,
        /// The secret of an authenticator, encrypted by the client; not available with a
        /// binding.
        #[schema(max_length = 65536, value_type = Option<String>)]
        pub(crate) tfa_secret: Change<String>,
        /// By their names beside the others; see `described`.
        #[schema(ignore)]
        pub(crate) attributes: AttributeChanges,
    }
}

words! {
    /// How the second factor arrives.
    struct TfaMethodName: TfaMethod::ALL.map(TfaMethod::name);
}

impl EntryChanges {
    /// Some clients encrypt `null` for a missing value.
    pub(super) async fn read_nulls(&mut self, broker: &Broker, access: &Access) -> Result<(), BrokerError> {
        for change in [&mut self.user_name, &mut self.password, &mut self.tfa_secret] {
            if let Some(Some(ciphertext)) = change
                && broker.entries().is_encrypted_null(access, ciphertext).await?
            {
                *change = Some(None);
            }
        }
        Ok(())
    }

    /// Whether an entry of these would have a name and nothing else.
    pub(crate) fn is_empty_entry(&self) -> bool {
        let credentials = [&self.user_name, &self.password, &self.tfa_secret, &self.secret_ref];
        credentials.iter().all(|value| value.is_none())
            && self.tfa_method.is_none()
            && self.passkey != Some(true)
            && self.attributes == AttributeChanges::default()
    }

    /// The entry that the changes create.
    pub(crate) fn into_entry(self) -> Result<EntryContent, BrokerError> {
        let mut entry = EntryContent::default();
        self.apply(&mut entry)?;
        Ok(entry)
    }

    /// Applies the changes.
    pub(crate) fn apply(&self, entry: &mut EntryContent) -> Result<(), InvalidInput> {
        let refused = |message: &str| Err(InvalidInput::Refused(message.to_owned()));
        if let Some(user) = &self.permissioned_user_id {
            entry.user.clone_from(user);
        }
        if let Some(domain) = &self.domain {
            entry.domain.clone_from(domain);
        }
        apply(&self.user_alias, &mut entry.alias);
        apply(&self.tfa_method, &mut entry.tfa_method);
        entry.passkey = self.passkey.unwrap_or(entry.passkey);
        // Connection and item are set together and cleared together. Clearing one half of no
        // binding changes nothing.
        let is_rebound = match (&self.secret_provider_id, &self.secret_ref) {
            (None, None) => false,
            (Some(Some(connection)), Some(Some(reference))) => {
                entry.credentials = CredentialSource::Bound(Binding::new(*connection, reference));
                true
            }
            (Some(None), Some(None)) if entry.binding().is_some() => {
                entry.credentials = CredentialSource::default();
                false
            }
            (None | Some(None), None | Some(None)) if entry.binding().is_none() => false,
            _ => return refused("secret_provider_id and secret_ref must be provided together"),
        };
        match &mut entry.credentials {
            CredentialSource::Bound(binding) => {
                apply(&self.secret_cache_ttl_seconds, &mut binding.cache_ttl);
                let sent = self.credentials().into_iter().filter(|(_, change)| matches!(change, Some(Some(_))));
                let sent = sent.map(|(name, _)| name).collect::<Vec<_>>().join(", ");
                if !sent.is_empty() && is_rebound {
                    return refused(&format!("provider-backed vault entries cannot include {sent}"));
                } else if !sent.is_empty() {
                    // The request does not mention the binding, so the message must.
                    return refused(&format!(
                        "this vault entry is bound to a provider's item, and provider-backed vault entries cannot include \
                         {sent}; to give it credentials of its own, send secret_provider_id and secret_ref as null in the \
                         same request"
                    ));
                }
                if self.tfa_method == Some(Some(TfaMethod::Authenticator)) {
                    return Err(InvalidInput::BoundWithAuthenticator);
                }
            }
            CredentialSource::Own(own) => {
                if matches!(self.secret_cache_ttl_seconds, Some(Some(_))) {
                    return refused("secret_cache_ttl_seconds requires secret_provider_id and secret_ref");
                }
                for ((_, change), (_, value)) in self.credentials().into_iter().zip(own.fields_mut()) {
                    apply(change, value);
                }
            }
            _ => return refused("this server cannot change the credentials of this vault entry"),
        }
        self.attributes.apply(&mut entry.attributes)
    }

    /// In the order of [`Credentials::fields`](keyway::entries::Credentials::fields).
    fn credentials(&self) -> [(&'static str, &Change<String>); 3] {
        [("user_name", &self.user_name), ("password", &self.password), ("tfa_secret", &self.tfa_secret)]
    }

    /// Adds to the document the attributes, the ignored server-managed fields, and the required
    /// fields.
    fn described(ignored: &[&str], required: &[&str]) -> RefOr<Schema> {
        let mut described = Self::schema();
        if let RefOr::T(Schema::Object(object)) = &mut described {
            object.properties.extend(attributes::schemas().map(|(name, json)| (name.to_owned(), schema(json))));
            for name in ignored {
                object.properties.remove(*name);
            }
            for name in entry::names() {
                let anything = || {
                    let anything = ObjectBuilder::new().read_only(true).description(Some("Ignored in requests"));
                    RefOr::T(Schema::Object(anything.schema_type(SchemaType::AnyValue).build()))
                };
                object.properties.entry(name.to_owned()).or_insert_with(anything);
            }
            object.required = required.iter().map(ToString::to_string).collect();
            object.example = Some(json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com"}));
        }
        described
    }
}

fn apply<T: Clone>(change: &Change<T>, to: &mut Option<T>) {
    if let Some(value) = change {
        to.clone_from(value);
    }
}

/// The body of a `POST`.
pub(crate) struct NewEntryBody(pub(in crate::http) EntryChanges);

/// An `id` in it was sent back from an answer, and is ignored.
impl FromBody for NewEntryBody {
    fn read(mut fields: Fields) -> Result<Self, ApiError> {
        fields.ignore(["id"]);
        let changes = EntryChanges::read(fields)?;
        for (name, value) in [("permissioned_user_id", &changes.permissioned_user_id), ("domain", &changes.domain)] {
            if value.is_none() {
                return Err(ApiError::invalid(format!("{name} is required and must be a string")));
            }
        }
        Ok(Self(changes))
    }
}

described!(NewEntryBody as "NewVaultEntry":
    EntryChanges::described(&["id"], &["permissioned_user_id", "domain"]); with those of EntryChanges);

/// The body of a `PUT`: which entry it changes, and how.
pub(crate) struct EntryChangesBody(pub(super) EntrySelector, pub(super) EntryChanges);

/// Here `id` selects the entry, and another pair of user and domain renames it.
impl FromBody for EntryChangesBody {
    fn read(fields: Fields) -> Result<Self, ApiError> {
        let mut changes = EntryChanges::read(fields)?;
        let selector = match changes.id {
            Some(id) => EntrySelector::Id(id),
            None => pair(changes.permissioned_user_id.take(), changes.domain.take())?,
        };
        Ok(Self(selector, changes))
    }
}

described!(EntryChangesBody as "VaultEntryChanges":
    named(EntryChanges::described(&[], &[])); with those of EntryChanges);
