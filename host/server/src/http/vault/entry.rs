//! A vault entry in this API. Both its serialization and its schema come from [`FIELDS`] and the
//! attributes' table.
//!
//! Credentials and a custom proxy's address are written as the received ciphertext. A bound entry
//! shows none, because resolved values never appear in an entry. Attributes are written as the
//! exact text received. The command line hides whatever may grant access, unless told to reveal it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use keyway::entries::{Credentials, TfaMethod, VaultEntry};
use serde::ser::{Error, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use utoipa::ToSchema;
use utoipa::openapi::Ref;
use uuid::Uuid;

use super::{attributes, expiry};
use crate::http::schema::{described, schema};

/// Writes an entry with all its fields; `null` for those that are unset or hidden.
pub(crate) struct Entry {
    pub(crate) entry: VaultEntry,
    /// Whether to omit credentials, and attributes that may grant access.
    pub(crate) hides: bool,
}

/// The value of a field.
#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Flag(bool),
    Number(u32),
    Text(Cow<'a, str>),
    Id(Uuid),
    Time(Timestamp),
}

impl<'a> Value<'a> {
    fn text(text: &'a Option<String>) -> Option<Self> {
        text.as_deref().map(|text| Self::Text(text.into()))
    }
}

/// A schema.
type Shape = fn() -> Json;

/// Name, schema and value.
type Field = (&'static str, Shape, fn(&Entry) -> Option<Value<'_>>);

/// All fields except the attributes.
const FIELDS: [Field; 21] = [
    ("id", ID, |it| Some(Value::Id(it.entry.id.as_uuid()))),
    ("workspace_id", ID, |it| Some(Value::Id(it.entry.workspace_id.as_uuid()))),
    // Keyway has no level above workspaces.
    ("organization_id", MAYBE_TEXT, |_| None),
    ("permissioned_user_id", TEXT, |it| Some(Value::Text((&it.entry.user).into()))),
    ("domain", TEXT, |it| Some(Value::Text((&it.entry.domain).into()))),
    ("site_identifier", MAYBE_TEXT, |it| Some(Value::Text(site_of(&it.entry.domain)?.into()))),
    ("user_alias", MAYBE_TEXT, |it| Value::text(&it.entry.alias)),
    ("user_name", CIPHERTEXT, |it| Value::text(&it.own()?.user_name)),
    ("password", CIPHERTEXT, |it| Value::text(&it.own()?.password)),
    ("tfa_secret", CIPHERTEXT, |it| Value::text(&it.own()?.tfa_secret)),
    ("tfa_method", METHOD, |it| Some(Value::Text(it.entry.tfa_method?.name().into()))),
    // This server has no inbox and no telephone.
    ("tfa_email", MAYBE_TEXT, |_| None),
    ("tfa_phone_number", MAYBE_TEXT, |_| None),
    ("passkey", || json!({"type": "boolean"}), |it| Some(Value::Flag(it.entry.passkey))),
    ("secret_provider_id", MAYBE_ID, |it| Some(Value::Id(it.entry.binding()?.connection_id.as_uuid()))),
    ("secret_ref", MAYBE_TEXT, |it| Some(Value::Text((&it.entry.binding()?.reference).into()))),
    ("secret_cache_ttl_seconds", DURATION, |it| Some(Value::Number(it.entry.binding()?.cache_ttl?.seconds()))),
    ("session_data_set_at", MAYBE_TIME, |it| it.entry.session_data_set_at.map(Value::Time)),
    ("effective_expires_at", MAYBE_TIME, |it| expiry::effective(&it.entry).map(Value::Time)),
    ("created_at", TIME, |it| Some(Value::Time(it.entry.created_at))),
    ("updated_at", TIME, |it| Some(Value::Time(it.entry.updated_at))),
];

const ID: Shape = || json!({"type": "string", "format": "uuid"});
const MAYBE_ID: Shape = || json!({"type": ["string", "null"], "format": "uuid"});
const TIME: Shape = || json!({"type": "string", "format": "date-time"});
const MAYBE_TIME: Shape = || json!({"type": ["string", "null"], "format": "date-time"});
const TEXT: Shape = || json!({"type": "string"});
const MAYBE_TEXT: Shape = || json!({"type": ["string", "null"]});
const CIPHERTEXT: Shape = || json!({"type": ["string", "null"], "description": "As encrypted by the client"});
const METHOD: Shape = || {
    let names: Vec<_> = TfaMethod::ALL.map(|method| Some(method.name())).into_iter().chain([None]).collect();
    json!({"type": ["string", "null"], "enum": names})
};
const DURATION: Shape = || {
    let about = "The entry's own cache duration; null uses the connection's";
    json!({"type": ["integer", "null"], "description": about, "minimum": 0, "maximum": u32::MAX})
};

/// The names of all fields except the attributes.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FIELDS.into_iter().map(|(name, ..)| name)
}

impl From<VaultEntry> for Entry {
    fn from(entry: VaultEntry) -> Self {
        Self { entry, hides: false }
    }
}

impl Entry {
    /// The names of fields that are set but hidden.
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

/// The entry's own credentials, and which of them are set.
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

described!(Entry as "VaultEntry": {
    let about = "A vault entry. Unset fields are null; a bound entry has no credentials.";
    let fields = FIELDS.into_iter().map(|(name, schema, _)| (name, schema()));
    let properties: BTreeMap<_, _> = fields.chain(attributes::schemas()).collect();
    // All fields are present.
    let required: Vec<_> = properties.keys().collect();
    schema(json!({"type": "object", "description": about, "required": required, "properties": properties}))
});

/// One entry, or all of them.
pub(super) struct Entries;

described!(Entries as "VaultEntries": {
    let entry = Ref::from_schema_name(Entry::name());
    schema(json!({"oneOf": [entry, {"type": "array", "items": entry}]}))
});
