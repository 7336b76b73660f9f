//! A password rotation as clients and scripts see it. The new password is not in it.

use jiff::Timestamp;
use keyway::{ConnectionId, EntryId, Rotation, RotationId, RotationState, WorkspaceId};
use serde::Serialize;
use utoipa::ToSchema;

use super::words::words;

/// A rotation as clients see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Rotation)]
pub(crate) struct RotationView {
    #[schema(value_type = Uuid)]
    pub(crate) id: RotationId,
    #[schema(value_type = Uuid)]
    pub(crate) workspace_id: WorkspaceId,
    #[schema(value_type = Uuid)]
    pub(crate) entry_id: EntryId,
    /// The connection of the item; `null` for an entry with credentials of its own.
    #[schema(value_type = Option<Uuid>, required)]
    pub(crate) secret_provider_id: Option<ConnectionId>,
    /// The item.
    #[schema(required)]
    pub(crate) secret_ref: Option<String>,
    #[schema(value_type = StateName)]
    pub(crate) state: &'static str,
    /// Why it is in that state, as a word.
    #[schema(required)]
    pub(crate) reason: Option<String>,
    /// Why, as a sentence.
    #[schema(required)]
    pub(crate) message: Option<String>,
    /// How many write-backs were attempted.
    pub(crate) attempts: u32,
    /// When the host makes the next attempt.
    #[schema(required)]
    pub(crate) next_attempt_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

impl From<Rotation> for RotationView {
    fn from(rotation: Rotation) -> Self {
        Self {
            id: rotation.id,
            workspace_id: rotation.workspace_id,
            entry_id: rotation.entry_id,
            secret_provider_id: rotation.connection_id,
            secret_ref: rotation.reference,
            state: rotation.state.name(),
            reason: rotation.reason,
            message: rotation.message,
            attempts: rotation.attempts,
            next_attempt_at: rotation.next_attempt_at,
            created_at: rotation.created_at,
            updated_at: rotation.updated_at,
        }
    }
}

words! {
    /// The names of the states.
    struct StateName: RotationState::ALL.map(RotationState::name);
}
