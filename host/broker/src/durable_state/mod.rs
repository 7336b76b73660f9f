//! Durable state: data that a provider keeps permanently, such as a refresh token that rotates with
//! each use.
//!
//! **Invariants**
//!
//! * *Stored state is durable.* A `put` returns after the database has committed it, and runs to
//!   its end even if the provider's call is cancelled.
//! * *No lost updates.* The database compares the version and replaces the state in one
//!   transaction, so two hosts on one database are as safe as two calls in one host.
//! * *A state belongs to the settings it was made with.* State that is stored while new settings
//!   are checked is kept in memory ([`keyway_runtime::store::MemoryStore`]). It is saved with them,
//!   in the transaction that deletes the state of the old settings. A call that still runs with the
//!   old settings gets `conflict`, and changes nothing.
//! * *A state opens in its place only:* it is sealed under the workspace's key for its connection,
//!   its version and its settings. A state that was altered, truncated, moved or put back is an
//!   error that names its connection and changes nothing; entering the settings again resolves it.
//!
//! [`refresh`] calls a provider at the time that it named for renewing its state.

mod refresh;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keyway_budget::after;
use keyway_keys::{EnvelopeError, Place};
use keyway_runtime::store::{StateStore, StoreError, StoredState};
use keyway_storage::{
    ConnectionId, ConnectionRecord, ConnectionStateRecord, Constraint, SealedColumn, StorageError, WorkspaceId,
};
use tracing::{error, warn};
use zeroize::Zeroizing;

use crate::codec::{self, CodecError};
use crate::core::{Core, timestamp_of};
use crate::error::{BrokerError, Thing};
use crate::keyring::{WorkspaceKeys, place};
use crate::request;

pub(crate) use refresh::start as start_refreshes;

/// Identifies the format of the record, so that it can change.
const FORM: &[u8] = b"state.1";

/// The shortest time from storing a state to renewing it, whatever time the provider names: one
/// that named the present would be called in an endless loop.
const LEAST_WAIT: Duration = Duration::from_secs(60);

/// The durable state of one connection, as its calls see it.
#[derive(Clone)]
pub(crate) struct DurableState {
    core: Arc<Core>,
    workspace: WorkspaceId,
    connection: ConnectionId,
    settings_version: u64,
}

impl DurableState {
    pub(crate) fn of(connection: &ConnectionRecord, core: Arc<Core>) -> Self {
        let ConnectionRecord { workspace_id: workspace, id, settings_version, .. } = *connection;
        Self { core, workspace, connection: id, settings_version }
    }

    fn place(&self, version: u64) -> Place<'_> {
        place(self.workspace, SealedColumn::ConnectionState, self.connection.as_bytes(), version)
    }

    /// Seals this state into a row.
    pub(crate) async fn seal(
        &self,
        keys: &WorkspaceKeys,
        state: &StoredState,
    ) -> Result<ConnectionStateRecord, BrokerError> {
        let now = self.core.now().timestamp();
        let settings_version = self.settings_version.to_be_bytes();
        let plaintext = codec::encode(&[Some(FORM), Some(&settings_version), Some(&state.data)]);
        let plaintext = plaintext.map_err(|_| EnvelopeError::TooLarge)?;
        Ok(ConnectionStateRecord {
            connection_id: self.connection,
            workspace_id: self.workspace,
            settings_version: self.settings_version,
            sealed_state: self.core.keyring.seal(keys, &self.place(state.version), &plaintext).await?,
            version: state.version,
            refresh_at: state.refresh_by.map(|by| timestamp_of(by).max(after(now, LEAST_WAIT))),
            refresh_attempts: 0,
            updated_at: now,
        })
    }

    async fn read(&self) -> Result<Option<StoredState>, Failure> {
        // Before the record is read, so that it opens.
        self.core.keyring.get(self.workspace).await?;
        let record = self.core.storage.connection_state(self.workspace, self.connection).await;
        let Some(record) = record.map_err(BrokerError::from)? else { return Ok(None) };
        let place = self.place(record.version);
        let opened = self.core.keyring.open_sealed(&place, &record.sealed_state, decode).await;
        let (settings_version, data) = opened.map_err(|error| match error {
            BrokerError::Envelope(damage) => Failure::Damaged(damage),
            error => Failure::Host(error),
        })?;
        if settings_version > self.settings_version {
            return Err(Failure::Store(StoreError::Outdated));
        } else if settings_version < self.settings_version {
            // A state of earlier settings, which was deleted with them, was put back.
            return Err(Failure::Damaged(EnvelopeError::NotAuthentic { place: place.name() }));
        }
        let refresh_by = record.refresh_at.and_then(|at| u64::try_from(at.as_second()).ok());
        Ok(Some(StoredState::new(data, record.version, refresh_by)))
    }

    async fn write(
        &self,
        data: Zeroizing<Vec<u8>>,
        expected: Option<u64>,
        refresh_by: Option<u64>,
    ) -> Result<u64, Failure> {
        let version = expected.unwrap_or(0).checked_add(1).ok_or(Failure::Store(StoreError::Conflict))?;
        let state = &StoredState::new(data, version, refresh_by);
        let put = |keys: Arc<WorkspaceKeys>| async move {
            let record = self.seal(&keys, state).await?;
            Ok(self.core.storage.put_connection_state(&record, expected).await?)
        };
        match self.core.keyring.with_current(self.workspace, put).await {
            Ok(true) => Ok(version),
            Ok(false) => Err(Failure::Store(StoreError::Conflict)),
            Err(BrokerError::Storage(StorageError::Conflict(Constraint::Reference))) => {
                Err(Failure::Store(StoreError::Outdated))
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[async_trait]
impl StateStore for DurableState {
    async fn get(&self) -> Result<Option<StoredState>, StoreError> {
        self.read().await.map_err(|failure| told(failure, self.connection))
    }

    async fn put(&self, data: &[u8], expected: Option<u64>, refresh_by: Option<u64>) -> Result<u64, StoreError> {
        let (state, data) = (self.clone(), Zeroizing::new(data.to_vec()));
        // Runs to its end even if the call is cancelled: the server may accept only this state
        // from now on.
        let write = request::spawn(async move { state.write(data, expected, refresh_by).await });
        let written = write.await.map_err(|error| Failure::from(BrokerError::Host(error.into())));
        written.and_then(|written| written).map_err(|failure| told(failure, self.connection))
    }
}

/// Why a state could not be read or stored.
enum Failure {
    /// For the provider to act on.
    Store(StoreError),
    /// It does not open; entering the settings again resolves this.
    Damaged(EnvelopeError),
    /// For the operator.
    Host(BrokerError),
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        Self::Host(error)
    }
}

/// The error for the provider; the details go to the log, for the operator.
fn told(failure: Failure, connection: ConnectionId) -> StoreError {
    match failure {
        Failure::Store(error) => error,
        Failure::Host(BrokerError::NotFound(Thing::Workspace)) => StoreError::Outdated,
        Failure::Damaged(damage) => {
            error!(%connection, %damage, "the durable state of a connection cannot be read; enter the connection's settings again to replace it");
            StoreError::Damaged(format!(
                "The durable state of the secret provider connection {connection} cannot be read. Enter the \
                 connection's settings again, which replaces it. ({damage})"
            ))
        }
        Failure::Host(error) => {
            warn!(%connection, %error, "the durable state of a connection could not be read or stored");
            StoreError::Unavailable
        }
    }
}

/// Reads the version of the settings that a state belongs to, and the state.
fn decode(plaintext: &[u8]) -> Result<(u64, Zeroizing<Vec<u8>>), CodecError> {
    let [Some(FORM), Some(version), Some(data)] = codec::decode(plaintext)?[..] else { return Err(CodecError) };
    let settings_version = u64::from_be_bytes(version.try_into().map_err(|_| CodecError)?);
    Ok((settings_version, Zeroizing::new(data.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_was_sealed_in_another_form_is_refused() {
        let version = 7_u64.to_be_bytes();
        let good = codec::encode(&[Some(FORM), Some(&version), Some(b"data")]).unwrap();
        assert_eq!(decode(&good), Ok((7, Zeroizing::new(b"data".to_vec()))));
        for bad in [
            &[Some(&b"state.2"[..]), Some(&version), Some(b"data")][..],
            &[Some(FORM), Some(b"7"), Some(b"data")],
            &[Some(FORM), Some(&version), None],
            &[Some(FORM), Some(&version), Some(b"data"), None],
        ] {
            assert!(decode(&codec::encode(bad).unwrap()).is_err());
        }
    }
}
