//! Budgets and breakers.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::StorageError;
use crate::names::names;

names! {
    /// Which requests are counted together.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum RequestKind {
        /// The reads of a token.
        Read = "read",
        /// The writes of a token.
        Write = "write",
        /// All requests of an account.
        Any = "any",
    }
}

/// Requests that are about to be made. They are counted first, so that no later failure can lose
/// them; requests that were not made are returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestReservation {
    /// Fingerprint of the token or account.
    pub subject: [u8; 16],
    /// Which counter.
    pub kind: RequestKind,
    /// The start of the slot in which they are counted.
    pub slot: Timestamp,
    /// The first slot that counts towards the limit.
    pub counted_from: Timestamp,
    /// Counts in slots before this one are dropped. It lies long before the first slot that counts:
    /// a clock that runs ahead for a while must not drop counts that matter again once it is
    /// corrected.
    pub kept_from: Timestamp,
    /// Counts in slots after this one were made before the clock was set back. They move to `slot`.
    pub future: Timestamp,
    /// How many requests to reserve.
    pub requests: u32,
    /// The limit of all requests together; `None` reserves without a limit.
    pub limit: Option<u32>,
    /// A slot, and how many of its reserved requests were not made and never will be.
    pub returned: Option<(Timestamp, u32)>,
}

/// What was reserved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedRequests {
    /// How many requests were reserved: fewer than wanted, or none, when the limit is near.
    pub granted: u32,
    /// All slots that count, including this reservation, in ascending order.
    pub counts: Vec<RequestCount>,
}

/// How many requests were reserved in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestCount {
    /// When the slot began.
    pub slot: Timestamp,
    /// How many.
    pub requests: u32,
}

/// The breaker of a token that has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerRecord {
    /// Fingerprint of the token.
    pub subject: [u8; 16],
    /// Failures in a row.
    pub failures: u32,
    /// The current pause.
    pub pause: Option<PauseRecord>,
    /// The row's version.
    pub version: u64,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A time in which a token is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PauseRecord {
    /// Why.
    pub reason: PauseReason,
    /// When it ends. During a probe: when the right to probe expires.
    pub until: Timestamp,
    /// How many pauses in a row had that reason.
    pub strikes: u32,
    /// Whether a probe is in flight.
    pub probing: bool,
}

names! {
    /// Why a token is paused.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum PauseReason {
        /// The secret manager is out of order.
        Unavailable = "unavailable",
        /// It asked to wait.
        RateLimited = "rate-limited",
        /// It does not accept the credentials.
        Refused = "refused",
    }
}

/// Counted requests, and breakers.
#[async_trait]
pub trait BudgetStorage: Send + Sync + 'static {
    /// Reserves as many requests as the limit still allows; see [`RequestReservation`]. Drops
    /// counts that are too old to matter.
    async fn reserve_requests(&self, reservation: &RequestReservation) -> Result<ReservedRequests, StorageError>;

    /// The counts of a subject's slots from `from` on, in ascending order.
    async fn request_counts(
        &self,
        subject: &[u8; 16],
        kind: RequestKind,
        from: Timestamp,
    ) -> Result<Vec<RequestCount>, StorageError>;

    /// A token's breaker; `None` when it has never failed.
    async fn breaker(&self, subject: &[u8; 16]) -> Result<Option<BreakerRecord>, StorageError>;

    /// Stores a breaker in place of the one at version `expected`; `None` expects that there is
    /// none. Returns whether it did: another host may have been first.
    async fn save_breaker(&self, breaker: &BreakerRecord, expected: Option<u64>) -> Result<bool, StorageError>;

    /// Drops counts of slots before this time, and breakers last changed before it.
    async fn forget_budgets(&self, before: Timestamp) -> Result<(), StorageError>;
}
