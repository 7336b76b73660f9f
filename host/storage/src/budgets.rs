//! Budgets and breakers.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::StorageError;
use crate::names::names;

names! {
    /// Which requests are counted together.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum RequestKind {
        /// Those of a token that read.
        Read = "read",
        /// Those of a token that write.
        Write = "write",
        /// All of an account.
        Any = "any",
    }
}

/// Requests that are about to be made. They are counted before, so that nothing that happens
/// afterwards can forget them, and those that were not made after all are returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestReservation {
    /// Fingerprint of the token or account.
    pub subject: [u8; 16],
    /// Which count.
    pub kind: RequestKind,
    /// When the slot began in which they are counted.
    pub slot: Timestamp,
    /// The first slot that counts towards the limit.
    pub counted_from: Timestamp,
    /// What was counted in an earlier slot than this is forgotten. Long before the first that
    /// counts, so that a clock that is ahead for a while makes nobody forget what counts again when
    /// it is right.
    pub kept_from: Timestamp,
    /// What is counted in a later slot than this was counted before the clock was set back: it
    /// counts in `slot` from now on.
    pub future: Timestamp,
    /// How many are wanted.
    pub requests: u32,
    /// How many there may be altogether; `None` counts them whatever there is.
    pub limit: Option<u32>,
    /// A slot, and how many of those reserved in it were not made and never will be.
    pub returned: Option<(Timestamp, u32)>,
}

/// What was reserved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedRequests {
    /// How many; fewer than were wanted, or none, when the limit is near.
    pub granted: u32,
    /// All slots that count, what was just reserved included, in ascending order.
    pub counts: Vec<RequestCount>,
}

/// How many requests were reserved in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestCount {
    /// When it began.
    pub slot: Timestamp,
    /// How many.
    pub requests: u32,
}

/// What is known of a token that has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerRecord {
    /// Fingerprint of the token.
    pub subject: [u8; 16],
    /// Failures in a row.
    pub failures: u32,
    /// The rest that it is given.
    pub pause: Option<PauseRecord>,
    /// The row's version.
    pub version: u64,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A time in which a token is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PauseRecord {
    /// Why.
    pub reason: PauseReason,
    /// Until when. While somebody probes: when that right ends.
    pub until: Timestamp,
    /// How many pauses in a row for that reason.
    pub strikes: u32,
    /// Whether somebody is probing.
    pub probing: bool,
}

names! {
    /// Why a token is not used.
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

/// Requests that were counted, and breakers.
#[async_trait]
pub trait BudgetStorage: Send + Sync + 'static {
    /// Reserves requests, as many as there are left below the limit; see [`RequestReservation`].
    /// Counts that are too old to matter are dropped.
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

    /// Stores a breaker in place of the one of version `expected`, or as the first when there is
    /// none expected. Returns whether it did: another host may have been first.
    async fn save_breaker(&self, breaker: &BreakerRecord, expected: Option<u64>) -> Result<bool, StorageError>;

    /// Drops counts of slots, and breakers last changed, before this time.
    async fn forget_budgets(&self, before: Timestamp) -> Result<(), StorageError>;
}
