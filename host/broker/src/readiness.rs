//! Whether the broker can do its work now, for a load balancer that distributes requests.
//!
//! **Invariant:** ready means checked a moment ago. The database has answered a query, its master
//! key is one that the host has or finds, it has stored a row, and no operation has met a damaged
//! one lately. The audit log has shown that it can append. The clock was not set back. Every
//! component of the provider folder is loaded, perhaps in its previous version, and at least one of
//! those that connections need is there.
//!
//! Frequent and unauthenticated checks cost little: a result is used for `FRESH`, one check runs at
//! a time, and a row is written only every few seconds.
//!
//! How it can fail: damage that no operation meets is not seen. Looking for it would mean reading
//! the whole database.

use std::sync::Arc;
use std::time::Duration;

use keyway_clock::{CLOCK_TOLERANCE, Moment};
use keyway_storage::{BreakerRecord, StorageError};
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::connections::Connections;
use crate::core::Core;
use keyway_keys::KeyError;

/// How long a result is used.
const FRESH: Duration = Duration::from_secs(1);

/// How often a row is written to find out whether the database can be. Less than a page every few
/// seconds, and sooner than any load balancer gives a host up.
const WRITES: Duration = Duration::from_secs(5);

/// How long damage that an operation has met makes the host unready: until an operator has had time
/// to look, and no longer than a few checks when it was a single one.
const DAMAGE_KEPT: Duration = Duration::from_secs(60);

/// After how long a clock that was set back is taken for a clock that was put right.
const SET_BACK_KEPT: Duration = Duration::from_secs(10 * 60);

/// The row that is written: that of a token that no connection has.
const NO_TOKEN: [u8; 16] = [0; 16];

/// How long the database and the audit log may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A reason why the broker cannot do its work. It may be temporary.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotReady {
    /// The database does not answer.
    #[error("the database does not answer")]
    Database,
    /// The database cannot be written: the disk is full or read-only, or another process keeps it
    /// locked.
    #[error("the database cannot be written")]
    Writes,
    /// The database failed an operation a moment ago: its file is damaged, or its disk.
    #[error("the database failed an operation")]
    Damaged,
    /// The clock was set back.
    #[error("the clock was set back by {} minutes", .by.as_secs() / 60)]
    Clock {
        /// By how much.
        by: Duration,
    },
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
    pub(crate) last: Mutex<Last>,
}

/// What the last checks have found.
pub(crate) struct Last {
    /// The last result, and when it was found.
    found: Option<(Instant, Vec<NotReady>)>,
    /// The last write: when, and why it failed.
    write: Option<(Instant, Result<(), String>)>,
    /// When the clock was right, as far as is known.
    right: Moment,
    /// Since when the clock has been behind.
    behind: Option<Moment>,
}

impl Last {
    pub(crate) fn new(now: Moment) -> Self {
        Self { found: None, write: None, right: now, behind: None }
    }
}

impl Readiness {
    /// The reasons why the broker cannot do its work; empty when it is ready. The result is up to a
    /// second old. The process logs the cause of each once.
    pub async fn check(&self) -> Vec<NotReady> {
        let last = &mut *self.last.lock().await;
        match &last.found {
            Some((at, found)) if at.elapsed() < FRESH => return found.clone(),
            _ => {}
        }
        let before = last.found.take().map(|(_, found)| found).unwrap_or_default();
        let found = self.look(last, &before).await;
        if found.is_empty() && !before.is_empty() {
            tracing::info!("ready again");
        }
        last.found = Some((Instant::now(), found.clone()));
        found
    }

    /// What an operator should look at although the broker can do its work: a clock that differs
    /// from those of secret managers, and an audit log of which a part is missing. The clock does
    /// not make the host unready, because a secret manager may be the one that is wrong, and a
    /// tenant may have chosen it; the log does not, because refusing to record would stop every
    /// release.
    pub fn warnings(&self) -> Vec<String> {
        self.connections.runtime.clock_warning().into_iter().chain(self.core.recorder.sink().warning()).collect()
    }

    /// Whether the clock was set back, until that counts as put right.
    fn clock(&self, last: &mut Last) -> Result<(), (NotReady, String)> {
        let now = self.core.now();
        let by = now.set_back_since(last.right);
        if by <= CLOCK_TOLERANCE {
            (last.right, last.behind) = (now, None);
            return Ok(());
        }
        if now.since(*last.behind.get_or_insert(now)) >= SET_BACK_KEPT {
            (last.right, last.behind) = (now, None);
            return Ok(());
        }
        Err((NotReady::Clock { by }, "stored times are in the future, and one-time codes may be wrong".to_owned()))
    }

    /// Writes a row, unless that was done a moment ago.
    async fn write(&self, last: &mut Option<(Instant, Result<(), String>)>) -> Result<(), (NotReady, String)> {
        let result = match last.take() {
            Some((at, result)) if at.elapsed() < WRITES => {
                *last = Some((at, result.clone()));
                result
            }
            _ => {
                let written = match timeout(PATIENCE, self.write_row()).await {
                    Ok(written) => written.map_err(|error| error.to_string()),
                    Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
                };
                *last = Some((Instant::now(), written.clone()));
                written
            }
        };
        result.map_err(|cause| (NotReady::Writes, cause))
    }

    async fn write_row(&self) -> Result<(), StorageError> {
        let stored = self.core.storage.breaker(&NO_TOKEN).await?.map(|record| record.version);
        let record = BreakerRecord {
            subject: NO_TOKEN,
            failures: 0,
            pause: None,
            version: stored.map_or(1, |version| version + 1),
            updated_at: self.core.timestamp(),
        };
        // If another process was first, it has shown the same.
        self.core.storage.save_breaker(&record, stored).await.map(drop)
    }

    async fn look(&self, last: &mut Last, before: &[NotReady]) -> Vec<NotReady> {
        let clock = self.clock(last);
        let database = async {
            let key = self.core.keyring.master_keys().current(&*self.core.storage, self.core.timestamp());
            match timeout(PATIENCE, key).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(KeyError::Storage(error))) if error.is_of_one_row() => {
                    Err((NotReady::Damaged, error.to_string()))
                }
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
            let needed = match timeout(PATIENCE, self.core.storage.provider_types()).await {
                Ok(Ok(needed)) => needed,
                Ok(Err(error)) => return Err((NotReady::Database, error.to_string())),
                // A database that does not answer is reported above.
                Err(_) => return Ok(()),
            };
            if needed.is_empty() || needed.iter().any(|needed| self.connections.providers.get(needed).is_some()) {
                return Ok(());
            }
            Err((NotReady::NoProvider, format!("there are connections of {}", needed.join(", "))))
        };
        let (database, writes, audit, providers) =
            tokio::join!(database, self.write(&mut last.write), audit, providers);
        let damage = match self.core.damage.lately(self.core.now(), DAMAGE_KEPT) {
            Some(cause) => Err((NotReady::Damaged, cause)),
            None => Ok(()),
        };
        let mut found = Vec::new();
        for (what, cause) in [database, writes, damage, audit, clock, providers].into_iter().filter_map(Result::err) {
            if found.contains(&what) {
                continue;
            }
            if !before.iter().any(|known| std::mem::discriminant(known) == std::mem::discriminant(&what)) {
                tracing::error!(cause, "not ready: {what}");
            }
            found.push(what);
        }
        // The cause was logged when they were refused.
        found.extend(self.connections.providers.unloaded_files().into_iter().map(|file| NotReady::Provider { file }));
        found
    }
}
