//! What a person enters to connect, and what a connection has of it.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::attribute::Attribute;

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
