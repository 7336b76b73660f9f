//! Settings for server behaviour that is not publicly known (protocol notes, section 15).
//!
//! The defaults are the most likely or the strictest behaviour. A client should work with every
//! setting, so tests vary them.

use serde::{Deserialize, Serialize};

/// How the server behaves where the real behaviour is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Which counters in request signatures are accepted.
    pub counters: CounterRule,
    /// What is required of throttling tokens, for accounts that have a throttling key.
    pub throttling: ThrottlingRule,
    /// The answer to a change in a read-only vault.
    pub read_only_write: DeniedWrite,
    /// The HTTP status for a vault that the account cannot see, or that does not exist: 403 or 404.
    pub hidden_vault_status: u16,
    /// The HTTP status for an item that does not exist: 404, or 400 as before 2025.
    pub missing_item_status: u16,
    /// The most items in a listing; the rest is left out and `batchComplete` is false. `None`: no
    /// limit.
    pub batch_size: Option<usize>,
    /// Whether the account's keysets include one that the account cannot open.
    pub foreign_keyset: bool,
}

/// Which counters in request signatures are accepted, within one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CounterRule {
    /// Each at most once, in any order.
    Unique,
    /// Each greater than all before. Parallel requests of a correct client may break this rule.
    Ascending,
    /// Any.
    Unchecked,
}

/// What is required of throttling tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThrottlingRule {
    /// One must be present, with a valid signature, and be valid now.
    Required,
    /// One must be present, with a valid signature; for clients that use another clock.
    Untimed,
    /// Nothing.
    Ignored,
}

/// The answer to a change in a read-only vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeniedWrite {
    /// HTTP 403.
    Forbidden,
    /// HTTP 200, and every item fails with code 101.
    FailedItems,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            counters: CounterRule::Unique,
            throttling: ThrottlingRule::Required,
            read_only_write: DeniedWrite::Forbidden,
            hidden_vault_status: 404,
            missing_item_status: 404,
            batch_size: None,
            foreign_keyset: false,
        }
    }
}
