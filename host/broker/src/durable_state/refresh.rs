//! Calling providers to renew their durable state, at the time that they named, even when nothing
//! else uses the connection.
//!
//! **Invariants**
//!
//! * *One call for one time.* Each call is claimed in the database for [`ATTEMPT_TIME`] before it
//!   is made, so only one of several hosts makes it. If all called and the versions decided, it
//!   would be too late: a server that sees a refresh token twice takes it for stolen. The claim of
//!   a host that ends in the middle expires.
//! * *A failed call loses nothing.* The state stays as it is, and the call is retried after a pause
//!   that doubles from [`FIRST_WAIT`] to [`LONGEST_WAIT`], or that the provider asks for. Retries
//!   never stop: each may save a person from entering the settings again.
//!
//! The calls pass budget and breaker like all others, may use the part of the budget that is
//! reserved for writing, and are recorded as the broker's own changes.
//!
//! **How it can fail:** the claim does not cover a provider's other calls. Two hosts whose calls
//! find an expired token at the same moment both renew it.

use std::sync::Weak;
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

/// How often to poll. A poll reads one index, which is nearly always empty.
const INTERVAL: Duration = Duration::from_secs(5);

/// A call takes at most 30 seconds, after its wait in the queue.
const ATTEMPT_TIME: Duration = Duration::from_secs(150);

/// The longest pause between the first attempt and the second.
const FIRST_WAIT: Duration = Duration::from_secs(30);

/// The longest pause between attempts, unless the provider asks for more: a token that was idle for
/// days can wait an hour.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// How many calls are made at the same time, and how many states a poll takes.
const AT_A_TIME: usize = 8;
const BATCH: u32 = 256;

/// Starts polling for states to renew.
pub(crate) fn start(tasks: &mut JoinSet<()>, connections: Weak<Connections>) {
    every(INTERVAL, tasks, connections, |connections| async move {
        if let Err(error) = connections.refresh_due().await {
            warn!(%error, "cannot look for durable states to renew");
        }
    });
}

impl Connections {
    /// Calls the providers whose durable state is due for renewal, in all workspaces, and returns
    /// the number of attempts. An open broker does this every few seconds, unless its background
    /// work is turned off
    /// ([`BrokerBuilder::background_work`](crate::BrokerBuilder::background_work)).
    ///
    /// # Errors
    /// Those of the database. A call that fails is logged and retried later.
    pub async fn refresh_due(&self) -> Result<usize, BrokerError> {
        self.core.ensure_open()?;
        let now = self.core.timestamp();
        let future = now.checked_add(CLOCK_TOLERANCE).unwrap_or(now);
        let due = self.core.storage.connection_states_to_refresh(now, future, BATCH).await?;
        let mut made = 0;
        let renew = |state| {
            let connections = self.me.upgrade();
            async move { connections.ok_or(BrokerError::Closed)?.refresh(state).await }
        };
        at_most(AT_A_TIME, due.into_iter().map(renew), |ended| match ended {
            Ok(Ok(called)) => made += usize::from(called),
            Ok(Err(error)) => warn!(%error, "a durable state could not be renewed"),
            Err(error) => warn!(%error, "the renewal of a durable state ended without a result"),
        })
        .await;
        Ok(made)
    }

    /// Renews one state. Returns whether it made an attempt: another host may have been first.
    async fn refresh(&self, due: ConnectionStateRecord) -> Result<bool, BrokerError> {
        let attempts = due.refresh_attempts.saturating_add(1);
        let claimed = self.put_off(&due, Some(ATTEMPT_TIME), attempts).await?;
        let Some(claimed) = claimed else { return Ok(false) };
        let connection = claimed.connection_id;
        let error = match self.try_refresh(&claimed).await {
            Ok(called) => {
                // A provider that stored nothing has named no new time.
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
                warn!(%connection, attempts, %error, next, "a provider could not renew its durable state; the host retries");
            }
            None => {
                info!(%connection, %error, "a provider could not renew its durable state, which was changed concurrently")
            }
        }
        Ok(true)
    }

    /// Calls the provider, if it still declares the renewal.
    async fn try_refresh(&self, state: &ConnectionStateRecord) -> Result<bool, BrokerError> {
        let connection = self.record(state.workspace_id, state.connection_id).await?;
        let opened = self.open(&connection).await?;
        if !opened.description().interfaces.refresh {
            return Ok(false);
        }
        let refresh = ProviderOperation::Refresh;
        let call = opened.call(refresh, (), |provider, connection, ()| Box::pin(provider.refresh(connection)));
        let trail = Trail::connection(state.connection_id);
        opened.note(&trail);
        let refresh = async {
            trail.begin().await?;
            Ok(call.await?)
        };
        self.core.audited_of_its_own(state.workspace_id, Operation::RefreshConnection, &trail, refresh).await?;
        Ok(true)
    }

    /// Sets when a state is renewed next, unless it has changed since it was read.
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
