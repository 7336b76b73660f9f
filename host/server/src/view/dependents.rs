//! The entries that stand in the way of deleting a connection, as data.

use keyway::EntryId;
use keyway::connections::{DependentEntries, DependentEntry};
use serde::Serialize;
use utoipa::ToSchema;

/// The first of them, and how many there are in all.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Dependents<'a> {
    total: u64,
    entries: Vec<Dependent<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Dependent<'a> {
    #[schema(value_type = uuid::Uuid)]
    id: EntryId,
    permissioned_user_id: &'a str,
    domain: &'a str,
    user_alias: Option<&'a str>,
}

impl<'a> From<&'a DependentEntries> for Dependents<'a> {
    fn from(dependents: &'a DependentEntries) -> Self {
        let dependent = |entry: &'a DependentEntry| Dependent {
            id: entry.id,
            permissioned_user_id: &entry.user,
            domain: &entry.domain,
            user_alias: entry.alias.as_deref(),
        };
        Self { total: dependents.total, entries: dependents.entries.iter().map(dependent).collect() }
    }
}
