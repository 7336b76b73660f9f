//! The entries that stand in the way of deleting a connection, as data.

use keyway::EntryId;
use keyway::connections::{DependentEntries, DependentEntry};
use utoipa::ToSchema;

use super::view;

view! {
    /// The first of them, and their total number.
    #[derive(Debug, Clone, ToSchema)]
    pub(crate) struct Dependents of dependents: DependentEntries {
        total: u64 = dependents.total,
        entries: Vec<Dependent> = dependents.entries.into_iter().map(Into::into).collect(),
    }
}

view! {
    #[derive(Debug, Clone, ToSchema)]
    pub(crate) struct Dependent of entry: DependentEntry {
        #[schema(value_type = uuid::Uuid)]
        id: EntryId = entry.id,
        permissioned_user_id: String = entry.user,
        domain: String = entry.domain,
        user_alias: Option<String> = entry.alias,
    }
}
