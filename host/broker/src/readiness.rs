//! Whether the broker can do its work now: for a load balancer that wants to know whom to send
//! requests to.
//!
//! **Invariant:** ready means tried a moment ago: the database has answered a query, its master key
//! is one that the host has or finds, the audit log has shown that it can append, every component
//! of the provider folder is loaded, perhaps in the state before its last one, and not all are
//! missing that connections need.
//!
//! Whoever asks often, or may not ask at all, costs little: what was found counts for `FRESH`,
//! and there is one look at a time.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::connections::Connections;
use crate::core::Core;
use keyway_keys::KeyError;

/// For how long what was found counts.
const FRESH: Duration = Duration::from_secs(1);

/// How long the database and the audit log may take to show that they are well.
const PATIENCE: Duration = Duration::from_secs(2);

/// Something without which the broker cannot do its work. It may be again by itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotReady {
    /// The database.
    #[error("the database does not answer")]
    Database,
    /// The database's master key, which is another one than the host has.
    #[error("the master key was replaced, and the new one is not where this host was told to find it")]
    MasterKey,
    /// The audit log.
    #[error("the audit log cannot be written")]
    Audit,
    /// Of the provider types that there are connections of, none has a component: nothing can be
    /// resolved.
    #[error("no provider is installed that a connection needs")]
    NoProvider,
    /// A component of the provider folder.
    #[error("the provider component {file} is not loaded")]
    Provider {
        /// Its file.
        file: String,
    },
}

/// Whether the broker can do its work: see [`Broker::readiness`](crate::Broker::readiness).
pub struct Readiness {
    pub(crate) core: Arc<Core>,
    pub(crate) connections: Arc<Connections>,
    /// What was found last, and when.
    pub(crate) last: Mutex<Option<(Instant, Vec<NotReady>)>>,
}

impl Readiness {
    /// What keeps the broker from doing its work; nothing when it is ready. As of the last second;
    /// why it is so is in the log of the process, once.
    pub async fn check(&self) -> Vec<NotReady> {
        let mut last = self.last.lock().await;
        match &*last {
            Some((at, found)) if at.elapsed() < FRESH => return found.clone(),
            _ => {}
        }
        let before = last.take().map(|(_, found)| found).unwrap_or_default();
        let found = self.look(&before).await;
        if found.is_empty() && !before.is_empty() {
            tracing::info!("ready again");
        }
        *last = Some((Instant::now(), found.clone()));
        found
    }

    async fn look(&self, before: &[NotReady]) -> Vec<NotReady> {
        let database = async {
            let key = self.core.keyring.master_keys().current(&*self.core.storage, self.core.timestamp());
            match timeout(PATIENCE, key).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(KeyError::Storage(error))) => Err((NotReady::Database, error.to_string())),
                Ok(Err(error)) => Err((NotReady::MasterKey, error.to_string())),
                Err(_) => Err((NotReady::Database, format!("no answer within {} s", PATIENCE.as_secs()))),
            }
        };
        let audit = async {
            match timeout(PATIENCE, self.core.recorder.check()).await {
                Ok(checked) => checked.map_err(|error| (NotReady::Audit, error.to_string())),
                Err(_) => Err((NotReady::Audit, format!("no answer within {} s", PATIENCE.as_secs()))),
            }
        };
        // One that is missing beside others is not the whole host's concern: its connections may be
        // forgotten ones.
        let providers = async {
            // A database that does not answer is told above.
            let Ok(Ok(needed)) = timeout(PATIENCE, self.core.storage.provider_types()).await else { return Ok(()) };
            if needed.is_empty() || needed.iter().any(|needed| self.connections.providers.get(needed).is_some()) {
                return Ok(());
            }
            Err((NotReady::NoProvider, format!("there are connections of {}", needed.join(", "))))
        };
        let (database, audit, providers) = tokio::join!(database, audit, providers);
        let mut found = Vec::new();
        for (what, cause) in [database, audit, providers].into_iter().filter_map(Result::err) {
            if !before.contains(&what) {
                tracing::error!(cause, "not ready: {what}");
            }
            found.push(what);
        }
        // Why they are not was said when they were refused.
        found.extend(self.connections.providers.unloaded_files().into_iter().map(|file| NotReady::Provider { file }));
        found
    }
}
