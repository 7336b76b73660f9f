//! The lease of an entry's values, as callers see it.

use jiff::Timestamp;
use keyway_runtime::contract::Attribute;

use crate::core::timestamp_of;

/// A secret manager's promise to accept values that it made for one call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntryLease {
    /// Identifies it at the secret manager. Not secret.
    pub id: String,
    /// When it ends unless it is renewed.
    pub expires_at: Timestamp,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

impl From<keyway_runtime::contract::Lease> for EntryLease {
    fn from(lease: keyway_runtime::contract::Lease) -> Self {
        let keyway_runtime::contract::Lease { id, expires_at, renewable, attributes, .. } = lease;
        Self { id, expires_at: timestamp_of(expires_at), renewable, attributes }
    }
}
