//! Mounts and their engines.

use serde::{Deserialize, Serialize};

/// A mount of an engine that this provider reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    /// With a slash at its end, for example `secret/`.
    pub(crate) path: String,
    pub(crate) engine: Engine,
}

/// The kind of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Engine {
    /// Key and value without versions.
    Kv1,
    /// Key and value with versions.
    Kv2,
    /// One-time codes.
    Totp,
}
