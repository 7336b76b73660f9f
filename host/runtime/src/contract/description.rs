//! What a provider says about itself.

use serde::{Deserialize, Serialize};

use super::attribute::Attribute;
use super::rate_limits::RateLimitTier;
use super::settings::{SettingGroup, SettingSpec};

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
