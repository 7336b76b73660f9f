//! What clients send about vault entries.
//!
//! A client may send back what it got, also what only the server decides; that is ignored. Everything else that is not known is an error.

use std::borrow::Cow;

use axum::http::StatusCode;
use keyway::{
    AttributeChanges, Attributes, Change, ConnectionId, EntryChanges, EntryId, EntrySelector, NewEntry, TfaMethod,
};
use serde_json::json;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::http::body::Fields;
use crate::http::error::ApiError;
use crate::http::schema;

/// What clients send back from an answer, and what nobody but the server decides.
const SERVER_MANAGED: [&str; 10] = [
    "id",
    "workspace_id",
    "organization_id",
    "site_identifier",
    "created_at",
    "updated_at",
    "tfa_email",
    "tfa_phone_number",
    "session_data_set_at",
    "effective_expires_at",
];

/// What a `POST` or a `PUT` says of an entry.
#[derive(ToSchema)]
struct EntryBody {
    /// Which entry, for a change; without it, the one of this user and domain.
    #[schema(value_type = Option<Uuid>)]
    id: Option<EntryId>,
    #[schema(min_length = 1, max_length = 512)]
    permissioned_user_id: Option<String>,
    /// The address of a site, with http or https. Compared exactly as it is given.
    #[schema(min_length = 1, max_length = 2048)]
    domain: Option<String>,
    #[schema(max_length = 512, value_type = Option<String>)]
    user_alias: Change<String>,
    /// Not AUTHENTICATOR for a bound entry, and not AUTHENTICATOR without `tfa_secret` for another.
    #[schema(value_type = Option<TfaMethodName>)]
    tfa_method: Change<TfaMethod>,
    /// Not with a binding.
    passkey: Option<bool>,
    /// The connection to bind to, together with `secret_ref`.
    #[schema(value_type = Option<Uuid>)]
    secret_provider_id: Change<ConnectionId>,
    /// The item to bind to, together with `secret_provider_id`.
    #[schema(min_length = 1, max_length = 2048, value_type = Option<String>)]
    secret_ref: Change<String>,
    /// The entry's own cache duration, with a binding; 0 is always live.
    #[schema(value_type = Option<u32>, maximum = 4294967295i64)]
    secret_cache_ttl_seconds: Change<i64>,
    /// Encrypted by the client; not with a binding.
    #[schema(max_length = 65536, value_type = Option<String>)]
    user_name: Change<String>,
    /// Encrypted by the client; not with a binding.
    #[schema(max_length = 65536, value_type = Option<String>)]
    password: Change<String>,
    /// The secret of an authenticator, encrypted by the client; not with a binding.
    #[schema(max_length = 65536, value_type = Option<String>)]
    tfa_secret: Change<String>,
    /// By their names beside the others; see `described`.
    #[schema(ignore)]
    attributes: AttributeChanges,
}

/// How the second factor arrives.
#[derive(ToSchema)]
#[schema(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(dead_code, reason = "it is there for the document; the broker has the type that is read")]
enum TfaMethodName {
    Authenticator,
    Email,
    Sms,
    MagicLink,
}

impl EntryBody {
    fn read(mut fields: Fields) -> Result<Self, ApiError> {
        let read = Self {
            permissioned_user_id: fields.text("permissioned_user_id")?,
            domain: fields.text("domain")?,
            id: fields.id("id")?,
            user_alias: fields.change("user_alias", Fields::text)?,
            tfa_method: fields.change("tfa_method", Fields::word)?,
            passkey: fields.flag("passkey")?,
            secret_provider_id: fields.change("secret_provider_id", Fields::id)?,
            secret_ref: fields.change("secret_ref", Fields::text)?,
            secret_cache_ttl_seconds: fields.change("secret_cache_ttl_seconds", Fields::whole_number)?,
            user_name: fields.change("user_name", Fields::text)?,
            password: fields.change("password", Fields::text)?,
            tfa_secret: fields.change("tfa_secret", Fields::text)?,
            attributes: attributes(&mut fields)?,
        };
        fields.ignore(&SERVER_MANAGED);
        fields.finish()?;
        Ok(read)
    }

    /// With the attributes, what clients send back although only the server decides it, and what must be there.
    fn described(ignored: &[&str], required: &[&str]) -> RefOr<Schema> {
        let mut schema = Self::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.properties.extend(schema::attributes().map(|(name, schema)| (name.to_owned(), schema)));
            for name in ignored {
                let anything = ObjectBuilder::new().read_only(true).description(Some("Ignored when it is sent"));
                let anything = anything.schema_type(SchemaType::AnyValue).build();
                object.properties.insert((*name).to_owned(), RefOr::T(Schema::Object(anything)));
            }
            object.required = required.iter().map(ToString::to_string).collect();
            object.example = Some(json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com"}));
        }
        schema
    }
}

/// The body of a `POST`.
pub(super) struct NewEntryBody;

impl PartialSchema for NewEntryBody {
    fn schema() -> RefOr<Schema> {
        EntryBody::described(&SERVER_MANAGED, &["permissioned_user_id", "domain"])
    }
}

impl ToSchema for NewEntryBody {
    fn name() -> Cow<'static, str> {
        "NewVaultEntry".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        EntryBody::schemas(schemas);
    }
}

/// The body of a `PUT`.
pub(super) struct EntryChangesBody;

impl PartialSchema for EntryChangesBody {
    fn schema() -> RefOr<Schema> {
        // A change may name the entry by its id.
        let ignored = SERVER_MANAGED.strip_prefix(&["id"]).unwrap_or(&SERVER_MANAGED);
        schema::named(EntryBody::described(ignored, &[]))
    }
}

impl ToSchema for EntryChangesBody {
    fn name() -> Cow<'static, str> {
        "VaultEntryChanges".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        EntryBody::schemas(schemas);
    }
}

/// The entry that a `POST` describes. An `id` in it is one that was sent back.
pub(super) fn new_entry(mut fields: Fields) -> Result<NewEntry, ApiError> {
    fields.ignore(&["id"]);
    let body = EntryBody::read(fields)?;
    let required = |name, value: Option<String>| {
        value.ok_or_else(|| ApiError::invalid(format!("{name} is required and must be a string")))
    };
    Ok(NewEntry {
        permissioned_user_id: required("permissioned_user_id", body.permissioned_user_id)?,
        domain: required("domain", body.domain)?,
        user_alias: set(body.user_alias),
        tfa_method: set(body.tfa_method),
        passkey: body.passkey.unwrap_or_default(),
        secret_provider_id: set(body.secret_provider_id),
        secret_ref: set(body.secret_ref),
        secret_cache_ttl_seconds: set(body.secret_cache_ttl_seconds),
        user_name: set(body.user_name),
        password: set(body.password),
        tfa_secret: set(body.tfa_secret),
        attributes: body.attributes,
    })
}

/// Of a new entry, what is cleared is not there.
fn set<T>(change: Change<T>) -> Option<T> {
    match change {
        Change::Set(value) => Some(value),
        Change::Keep | Change::Clear => None,
    }
}

/// Which entry a `PUT` changes, and how. With an `id` that counts, and another pair of user and domain renames the entry.
pub(super) fn changes(fields: Fields) -> Result<(EntrySelector, EntryChanges), ApiError> {
    let body = EntryBody::read(fields)?;
    let mut changes = EntryChanges {
        user_alias: body.user_alias,
        tfa_method: body.tfa_method,
        passkey: body.passkey,
        secret_provider_id: body.secret_provider_id,
        secret_ref: body.secret_ref,
        secret_cache_ttl_seconds: body.secret_cache_ttl_seconds,
        user_name: body.user_name,
        password: body.password,
        tfa_secret: body.tfa_secret,
        attributes: body.attributes,
        ..EntryChanges::default()
    };
    let (user, domain) = (body.permissioned_user_id, body.domain);
    let selector = match body.id {
        Some(id) => {
            (changes.permissioned_user_id, changes.domain) = (user, domain);
            EntrySelector::Id(id)
        }
        None => pair(user, domain)?,
    };
    Ok((selector, changes))
}

/// Which entry is meant, by its id or by its user and domain. Other fields are allowed: a client that names an entry too precisely names it still.
#[derive(ToSchema)]
#[schema(example = json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com"}))]
struct Name {
    /// Counts alone if it is there.
    #[schema(value_type = Option<Uuid>)]
    id: Option<EntryId>,
    permissioned_user_id: Option<String>,
    domain: Option<String>,
}

/// The body that is a name.
pub(in crate::http) struct EntryName;

impl PartialSchema for EntryName {
    fn schema() -> RefOr<Schema> {
        schema::named(Name::schema())
    }
}

impl ToSchema for EntryName {
    fn name() -> Cow<'static, str> {
        "VaultEntryName".into()
    }
}

/// Which entry a body names, by `id` or by pair, and nothing else counts.
pub(super) fn named(mut fields: Fields) -> Result<EntrySelector, ApiError> {
    let name = Name {
        id: fields.id("id")?,
        permissioned_user_id: fields.text("permissioned_user_id")?,
        domain: fields.text("domain")?,
    };
    match name.id {
        Some(id) => Ok(EntrySelector::Id(id)),
        None => pair(name.permissioned_user_id, name.domain),
    }
}

/// Which entry the query asks for; `None` is all of them. Unknown parameters are nobody's business.
pub(super) fn queried(query: &str) -> Result<Option<EntrySelector>, ApiError> {
    let (mut user, mut domain) = (None, None);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let place = match &*name {
            "permissioned_user_id" => &mut user,
            "domain" => &mut domain,
            _ => continue,
        };
        if place.replace(value.into_owned()).is_some() {
            return Err(ApiError::invalid(format!("the parameter {name} occurs twice")));
        }
    }
    match (user, domain) {
        (None, None) => Ok(None),
        (Some(permissioned_user_id), Some(domain)) => Ok(Some(EntrySelector::Pair { permissioned_user_id, domain })),
        _ => Err(ApiError::invalid("permissioned_user_id and domain must be provided together")),
    }
}

fn pair(user: Option<String>, domain: Option<String>) -> Result<EntrySelector, ApiError> {
    match (user, domain) {
        (Some(permissioned_user_id), Some(domain)) => Ok(EntrySelector::Pair { permissioned_user_id, domain }),
        _ => Err(ApiError::invalid(
            "permissioned_user_id and domain are both required; they say which vault entry is meant",
        )),
    }
}

fn attributes(fields: &mut Fields) -> Result<AttributeChanges, ApiError> {
    let mut changes = AttributeChanges::new();
    for name in Attributes::names() {
        if let Some(json) = fields.raw(name) {
            let set = changes.set(name, &json);
            set.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, "VALIDATION_FAILED", error.to_string()))?;
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queried_pair(query: &str) -> Option<(String, String)> {
        match queried(query).unwrap() {
            Some(EntrySelector::Pair { permissioned_user_id, domain }) => Some((permissioned_user_id, domain)),
            _ => None,
        }
    }

    #[test]
    fn a_query_is_read_by_the_rules_of_forms() {
        let expected = Some(("a b&c".to_owned(), "https://acme.com".to_owned()));
        assert_eq!(queried_pair("permissioned_user_id=a+b%26c&domain=https%3A%2F%2Facme.com&other=1"), expected);
        assert_eq!(queried_pair(""), None);
    }

    #[test]
    fn one_parameter_without_the_other_is_refused() {
        for query in ["domain=https%3A%2F%2Facme.com", "permissioned_user_id=a", "domain=a&domain=b"] {
            assert!(queried(query).is_err(), "{query}");
        }
    }
}
