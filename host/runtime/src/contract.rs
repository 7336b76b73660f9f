//! The contract in Rust: what goes into a call and what comes out of it.
//!
//! These types mirror the WIT, whose documentation is the authority on formats and units, but stay
//! the same for every version of the contract. Secrets are [`SecretString`]s: wiped when dropped,
//! `[REDACTED]` when printed.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{SecretSlice, SecretString};
use serde::{Deserialize, Serialize};

/// How a provider describes itself (`describe`). Everything here is public.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Description {
    /// The machine-readable name of this kind of connection, for example `1password`.
    pub provider_type: String,
    /// The name to show, for example `1Password`.
    pub display_name: String,
    /// The provider's own version.
    pub version: String,
    /// The address of its documentation.
    pub documentation_url: Option<String>,
    /// The scheme of its references without `://`, for example `op`.
    pub reference_scheme: String,
    /// The format of a reference, to show to people.
    pub reference_format: String,
    /// What a person must enter to connect, in the order to ask for it.
    pub settings: Vec<SettingSpec>,
    /// Settings of which one set is needed.
    pub setting_groups: Vec<SettingGroup>,
    /// Where it needs to connect to: addresses that may have placeholders for settings, as the WIT
    /// describes them.
    pub destinations: Vec<String>,
    /// How many requests its server allows, by plan; the first is the default.
    pub rate_limits: Vec<RateLimitTier>,
    /// What it can do beyond `verify` and `resolve`.
    pub capabilities: Capabilities,
    /// The optional interfaces that it exports and this host knows.
    pub interfaces: Interfaces,
    /// Anything else worth knowing, by name.
    pub attributes: Vec<Attribute>,
}

/// One setting to ask a person for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SettingSpec {
    /// Unique among the provider's settings, for example `token`.
    pub name: String,
    /// The label in a form.
    pub label: String,
    /// A sentence about where to find it; may be empty.
    pub help: String,
    /// What can be entered.
    pub kind: SettingKind,
    /// Whether the value is a secret.
    pub secret: bool,
    /// Whether the setting must be present.
    pub required: bool,
    /// A regular expression that the whole value must match.
    pub pattern: Option<String>,
    /// The value used when the setting is empty.
    pub default: Option<String>,
    /// Anything else worth showing in the form.
    pub attributes: Vec<Attribute>,
}

/// What can be entered into a setting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SettingKind {
    /// One line.
    #[default]
    Text,
    /// Any number of lines.
    MultiLineText,
    /// A URL, or a host name.
    Url,
    /// One of these.
    Choice(Vec<ChoiceOption>),
    /// `true` or `false`.
    Boolean,
    /// A JSON document.
    Json,
    /// A kind that this host does not know; treated as text.
    Other(String),
}

/// One option of a choice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ChoiceOption {
    /// What the component receives.
    pub value: String,
    /// What a person sees.
    pub label: String,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// Settings of which exactly one set is needed, for example a token, or a role and its secret id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SettingGroup {
    /// The label in a form.
    pub label: String,
    /// The sets.
    pub alternatives: Vec<Alternative>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// One set of settings. A set that requires nothing applies when nothing is entered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Alternative {
    /// The label in a form.
    pub label: String,
    /// Names of the settings that it needs.
    pub required: Vec<String>,
    /// Names of the settings that may be omitted.
    pub optional: Vec<String>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

impl Alternative {
    /// The names of all its settings.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.required.iter().chain(&self.optional)
    }
}

/// How many requests a server allows under one of its plans.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct RateLimitTier {
    /// Unique among the provider's tiers, for example `business`.
    pub name: String,
    /// The name to show.
    pub label: String,
    /// The limits, which all apply at the same time.
    pub limits: Vec<RateLimit>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// How many requests a server allows in a window of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RateLimit {
    /// At least 1.
    pub max_requests: u32,
    /// The length of the window: 1 to 86,400.
    pub window_seconds: u32,
    /// Which requests count.
    pub requests: CountedRequests,
    /// Which requests count together.
    pub scope: LimitScope,
    /// Anything else worth showing.
    #[serde(default)]
    pub attributes: Vec<Attribute>,
}

impl RateLimit {
    /// A limit without attributes.
    pub fn new(max_requests: u32, window_seconds: u32, requests: CountedRequests, scope: LimitScope) -> Self {
        Self { max_requests, window_seconds, requests, scope, attributes: Vec::new() }
    }
}

/// Which requests a limit counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CountedRequests {
    /// Requests that change nothing.
    Reads,
    /// Requests that change something.
    Writes,
    /// Every request.
    All,
    /// A kind that this host does not know; counts every request.
    Other(String),
}

/// Which requests a limit counts together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LimitScope {
    /// Each credential separately.
    Credential,
    /// All credentials of an account together.
    Account,
    /// A scope that this host does not know; treated as the account.
    Other(String),
}

/// Which optional interfaces a component exports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Interfaces {
    /// `item-fields`: items have further fields.
    pub item_fields: bool,
    /// `leases`: values are created for each call.
    pub leases: bool,
    /// `refresh`: its durable state is renewed from time to time.
    pub refresh: bool,
}

/// What a provider can do beyond `verify` and `resolve`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Capabilities {
    /// `list-items`.
    pub list_items: bool,
    /// `write` and `check-write-access`.
    pub write: bool,
    /// `resolve` can return one-time codes.
    pub one_time_codes: bool,
    /// `write` is atomic: the server itself compares the revision and writes in one step.
    pub conditional_writes: bool,
}

/// A name and a value that the contract does not define yet. Never secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Lower case, words separated by `-`.
    pub name: String,
    /// Free text.
    pub value: String,
}

/// The settings of one connection by name. All values are treated as secrets.
#[derive(Clone, Default)]
// Clone: a connection keeps its settings while calls that were started with them finish.
pub struct Settings(BTreeMap<String, SecretString>);

impl Settings {
    /// No settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a setting or replaces it.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<SecretString>) {
        self.0.insert(name.into(), value.into());
    }

    /// The same settings plus this one.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.set(name, value);
        self
    }

    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&SecretString> {
        self.0.get(name)
    }

    /// All settings, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|name| (name, "[REDACTED]"))).finish()
    }
}

/// What the credentials of a connection can do (`verify`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Verified {
    /// The account that they belong to, to show to people; may be empty.
    pub account: String,
    /// The key by which the server counts requests; `None` when the provider cannot tell.
    pub account_key: Option<String>,
    /// How many vaults can be read; `None` where items are not grouped.
    pub vault_count: Option<u32>,
    /// How many of them can be written to; `None` when the server does not say.
    pub writable_vault_count: Option<u32>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// A page of items (`list-items`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ItemPage {
    /// The items; may be empty even if a next page exists.
    pub items: Vec<Item>,
    /// The token of the next page; `None` on the last.
    pub next: Option<String>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// An item, without its secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Item {
    /// The item's own id.
    pub id: String,
    /// The title to show.
    pub title: String,
    /// The id of the vault that holds it; `None` where items are not grouped.
    pub vault_id: Option<String>,
    /// The name of that vault, to show.
    pub vault_name: Option<String>,
    /// What to pass to `resolve`.
    pub reference: String,
    /// What kind of item it is, for example `login`.
    pub category: String,
    /// The addresses of the sites that it is for, the main one first.
    pub urls: Vec<String>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

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

/// New values for an item (`write`). `None` leaves a field as it is.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Changes {
    /// The user name.
    pub username: Option<SecretString>,
    /// The password.
    pub password: Option<SecretString>,
}

impl Changes {
    /// Changes the user name.
    #[must_use]
    pub fn username(self, username: impl Into<SecretString>) -> Self {
        Self { username: Some(username.into()), ..self }
    }

    /// Changes the password.
    #[must_use]
    pub fn password(self, password: impl Into<SecretString>) -> Self {
        Self { password: Some(password.into()), ..self }
    }
}

/// Whether an item can be written (`check-write-access`). Exhaustive, because there is nothing in
/// between: an answer that this host does not know is a denial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteAccess {
    /// Yes, as far as the server can say.
    Granted,
    /// No, with the reason for a person.
    Denied(String),
}
