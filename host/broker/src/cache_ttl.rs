//! How long a resolved user name and password may be served from the cache.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A cache duration in whole seconds. With [`CacheTtl::OFF`] (0), every resolve calls the provider,
/// and nothing is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CacheTtl(u32);

impl CacheTtl {
    /// Always live.
    pub const OFF: Self = Self(0);
    /// Five minutes.
    pub const DEFAULT: Self = Self(300);
    /// One hour.
    pub const ONE_HOUR: Self = Self(3_600);
    /// 24 hours.
    pub const ONE_DAY: Self = Self(86_400);

    /// A duration of this many seconds.
    pub fn from_seconds(seconds: u32) -> Self {
        Self(seconds)
    }

    /// In seconds.
    pub fn seconds(self) -> u32 {
        self.0
    }

    /// As a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }

    /// Whether every resolve calls the provider.
    pub fn is_off(self) -> bool {
        self == Self::OFF
    }
}

impl Default for CacheTtl {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for CacheTtl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_off() { f.write_str("off") } else { write!(f, "{} s", self.0) }
    }
}
