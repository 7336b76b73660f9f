//! Calling providers to renew their durable state, at the time that they named, also when nothing
//! else uses the connection.
//!
//! **Invariants**
//!
//! * *One call for one time.* Each is claimed in the database for [`ATTEMPT_TIME`] before it is
//!   made: of several hosts, one calls. To let them all call and the versions decide would be too
//!   late, because a server that sees a refresh token twice takes it for stolen. A host that ends
//!   in the middle leaves a claim that runs out.
//! * *A failed call loses nothing.* The state stays as it is, and the call is repeated after a
//!   pause that doubles from [`FIRST_WAIT`] to [`LONGEST_WAIT`], or that the provider asks for.
//!   There is no last attempt: each may be the one that saves a person from entering the settings
//!   again.
//!
//! The calls pass budget and breaker like all others, may use what is kept for writing, and are
//! recorded as changes of the broker's own.
//!
//! **How it can fail:** what a provider does with its state in other calls is its own affair. Two
//! hosts whose calls both find an expired token at the same moment both renew it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use keyway_audit::{Operation, Trail};
use keyway_budget::{LONGEST_WAIT as LONGEST_ASKED, ProviderOperation, after, back_off, draw};
use keyway_clock::CLOCK_TOLERANCE;
use keyway_storage::ConnectionStateRecord;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::background::{at_most, every};
use crate::connections::Connections;
use crate::error::BrokerError;

/// How often to look. One read of an index that is empty nearly always.
const INTERVAL: Duration = Duration::from_secs(5);

/// A call takes 30 seconds at most, and may wait for its turn.
const ATTEMPT_TIME: Duration = Duration::from_secs(150);

/// Between the first attempt and the second, at most.
const FIRST_WAIT: Duration = Duration::from_secs(30);

/// Between attempts, unless the provider asks for more: a token that has been idle for days has an
/// hour.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// How many calls are made at the same time, and how many states are taken at once.
const AT_A_TIME: usize = 8;
const BATCH: u32 = 256;

/// Begins to look for states to renew.
pub(crate) fn start(tasks: &mut JoinSet<()>, connections: Weak<Connections>) {
    every(INTERVAL, tasks, connections, |connections| async move {
        if let Err(error) = connections.refresh_due().await {
            warn!(%error, "looking for durable states to renew failed");
        }
    });
}

impl Connections {
    /// Calls the providers whose durable state is to be renewed by now, in all workspaces, and
    /// returns how many times it tried. An open broker does this by itself every few seconds,
    /// unless it was told not to
    /// ([`BrokerBuilder::background_work`](crate::BrokerBuilder::background_work)).
    ///
    /// # Errors
    /// Those of the database. A call that fails is logged, and made again later.
    pub async fn refresh_due(self: &Arc<Self>) -> Result<usize, BrokerError> {
        let now = self.core.timestamp();
        let future = now.checked_add(CLOCK_TOLERANCE).unwrap_or(now);
        let due = self.core.storage.connection_states_to_refresh(now, future, BATCH).await?;
        let mut made = 0;
        let renew = |state| {
            let connections = self.clone();
            async move { connections.refresh(state).await }
        };
        at_most(AT_A_TIME, due.into_iter().map(renew), |ended| match ended {
            Ok(Ok(called)) => made += usize::from(called),
            Ok(Err(error)) => warn!(%error, "a durable state could not be renewed"),
            Err(error) => warn!(%error, "the renewal of a durable state ended without a result"),
        })
        .await;
        Ok(made)
    }

    /// Renews one state. Returns whether it tried: another host may have been first.
    async fn refresh(&self, due: ConnectionStateRecord) -> Result<bool, BrokerError> {
        let attempts = due.refresh_attempts.saturating_add(1);
        let claimed = self.put_off(&due, Some(ATTEMPT_TIME), attempts).await?;
        let Some(claimed) = claimed else { return Ok(false) };
        let connection = claimed.connection_id;
        let error = match self.try_refresh(&claimed).await {
            Ok(called) => {
                // A provider that stored nothing has named no other time.
                self.put_off(&claimed, None, 0).await?;
                if called {
                    debug!(%connection, "durable state renewed");
                }
                return Ok(called);
            }
            Err(error) => error,
        };
        let asked = error.retry_after().unwrap_or_default().min(LONGEST_ASKED);
        let wait = back_off(FIRST_WAIT, LONGEST_WAIT, attempts, draw()).max(asked);
        match self.put_off(&claimed, Some(wait), attempts).await? {
            Some(put_off) => {
                let next = put_off.refresh_at.map(tracing::field::display);
                warn!(%connection, attempts, %error, next, "a provider could not renew its durable state; it is called again");
            }
            None => {
                info!(%connection, %error, "a provider could not renew its durable state, which was changed meanwhile")
            }
        }
        Ok(true)
    }

    /// Calls the provider, if it still wants to be called.
    async fn try_refresh(&self, state: &ConnectionStateRecord) -> Result<bool, BrokerError> {
        let connection = self.record(state.workspace_id, state.connection_id).await?;
        let opened = self.open(&connection).await?;
        if !opened.description().interfaces.refresh {
            return Ok(false);
        }
        let refresh = ProviderOperation::Refresh;
        let call = opened.call(refresh, (), |provider, connection, ()| Box::pin(provider.refresh(connection)));
        let refresh = async { Ok(call.await?) };
        let trail = Trail::connection(state.connection_id);
        self.core.audited_of_its_own(state.workspace_id, Operation::RefreshConnection, &trail, refresh).await?;
        Ok(true)
    }

    /// Says when a state is to be renewed next, unless it has changed since it was read.
    async fn put_off(
        &self,
        read: &ConnectionStateRecord,
        wait: Option<Duration>,
        attempts: u32,
    ) -> Result<Option<ConnectionStateRecord>, BrokerError> {
        let now = self.core.timestamp();
        let changed = ConnectionStateRecord {
            refresh_at: wait.map(|wait| after(now, wait)),
            refresh_attempts: attempts,
            updated_at: now,
            ..read.clone()
        };
        Ok(self.core.storage.put_off_refresh(read, &changed).await?.then_some(changed))
    }
}
