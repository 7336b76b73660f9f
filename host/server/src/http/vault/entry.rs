//! A vault entry as clients see it.
//!
//! Credentials and a custom proxy's address are returned as the ciphertext that came; of a bound entry there are none, for no answer of this API has a
//! resolved value. Attributes are returned as the very text that came.

use jiff::Timestamp;
use keyway::{Attributes, CredentialSource, TfaMethod, VaultEntry};
use serde::ser::{Error, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, SchemaFormat, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::http::schema::{attributes, nullable, text};

/// Writes an entry, every field there is, `null` where it is not set.
pub(in crate::http) struct Entry(pub(super) VaultEntry);

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = &self.0;
        let own = match &entry.credentials {
            CredentialSource::Own(own) => Some(own),
            CredentialSource::Bound(_) => None,
        };
        let binding = entry.binding();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &entry.id)?;
        map.serialize_entry("workspace_id", &entry.workspace_id)?;
        // Workspaces are all that there is.
        map.serialize_entry("organization_id", &None::<&str>)?;
        map.serialize_entry("permissioned_user_id", &entry.permissioned_user_id)?;
        map.serialize_entry("domain", &entry.domain)?;
        map.serialize_entry("site_identifier", &site_of(&entry.domain))?;
        map.serialize_entry("user_alias", &entry.user_alias)?;
        map.serialize_entry("user_name", &own.and_then(|own| own.user_name.as_ref()))?;
        map.serialize_entry("password", &own.and_then(|own| own.password.as_ref()))?;
        map.serialize_entry("tfa_secret", &own.and_then(|own| own.tfa_secret.as_ref()))?;
        map.serialize_entry("tfa_method", &entry.tfa_method.map(TfaMethod::name))?;
        // There is no inbox and no telephone behind this server.
        map.serialize_entry("tfa_email", &None::<&str>)?;
        map.serialize_entry("tfa_phone_number", &None::<&str>)?;
        map.serialize_entry("passkey", &entry.passkey)?;
        map.serialize_entry("secret_provider_id", &binding.map(|binding| binding.connection_id))?;
        map.serialize_entry("secret_ref", &binding.map(|binding| &binding.reference))?;
        let ttl = binding.and_then(|binding| binding.cache_ttl).map(|ttl| ttl.seconds());
        map.serialize_entry("secret_cache_ttl_seconds", &ttl)?;
        for name in Attributes::names() {
            let value = entry.attributes.get(name).map(serde_json::from_str::<&RawValue>).transpose();
            map.serialize_entry(name, &value.map_err(S::Error::custom)?)?;
        }
        map.serialize_entry("session_data_set_at", &entry.session_data_set_at)?;
        map.serialize_entry("effective_expires_at", &entry.effective_expires_at())?;
        map.serialize_entry("created_at", &entry.created_at)?;
        map.serialize_entry::<_, Timestamp>("updated_at", &entry.updated_at)?;
        map.end()
    }
}

impl PartialSchema for Entry {
    fn schema() -> RefOr<Schema> {
        let formatted = |format| text().format(Some(SchemaFormat::KnownFormat(format)));
        let id = || formatted(KnownFormat::Uuid);
        let time = || formatted(KnownFormat::DateTime);
        let of_text = || nullable(text(), Type::String);
        let ciphertext = || nullable(text().description(Some("As the client has encrypted it")), Type::String);
        let whole = |about| {
            let number = ObjectBuilder::new().description(Some(about)).minimum(Some(0)).maximum(Some(u32::MAX));
            nullable(number, Type::Integer)
        };
        let methods = ["AUTHENTICATOR", "EMAIL", "SMS", "MAGIC_LINK"].map(serde_json::Value::from);
        let methods = text().enum_values(Some(methods.into_iter().chain([serde_json::Value::Null])));
        let entry = ObjectBuilder::new()
            .description(Some("A vault entry. What is not set is null; of a bound one there are no credentials."))
            .property("id", id())
            .property("workspace_id", id())
            .property("organization_id", of_text())
            .property("permissioned_user_id", text())
            .property("domain", text())
            .property("site_identifier", of_text())
            .property("user_alias", of_text())
            .property("user_name", ciphertext())
            .property("password", ciphertext())
            .property("tfa_secret", ciphertext())
            .property("tfa_method", nullable(methods, Type::String))
            .property("tfa_email", of_text())
            .property("tfa_phone_number", of_text())
            .property("passkey", ObjectBuilder::new().schema_type(Type::Boolean))
            .property("secret_provider_id", nullable(id(), Type::String))
            .property("secret_ref", of_text())
            .property("secret_cache_ttl_seconds", whole("Its own cache duration; the connection's when null"))
            .property("session_data_set_at", nullable(time(), Type::String))
            .property("effective_expires_at", nullable(time(), Type::String))
            .property("created_at", time())
            .property("updated_at", time());
        let entry = attributes().fold(entry, |entry, (name, schema)| entry.property(name, schema));
        let mut entry = entry.build();
        // Every field there is.
        entry.required = entry.properties.keys().cloned().collect();
        RefOr::T(Schema::Object(entry))
    }
}

impl ToSchema for Entry {
    fn name() -> std::borrow::Cow<'static, str> {
        "VaultEntry".into()
    }
}

/// One entry, or all of them.
pub(super) struct Entries;

impl PartialSchema for Entries {
    fn schema() -> RefOr<Schema> {
        let entry = || Ref::from_schema_name(Entry::name());
        let either = OneOfBuilder::new().item(entry()).item(ArrayBuilder::new().items(entry()));
        RefOr::T(Schema::OneOf(either.build()))
    }
}

impl ToSchema for Entries {
    fn name() -> std::borrow::Cow<'static, str> {
        "VaultEntries".into()
    }
}

/// The site's name.
fn site_of(domain: &str) -> Option<String> {
    url::Url::parse(domain).ok()?.host_str().map(str::to_owned)
}
