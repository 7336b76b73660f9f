//! A vault entry in the document.

use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, SchemaFormat, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::http::schema::{attributes, nullable, text};
use crate::view::entry::Entry;

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
