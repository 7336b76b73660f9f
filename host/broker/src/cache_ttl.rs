//! For how long a resolved user name and password may be used again.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A cache duration in whole seconds. [`CacheTtl::OFF`] (0) means that every resolve asks the
/// provider, and nothing is written.
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

    /// A duration of that many seconds.
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

    /// Whether every resolve asks the provider.
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
