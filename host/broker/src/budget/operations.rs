//! What is left, for people, clients and metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use keyway_audit::{Operation, Trail};
use keyway_storage::{ConnectionId, PauseReason, RequestKind};

use super::meter::Reading;
use super::{BudgetScope, Guard};
use crate::access::Access;
use crate::broker::Broker;
use crate::error::BrokerError;

/// How many requests there are in a rolling period, and how many of them were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Allowance {
    /// For whom they are counted.
    pub scope: BudgetScope,
    /// Which requests.
    pub requests: RequestKind,
    /// How many the secret manager allows; `None` when no limit is known.
    pub limit: Option<u32>,
    /// How many were made in the period that ends now.
    pub used: u32,
    /// How long the period is.
    pub period: Duration,
}

impl Allowance {
    /// The contract's name for the requests: `reads`, `writes` or `all`.
    pub fn requests_name(&self) -> &'static str {
        match self.requests {
            RequestKind::Read => "reads",
            RequestKind::Write => "writes",
            RequestKind::Any => "all",
        }
    }

    /// How many are left; `None` when no limit is known.
    pub fn remaining(&self) -> Option<u32> {
        self.limit.map(|limit| limit.saturating_sub(self.used))
    }
}

impl From<Reading> for Allowance {
    fn from(reading: Reading) -> Self {
        let Reading { of, used } = reading;
        Self { scope: of.scope, requests: of.requests, limit: of.limit, used, period: of.window }
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

/// What a connection may still ask of its secret manager. It shares this with every connection that
/// has the same credentials, and the account's part with every connection to the same account.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budget {
    /// Of the credentials and then of the account, before it is known which one it is without the
    /// latter. What no limit is known for has a period of an hour or a day.
    pub allowances: Vec<Allowance>,
    /// Present while the connection is not used at all.
    pub pause: Option<Pause>,
}

impl Budget {
    /// The first allowance for these requests and this scope.
    pub fn allowance(&self, scope: BudgetScope, requests: RequestKind) -> Option<Allowance> {
        self.allowances.iter().copied().find(|of| (of.scope, of.requests) == (scope, requests))
    }
}

/// The budget of one set of credentials, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenBudget {
    /// The provider's type.
    pub provider_type: String,
    /// Tells the credentials apart, and nothing about them: a keyed fingerprint in hexadecimal
    /// digits.
    pub token: String,
    /// What is left, as far as this process knows without asking the database.
    pub budget: Budget,
}

impl Broker {
    /// What a connection may still ask of its secret manager. Costs the secret manager nothing.
    /// Needs [`Scope::Api`](crate::Scope::Api): whoever makes requests may know how many are left.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`], [`BrokerError::ProviderNotInstalled`].
    pub async fn budget(&self, access: &Access, id: ConnectionId) -> Result<Budget, BrokerError> {
        let read = async {
            let record = self.connection_record(access.workspace(), id).await?;
            let opened = self.open(&record).await?;
            let guard = opened.guard();
            let mut allowances = Vec::new();
            for meter in guard.meters() {
                allowances.push(meter.read().await?.into());
            }
            Ok(Budget { allowances, pause: pause_of(guard) })
        };
        self.audited(access, Operation::Budget, &Trail::connection(id), read).await
    }

    /// Asks the database what other processes have used, which [`budgets`](Self::budgets), and the
    /// metrics, are else behind with; at most every 5 seconds. What cannot be read stays as it was.
    pub async fn refresh_budgets(&self) {
        self.guards().refresh_readings().await;
    }

    /// The budgets of all credentials that are in use, from memory, for metrics. Where connections
    /// with the same credentials have chosen different tiers, the lower limit is shown.
    pub fn budgets(&self) -> Vec<TokenBudget> {
        let mut all: BTreeMap<(String, String), Budget> = BTreeMap::new();
        for guard in self.guards().all() {
            let key = (guard.provider_type.clone(), HEXLOWER.encode(guard.subject()));
            let budget = all.entry(key).or_insert_with(|| Budget { allowances: Vec::new(), pause: pause_of(&guard) });
            for meter in guard.meters() {
                let new = Allowance::from(meter.read_now());
                let same = |old: &&mut Allowance| {
                    (old.scope, old.requests, old.period) == (new.scope, new.requests, new.period)
                };
                match budget.allowances.iter_mut().find(same) {
                    Some(old) if old.limit.is_some_and(|limit| new.limit.is_none_or(|new| limit <= new)) => {}
                    Some(old) => *old = new,
                    None => budget.allowances.push(new),
                }
            }
        }
        let named = |((provider_type, token), budget)| TokenBudget { provider_type, token, budget };
        all.into_iter().map(named).collect()
    }
}

fn pause_of(guard: &Guard) -> Option<Pause> {
    guard.resting().map(|(reason, until)| Pause { reason, until })
}
