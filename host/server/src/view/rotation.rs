//! A password rotation as clients and scripts see it. The new password is not in it.

use jiff::Timestamp;
use keyway::rotations::{Rotation, RotationState};
use keyway::{ConnectionId, EntryId, RotationId, WorkspaceId};
use utoipa::ToSchema;

use super::view;
use super::words::words;

view! {
    /// A rotation as clients see it.
    #[derive(ToSchema)]
    #[schema(as = Rotation)]
    pub(crate) struct RotationView of rotation: Rotation {
        #[schema(value_type = Uuid)]
        id: RotationId = rotation.id,
        #[schema(value_type = Uuid)]
        workspace_id: WorkspaceId = rotation.workspace_id,
        #[schema(value_type = Uuid)]
        entry_id: EntryId = rotation.entry_id,
        /// The connection of the item; `null` for an entry with credentials of its own.
        #[schema(value_type = Option<Uuid>, required)]
        secret_provider_id: Option<ConnectionId> = rotation.connection_id,
        /// The item.
        #[schema(required)]
        secret_ref: Option<String> = rotation.reference,
        #[schema(value_type = StateName)]
        state: &'static str = rotation.state.name(),
        /// The reason for the state, as a word.
        #[schema(required)]
        reason: Option<String> = rotation.reason,
        /// The reason, as a sentence.
        #[schema(required)]
        message: Option<String> = rotation.message,
        /// How many write-backs were attempted.
        attempts: u32 = rotation.attempts,
        /// When the host makes the next attempt.
        #[schema(required)]
        next_attempt_at: Option<Timestamp> = rotation.next_attempt_at,
        created_at: Timestamp = rotation.created_at,
        updated_at: Timestamp = rotation.updated_at,
    }
}

words! {
    /// The names of the states.
    struct StateName: RotationState::ALL.map(RotationState::name);
}
