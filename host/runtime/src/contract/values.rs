//! Which values of an item are asked for, and what comes back.

use secrecy::{SecretSlice, SecretString};
use serde::{Deserialize, Serialize};

use super::attribute::Attribute;

/// A choice of the fields that every provider resolves. Exhaustive, because the contract has no
/// others: whatever else an item holds is a further field, see [`Selection`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Fields {
    /// The user name.
    pub username: bool,
    /// The password.
    pub password: bool,
    /// The current one-time code.
    pub one_time_code: bool,
}

impl Fields {
    /// User name, password and one-time code.
    pub const ALL: Self = Self { username: true, password: true, one_time_code: true };
    /// User name and password: the fields that a cache may hold.
    pub const CREDENTIALS: Self = Self { username: true, password: true, one_time_code: false };
    /// Only the one-time code.
    pub const ONE_TIME_CODE: Self = Self { username: false, password: false, one_time_code: true };
}

/// Which fields to resolve: a choice of the standard ones, and further ones by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Selection {
    /// The fields that every provider has.
    pub standard: Fields,
    /// Names of further fields, as [`FieldSpec::name`] gives them, each once.
    pub further: Vec<String>,
}

impl Selection {
    /// Sets the further fields.
    #[must_use]
    pub fn further(self, names: Vec<String>) -> Self {
        Self { further: names, ..self }
    }
}

impl From<Fields> for Selection {
    fn from(standard: Fields) -> Self {
        Self { standard, further: Vec::new() }
    }
}

/// The current values of an item (`resolve`). A field that was not requested or that the item lacks
/// is `None`.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Resolved {
    /// The user name.
    pub username: Option<SecretString>,
    /// The password.
    pub password: Option<SecretString>,
    /// The current one-time code, or why there is none; `Some` if it was requested.
    pub one_time_code: Option<Result<OneTimeCode, NoCode>>,
    /// The requested further fields that the item has.
    pub further: Vec<Field>,
    /// Identifies this state of the item: opaque, not secret.
    pub revision: String,
    /// The first second (since 1970) at which the values are no longer valid; `None` when the
    /// provider does not know.
    pub valid_until: Option<u64>,
    /// The lease under which the values were created for this call.
    pub lease: Option<Lease>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// A one-time code. It cannot be cloned or serialised, so that nothing keeps it by accident.
#[derive(Debug)]
#[non_exhaustive]
pub struct OneTimeCode {
    /// Usually 6 to 8 digits; 1 to 16 ASCII letters and digits.
    pub code: SecretString,
    /// The first second (since 1970) at which it is no longer current.
    pub expires_at: u64,
    /// How many seconds each code is current.
    pub period_seconds: u32,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

impl OneTimeCode {
    /// A code without attributes.
    pub fn new(code: impl Into<SecretString>, expires_at: u64, period_seconds: u32) -> Self {
        Self { code: code.into(), expires_at, period_seconds, attributes: Vec::new() }
    }
}

/// Why there is no one-time code.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoCode {
    /// The reason as a condition that code can match.
    pub reason: NoCodeReason,
    /// The reason as a message for a person.
    pub message: String,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

impl NoCode {
    /// A reason without attributes.
    pub fn new(reason: NoCodeReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), attributes: Vec::new() }
    }
}

/// The condition under which there is no one-time code.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoCodeReason {
    /// The item has no one-time password.
    Absent,
    /// Its one-time password is counter-based, not time-based.
    CounterBased,
    /// Its one-time password is malformed and yields no code.
    Malformed,
    /// Anything else, by name.
    Other(String),
}

impl NoCodeReason {
    /// The contract's name for it.
    pub fn name(&self) -> &str {
        match self {
            Self::Absent => "absent",
            Self::CounterBased => "counter-based",
            Self::Malformed => "malformed",
            Self::Other(name) => name,
        }
    }
}

/// A further field of an item, without its value (`list-fields`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct FieldSpec {
    /// The name to request from `resolve`.
    pub name: String,
    /// The label to show.
    pub label: String,
    /// The kind of the field.
    pub kind: FieldKind,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// The kind of a further field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FieldKind {
    /// Plain text.
    Text,
    /// A secret text.
    #[default]
    Secret,
    /// A URL.
    Url,
    /// A one-time password.
    OneTimePassword,
    /// Bytes.
    Binary,
    /// A kind that this host does not know; treated as secret.
    Other(String),
}

impl FieldKind {
    /// The contract's name for it.
    pub fn name(&self) -> &str {
        match self {
            Self::Text => "text",
            Self::Secret => "secret",
            Self::Url => "url",
            Self::OneTimePassword => "one-time-password",
            Self::Binary => "binary",
            Self::Other(name) => name,
        }
    }
}

/// A further field of an item.
#[derive(Debug)]
#[non_exhaustive]
pub struct Field {
    /// The requested name.
    pub name: String,
    /// The kind of the field.
    pub kind: FieldKind,
    /// The value of the field.
    pub value: FieldValue,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// The value of a further field. It cannot be cloned or serialised, and is wiped when dropped.
#[derive(Debug)]
#[non_exhaustive]
pub enum FieldValue {
    /// Of every kind but the following.
    Text(SecretString),
    /// Of kind [`FieldKind::Binary`].
    Binary(SecretSlice<u8>),
    /// Of kind [`FieldKind::OneTimePassword`].
    OneTimeCode(Result<OneTimeCode, NoCode>),
}

/// A server's promise to accept values until it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// The server's id for it.
    pub id: String,
    /// When it ends (seconds since 1970) unless it is renewed.
    pub expires_at: u64,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}
