//! What is left, for people, clients and metrics.

use std::time::Duration;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use keyway_audit::{Operation, Trail};
use keyway_storage::{ConnectionId, PauseReason};

use super::Guard;
use super::meter::Reading;
use crate::api_key::Access;
use crate::broker::Broker;
use crate::error::BrokerError;

/// How many requests there are in a rolling period, and how many of them were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Allowance {
    /// How many the secret manager allows; `None` when no limit is known.
    pub limit: Option<u32>,
    /// How many were made in the period that ends now.
    pub used: u32,
    /// How long the period is.
    pub period: Duration,
}

impl Allowance {
    /// How many are left; `None` when no limit is known.
    pub fn remaining(&self) -> Option<u32> {
        self.limit.map(|limit| limit.saturating_sub(self.used))
    }
}

impl From<Reading> for Allowance {
    fn from(reading: Reading) -> Self {
        Self { limit: reading.limit, used: reading.used, period: reading.period }
    }
}

/// A time in which a connection's credentials are not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pause {
    /// Why.
    pub reason: PauseReason,
    /// When the next attempt may be made.
    pub until: Timestamp,
}

/// What a connection may still ask of its secret manager. It shares this with every connection that has the same
/// credentials, and the account's part with every connection to the same account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budget {
    /// Requests with these credentials that read.
    pub token_reads: Allowance,
    /// Requests with these credentials that write.
    pub token_writes: Allowance,
    /// All requests to the account; `None` before it is known which account it is.
    pub account: Option<Allowance>,
    /// Present while the connection is not used at all.
    pub pause: Option<Pause>,
}

/// The budget of one set of credentials, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenBudget {
    /// The provider's type.
    pub provider_type: String,
    /// Tells the credentials apart, and nothing about them: a keyed fingerprint in hexadecimal digits.
    pub token: String,
    /// What is left, as far as this process knows without asking the database.
    pub budget: Budget,
}

impl Broker {
    /// What a connection may still ask of its secret manager. Costs the secret manager nothing. Needs [`Scope::Api`](crate::Scope::Api):
    /// whoever makes requests may know how many are left.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`], [`BrokerError::ProviderNotInstalled`].
    pub async fn budget(&self, access: &Access, id: ConnectionId) -> Result<Budget, BrokerError> {
        let read = async {
            let record = self.connection_record(access.workspace(), id).await?;
            let opened = self.open(&record).await?;
            let guard = opened.guard();
            Ok(Budget {
                token_reads: guard.reads.read().await?.into(),
                token_writes: guard.writes.read().await?.into(),
                account: match guard.account() {
                    Some(account) => Some(account.read().await?.into()),
                    None => None,
                },
                pause: pause_of(guard),
            })
        };
        self.audited(access, Operation::Budget, &Trail::connection(id), read).await
    }

    /// Asks the database what other processes have used, which [`budgets`](Self::budgets), and the metrics, are else behind
    /// with; at most every 5 seconds. What cannot be read stays as it was.
    pub async fn refresh_budgets(&self) {
        self.guards().refresh_readings().await;
    }

    /// The budgets of all credentials that are in use, from memory, for metrics.
    pub fn budgets(&self) -> Vec<TokenBudget> {
        let budget = |guard: &Guard| Budget {
            token_reads: guard.reads.read_now().into(),
            token_writes: guard.writes.read_now().into(),
            account: guard.account().map(|account| account.read_now().into()),
            pause: pause_of(guard),
        };
        let all = self.guards().all();
        let mut all: Vec<_> = all
            .iter()
            .map(|guard| TokenBudget {
                provider_type: guard.provider_type.clone(),
                token: HEXLOWER.encode(&guard.subject),
                budget: budget(guard),
            })
            .collect();
        all.sort_unstable_by(|a, b| (&a.provider_type, &a.token).cmp(&(&b.provider_type, &b.token)));
        all
    }
}

fn pause_of(guard: &Guard) -> Option<Pause> {
    guard.resting().map(|(reason, until)| Pause { reason, until })
}
