//! Whether the broker can do its work now, for a load balancer that distributes requests.
//!
//! **Invariant:** ready means checked a moment ago. The database has answered a query, and its
//! master key is one that the host has or finds. The audit log has shown that it can append. Every
//! component of the provider folder is loaded, perhaps in its previous version, and at least one of
//! those that connections need is there.
//!
//! Frequent and unauthenticated checks cost little: a result is used for `FRESH`, and one check
//! runs at a time.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::connections::Connections;
use crate::core::Core;
use keyway_keys::KeyError;

/// How long a result is used.
const FRESH: Duration = Duration::from_secs(1);

/// How long the database and the audit log may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A reason why the broker cannot do its work. It may be temporary.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotReady {
    /// The database does not answer.
    #[error("the database does not answer")]
    Database,
    /// The database's master key is not one that the host has.
    #[error("the master key was replaced, and this host cannot find the new one at its configured place")]
    MasterKey,
    /// The master key was replaced, and the key service that has the new one cannot be reached.
    #[error("the key service that has the database's master key cannot be reached")]
    KeyService,
    /// The audit log cannot be written.
    #[error("the audit log cannot be written")]
    Audit,
    /// Connections exist, but no component for any of their provider types: no bound entry can be
    /// resolved.
    #[error("no provider of any connection is installed")]
    NoProvider,
    /// A component of the provider folder is not loaded.
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
    /// The last result, and when it was found.
    pub(crate) last: Mutex<Option<(Instant, Vec<NotReady>)>>,
}

impl Readiness {
    /// The reasons why the broker cannot do its work; empty when it is ready. The result is up to a
    /// second old. The process logs the cause of each once.
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
                Ok(Err(error @ KeyError::Service(_))) => Err((NotReady::KeyService, error.to_string())),
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
        // A missing provider beside installed ones does not make the host unready: its connections
        // may be abandoned.
        let providers = async {
            // A database that does not answer is reported above.
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
        // The cause was logged when they were refused.
        found.extend(self.connections.providers.unloaded_files().into_iter().map(|file| NotReady::Provider { file }));
        found
    }
}
