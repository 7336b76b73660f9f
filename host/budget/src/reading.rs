//! What is left of a budget, for people, clients and metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use keyway_storage::{PauseReason, RequestKind, StorageError};

use crate::guard::Guard;
use crate::guards::Guards;
use crate::limits::{BudgetScope, Counter};

/// How many requests a rolling period allows, and how many were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Allowance {
    /// Which requests count together.
    pub scope: BudgetScope,
    /// Which requests.
    pub requests: RequestKind,
    /// How many the secret manager allows; `None` when no limit is known.
    pub limit: Option<u32>,
    /// How many were made in the period up to now.
    pub used: u32,
    /// The length of the period.
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

    fn new(of: Counter, used: u32) -> Self {
        Self { scope: of.scope, requests: of.requests, limit: of.limit, used, period: of.window }
    }
}

/// A pause in the use of a connection's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pause {
    /// The reason for the pause.
    pub reason: PauseReason,
    /// When the next attempt may be made.
    pub until: Timestamp,
}

/// What a connection may still request from its secret manager. It shares this with every
/// connection that has the same credentials, and the account's part with every connection to the
/// same account.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budget {
    /// Identifies the credentials without revealing them: a keyed fingerprint in hexadecimal
    /// digits, used as a label in metrics.
    pub credentials: String,
    /// Those of the credentials, then those of the account, if it is known. Requests without a
    /// known limit are counted over an hour or a day.
    pub allowances: Vec<Allowance>,
    /// Present while the connection is paused.
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
    /// What is left, from memory: as far as this process knows.
    pub budget: Budget,
}

impl Guard {
    /// What is left, from the database.
    ///
    /// # Errors
    /// The database's.
    pub async fn budget(&self) -> Result<Budget, StorageError> {
        let mut budget = self.empty_budget();
        for meter in self.meters() {
            budget.allowances.push(Allowance::new(meter.of, meter.read().await?));
        }
        Ok(budget)
    }

    fn empty_budget(&self) -> Budget {
        let pause = self.breaker.resting().map(|(reason, until)| Pause { reason, until });
        Budget { credentials: HEXLOWER.encode(&self.breaker.subject), allowances: Vec::new(), pause }
    }
}

impl Guards {
    /// The budgets of all credentials in use, from memory, for metrics. If connections with the
    /// same credentials have chosen different tiers, the lower limit is shown.
    pub fn budgets(&self) -> Vec<TokenBudget> {
        let mut all: BTreeMap<_, TokenBudget> = BTreeMap::new();
        for guard in self.all() {
            let provider_type = guard.provider_type().to_owned();
            let of = all
                .entry((provider_type.clone(), guard.breaker.subject))
                .or_insert_with(|| TokenBudget { provider_type, budget: guard.empty_budget() });
            let allowances = &mut of.budget.allowances;
            for meter in guard.meters() {
                let new = Allowance::new(meter.of, meter.read_now());
                let same = |old: &&mut Allowance| {
                    (old.scope, old.requests, old.period) == (new.scope, new.requests, new.period)
                };
                match allowances.iter_mut().find(same) {
                    Some(old) if old.limit.is_some_and(|limit| new.limit.is_none_or(|new| limit <= new)) => {}
                    Some(old) => *old = new,
                    None => allowances.push(new),
                }
            }
        }
        all.into_values().collect()
    }
}
