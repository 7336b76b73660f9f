//! The contract in Rust: what goes into a call and what comes out of it.
//!
//! These types mirror `wit/provider.wit`, whose documentation is the authority on formats and units, but stay the same for every
//! version of the contract. What is secret is a [`SecretString`]: wiped when dropped, `[REDACTED]` when printed.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// A provider in its own words (`describe`). Everything here is public.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Description {
    /// What connections of this kind are called in data, for example `1password`.
    pub provider_type: String,
    /// What people call it, for example `1Password`.
    pub display_name: String,
    /// The provider's own version.
    pub version: String,
    /// The scheme of its references without `://`, for example `op`.
    pub reference_scheme: String,
    /// How a reference looks, for people.
    pub reference_format: String,
    /// What a person must enter to connect, in the order to ask for it.
    pub settings: Vec<SettingSpec>,
    /// Where it needs to connect to.
    pub destinations: Vec<Destination>,
    /// What it can do beyond `verify` and `resolve`.
    pub capabilities: Capabilities,
    /// Anything else worth knowing, by name.
    pub attributes: Vec<Attribute>,
}

/// One thing to ask a person for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SettingSpec {
    /// Unique among the provider's settings, for example `token`.
    pub name: String,
    /// For a form.
    pub label: String,
    /// A sentence about where to find it; may be empty.
    pub help: String,
    /// Whether the value is a secret.
    pub secret: bool,
    /// Whether connecting without it is refused.
    pub required: bool,
    /// A regular expression for the whole value.
    pub pattern: Option<String>,
    /// The value when it is left empty.
    pub default: Option<String>,
}

/// A network destination as the provider declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Destination {
    /// `scheme://host[:port]`, where the host may begin with `*.`.
    Fixed(String),
    /// The URL or host name in the setting of this name.
    FromSetting(String),
}

/// What a provider can do beyond `verify` and `resolve`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// `list-items`.
    pub list_items: bool,
    /// `write` and `check-write-access`.
    pub write: bool,
    /// `resolve` can return one-time codes.
    pub one_time_codes: bool,
}

/// A name and a value that are not in the contract yet. Never secret.
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

    /// The same settings and one more.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.set(name, value);
        self
    }

    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&SecretString> {
        self.0.get(name)
    }

    /// All settings in the order of their names.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Verified {
    /// Who they belong to, for people; may be empty.
    pub account: String,
    /// How many vaults can be read.
    pub vault_count: u32,
    /// How many of them can be written to; `None` when the server does not say.
    pub writable_vault_count: Option<u32>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// A page of items (`list-items`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ItemPage {
    /// The items; may be empty although a next page exists.
    pub items: Vec<Item>,
    /// What to pass for the next page; `None` on the last.
    pub next: Option<String>,
}

/// An item, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Item {
    /// The item's own id.
    pub id: String,
    /// What people call it.
    pub title: String,
    /// The id of the vault that holds it.
    pub vault_id: String,
    /// What people call that vault.
    pub vault_name: String,
    /// What to pass to `resolve`.
    pub reference: String,
    /// What kind of item it is, for example `login`.
    pub category: String,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// Which fields to resolve.
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
    /// User name and password: what a cache may hold.
    pub const CREDENTIALS: Self = Self { username: true, password: true, one_time_code: false };
    /// Only the one-time code.
    pub const ONE_TIME_CODE: Self = Self { username: false, password: false, one_time_code: true };
}

/// What an item holds now (`resolve`). A field that was not asked for or that the item lacks is `None`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Resolved {
    /// The user name.
    pub username: Option<SecretString>,
    /// The password.
    pub password: Option<SecretString>,
    /// The one-time code that is good now.
    pub one_time_code: Option<OneTimeCode>,
    /// Which state of the item this is: opaque, not secret.
    pub revision: String,
}

/// A one-time code. It can neither be cloned nor serialised, so that nothing can keep it by accident.
#[derive(Debug)]
#[non_exhaustive]
pub struct OneTimeCode {
    /// 6 to 8 digits.
    pub code: SecretString,
    /// The first second (since 1970) at which it is no longer current.
    pub expires_at: u64,
    /// For how many seconds each code is current.
    pub period_seconds: u32,
}

/// New values for an item (`write`). `None` leaves a field as it is.
#[derive(Debug, Default)]
pub struct Changes {
    /// The user name.
    pub username: Option<SecretString>,
    /// The password.
    pub password: Option<SecretString>,
}

/// Whether an item can be written (`check-write-access`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteAccess {
    /// As far as the server says, yes.
    Granted,
    /// No, with the reason for a person.
    Denied(String),
}
