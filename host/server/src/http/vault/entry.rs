//! A vault entry in this API: what writes it and what describes it reads [`FIELDS`], and the attributes' table.
//!
//! Credentials and a custom proxy's address are written as the ciphertext that came; of a bound entry there are none, for no
//! such document has a resolved value. Attributes are written as the very text that came. The command line hides what may
//! let somebody in, unless it was asked for.

use jiff::Timestamp;
use keyway::{Credentials, TfaMethod, VaultEntry};
use serde::ser::{Error, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, Object, ObjectBuilder, OneOfBuilder, SchemaFormat, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use super::{attributes, expiry};
use crate::http::schema::{nullable, text};

/// Writes an entry, every field there is, `null` where it is not set or not to be shown.
pub(crate) struct Entry {
    pub(crate) entry: VaultEntry,
    hides: bool,
}

/// The value of a field.
#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Nothing,
    Flag(bool),
    Number(u32),
    Text(&'a str),
    Owned(String),
    Id(Uuid),
    Time(Timestamp),
}

impl<'a> Value<'a> {
    fn text(text: &'a Option<String>) -> Self {
        text.as_deref().map_or(Self::Nothing, Self::Text)
    }

    fn time(time: Option<Timestamp>) -> Self {
        time.map_or(Self::Nothing, Self::Time)
    }
}

/// Name, schema and value.
type Field = (&'static str, fn() -> Object, fn(&Entry) -> Value<'_>);

/// All fields but the attributes.
const FIELDS: [Field; 21] = [
    ("id", id, |it| Value::Id(it.entry.id.as_uuid())),
    ("workspace_id", id, |it| Value::Id(it.entry.workspace_id.as_uuid())),
    // Workspaces are all that there is.
    ("organization_id", maybe_text, |_| Value::Nothing),
    ("permissioned_user_id", || text().build(), |it| Value::Text(&it.entry.user)),
    ("domain", || text().build(), |it| Value::Text(&it.entry.domain)),
    ("site_identifier", maybe_text, |it| site_of(&it.entry.domain).map_or(Value::Nothing, Value::Owned)),
    ("user_alias", maybe_text, |it| Value::text(&it.entry.alias)),
    ("user_name", ciphertext, |it| it.own().map_or(Value::Nothing, |own| Value::text(&own.user_name))),
    ("password", ciphertext, |it| it.own().map_or(Value::Nothing, |own| Value::text(&own.password))),
    ("tfa_secret", ciphertext, |it| it.own().map_or(Value::Nothing, |own| Value::text(&own.tfa_secret))),
    ("tfa_method", method, |it| it.entry.tfa_method.map_or(Value::Nothing, |method| Value::Text(method.name()))),
    // There is no inbox and no telephone behind this server.
    ("tfa_email", maybe_text, |_| Value::Nothing),
    ("tfa_phone_number", maybe_text, |_| Value::Nothing),
    ("passkey", || ObjectBuilder::new().schema_type(Type::Boolean).build(), |it| Value::Flag(it.entry.passkey)),
    (
        "secret_provider_id",
        || nullable(formatted(KnownFormat::Uuid), Type::String),
        |it| it.entry.binding().map_or(Value::Nothing, |binding| Value::Id(binding.connection_id.as_uuid())),
    ),
    ("secret_ref", maybe_text, |it| {
        it.entry.binding().map_or(Value::Nothing, |binding| Value::Text(&binding.reference))
    }),
    ("secret_cache_ttl_seconds", duration, |it| {
        let ttl = it.entry.binding().and_then(|binding| binding.cache_ttl);
        ttl.map_or(Value::Nothing, |ttl| Value::Number(ttl.seconds()))
    }),
    ("session_data_set_at", maybe_time, |it| Value::time(it.entry.session_data_set_at)),
    ("effective_expires_at", maybe_time, |it| Value::time(expiry::effective(&it.entry))),
    ("created_at", time, |it| Value::Time(it.entry.created_at)),
    ("updated_at", time, |it| Value::Time(it.entry.updated_at)),
];

fn formatted(format: KnownFormat) -> ObjectBuilder {
    text().format(Some(SchemaFormat::KnownFormat(format)))
}

fn id() -> Object {
    formatted(KnownFormat::Uuid).build()
}

fn time() -> Object {
    formatted(KnownFormat::DateTime).build()
}

fn maybe_time() -> Object {
    nullable(formatted(KnownFormat::DateTime), Type::String)
}

fn maybe_text() -> Object {
    nullable(text(), Type::String)
}

fn ciphertext() -> Object {
    nullable(text().description(Some("As the client has encrypted it")), Type::String)
}

fn method() -> Object {
    let names = TfaMethod::ALL.map(|method| serde_json::Value::from(method.name()));
    nullable(text().enum_values(Some(names.into_iter().chain([serde_json::Value::Null]))), Type::String)
}

fn duration() -> Object {
    let number = ObjectBuilder::new().description(Some("Its own cache duration; the connection's when null"));
    nullable(number.minimum(Some(0)).maximum(Some(u32::MAX)), Type::Integer)
}

/// The names of all fields but the attributes.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FIELDS.into_iter().map(|(name, ..)| name)
}

impl From<VaultEntry> for Entry {
    fn from(entry: VaultEntry) -> Self {
        Self { entry, hides: false }
    }
}

impl Entry {
    /// Without credentials, and without the attributes that may let somebody in.
    pub(crate) fn hiding(entry: VaultEntry) -> Self {
        Self { entry, hides: true }
    }

    /// What is set and not shown.
    pub(crate) fn hidden(&self) -> Vec<&'static str> {
        let attributes = attributes::names().filter(|name| attributes::is_secret(name));
        let mut attributes: Vec<_> = attributes.filter(|name| self.entry.attributes.get(name).is_some()).collect();
        attributes.sort_unstable();
        if self.hides { [own_credentials(&self.entry), attributes].concat() } else { Vec::new() }
    }

    /// The credentials to be shown.
    fn own(&self) -> Option<&Credentials> {
        self.entry.own_credentials().filter(|_| !self.hides)
    }
}

/// Which credentials of its own an entry has.
pub(crate) fn own_credentials(entry: &VaultEntry) -> Vec<&'static str> {
    let own = entry.own_credentials().into_iter().flat_map(Credentials::fields);
    own.filter(|(_, value)| value.is_some()).map(|(name, _)| name).collect()
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, _, value) in FIELDS {
            map.serialize_entry(name, &value(self))?;
        }
        for name in attributes::names() {
            let json = self.entry.attributes.get(name).filter(|_| !self.hides || !attributes::is_secret(name));
            let json = json.map(serde_json::from_str::<&RawValue>).transpose();
            map.serialize_entry(name, &json.map_err(S::Error::custom)?)?;
        }
        map.end()
    }
}

/// The site's name.
fn site_of(domain: &str) -> Option<String> {
    url::Url::parse(domain).ok()?.host_str().map(str::to_owned)
}

impl PartialSchema for Entry {
    fn schema() -> RefOr<Schema> {
        let about = "A vault entry. What is not set is null; of a bound one there are no credentials.";
        let entry = ObjectBuilder::new().description(Some(about));
        let entry = FIELDS.into_iter().fold(entry, |entry, (name, schema, _)| entry.property(name, schema()));
        let mut entry = attributes::schemas().fold(entry, |entry, (name, schema)| entry.property(name, schema)).build();
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
