//! How many requests a server allows.

use serde::{Deserialize, Serialize};

use super::attribute::Attribute;

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
