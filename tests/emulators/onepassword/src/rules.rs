//! What the public knowledge about the service leaves open (protocol notes, section 15), as
//! settings.
//!
//! Each has the most likely or the strictest answer as its default. A client should work under
//! every one of them, so tests switch them.

use serde::{Deserialize, Serialize};

/// How the server behaves where nobody outside knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Which counters in request signatures are accepted.
    pub counters: CounterRule,
    /// What is asked of throttling tokens, for accounts that have a throttling key.
    pub throttling: ThrottlingRule,
    /// The answer to a change in a vault that may only be read.
    pub read_only_write: DeniedWrite,
    /// The HTTP status for a vault that the account cannot see, or that does not exist: 403 or 404.
    pub hidden_vault_status: u16,
    /// The HTTP status for an item that does not exist: 404, or 400 as it was until 2025.
    pub missing_item_status: u16,
    /// How many items a listing returns at most; the rest is left out and `batchComplete` is false.
    /// None: all of them.
    pub batch_size: Option<usize>,
    /// Whether the account's keysets include one that nobody can open.
    pub foreign_keyset: bool,
}

/// Which counters in request signatures are accepted, within one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CounterRule {
    /// Each at most once, in any order.
    Unique,
    /// Each greater than all before. Parallel requests of a correct client may break this.
    Ascending,
    /// Any.
    Unchecked,
}

/// What is asked of throttling tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThrottlingRule {
    /// There must be one, rightly signed, and its hour must be now.
    Required,
    /// There must be one, rightly signed; for clients that run under another clock.
    Untimed,
    /// Nothing.
    Ignored,
}

/// The answer to a change in a vault that may only be read.
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
