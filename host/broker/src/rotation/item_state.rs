//! What rotations say about an item, as it is kept in memory.

use keyway_storage::RotationRecord;

/// What a resolve has to know about an item besides its entry and connection.
pub(crate) struct ItemState {
    /// Greater after each time that what was cached of it counts no more.
    pub(crate) generation: u64,
    /// The rotation whose password the site has and the item has not, if there is one.
    pub(super) ahead: Option<RotationRecord>,
}
