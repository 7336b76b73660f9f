//! Writing a new password to its item.
//!
//! **Invariant:** a write-back overwrites only the password that was there when the rotation began.
//! The write names the revision that the item is expected at. If the provider refuses it because
//! the item is at another revision, the item is read. If it has the new password (the answer to an
//! earlier write was lost), the rotation is done. If it still has the old one (another field was
//! changed), the password is written at the current revision. If it has another one, the rotation
//! is *conflicted*: a person decides.
//!
//! A write is *done* when a read shows it. Some secret managers answer reads from replicas, which
//! may still show the revision that the write has replaced: until they do not, the rotation stays
//! open, and its password is what the item resolves to.
//!
//! An attempt is claimed in the database for as long as it can take (`attempt_time`) before it
//! begins, so that two processes do not do the same work. The claim of a process that ends in the
//! middle expires. The claim only saves calls; writing at most once does not depend on it.
//!
//! **The pause** between attempts doubles from [`FIRST_WAIT`] to [`LONGEST_WAIT`], each with a
//! random part, so that rotations that failed together are not retried together. A longer pause
//! that the provider asks for is respected. Retries never stop: the site has the password already.
//!
//! **A refusal** (the credentials, the permission, the item) is not believed at once either: the
//! item could be written when the rotation began. Only after [`BELIEVED_AFTER`] of them the
//! rotation counts as failed. New settings of its connection make it due at once, and even a failed
//! one is tried again from time to time (`background.rs`), so a token or a permission that comes
//! back completes it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyway_audit::{ErrorKind, Shortfall, Subject, Trail};
use keyway_budget::{NotCalled, ProviderOperation, after, back_off, draw};
use keyway_runtime::{CallError, ErrorCode};
use keyway_storage::{ConnectionRecord, RotationRecord, RotationState};
use tracing::{error, info, warn};

use super::journal::{Contents, same};
use super::{Rotation, Rotations, item};
use crate::error::BrokerError;
use crate::provider_call::{CallFailure, Opened, longest_call};
use crate::request;

/// How long a write-back is refused before it counts as failed: a long weekend. That many attempts
/// must have been made as well, so that an outage of days is no refusal of days.
const BELIEVED_AFTER: (Duration, u32) = (Duration::from_secs(4 * 24 * 60 * 60), 20);

/// The longest pause between the first attempt and the second.
const FIRST_WAIT: Duration = Duration::from_secs(10);

/// The longest pause between attempts, unless the provider asks for more. It makes 96 attempts in a
/// day of outage, a negligible load.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// How often a write is repeated at once when the item has changed, but not its password.
const WRITES: u32 = 2;

/// The most calls of an attempt: each write, the read after each, and the read that confirms it.
const CALLS: u32 = 2 * WRITES + 1;

/// What an attempt may take besides: each call waits for the database a few times, up to 5 seconds
/// each.
const MARGIN: Duration = Duration::from_secs(60);

/// The outcome of an attempt.
pub(super) enum Outcome {
    /// The item has the new password.
    Written,
    /// The item has a different password than the one to replace.
    Conflicted,
    /// It cannot succeed until something changes.
    Failed(Trouble),
    /// It was refused, and may succeed later.
    Refused(Trouble, Option<Duration>),
    /// It may succeed later.
    Later(Trouble, Option<Duration>),
}

/// Why an attempt did not succeed.
pub(super) struct Trouble {
    reason: String,
    message: String,
}

impl Outcome {
    pub(super) fn failed(reason: &str, message: impl Into<String>) -> Self {
        Self::Failed(Trouble { reason: reason.into(), message: message.into() })
    }

    pub(super) fn later(reason: &str, message: impl Into<String>, wait: Option<Duration>) -> Self {
        Self::Later(Trouble { reason: reason.into(), message: message.into() }, wait)
    }

    /// Classifies an error for retries.
    fn of(error: &BrokerError) -> Self {
        let reason = match (error, error.provider_error()) {
            (_, Some(provider)) => provider.code(),
            (BrokerError::NotFound(_), _) => "not-found",
            (BrokerError::AccountChanged, _) => "account_changed",
            (BrokerError::NotCalled(NotCalled::Refused { .. } | NotCalled::Doubted { .. }), _) => "unauthenticated",
            (BrokerError::NotCalled(NotCalled::Unavailable { .. }), _) => "unavailable",
            (BrokerError::NotCalled(_), _) => "rate-limited",
            // A person has to repair a damaged envelope or a wrong key; retries continue meanwhile.
            _ => "host_error",
        };
        let trouble = Trouble { reason: reason.into(), message: error.to_string() };
        match (error, error.kind()) {
            (BrokerError::NotFound(_) | BrokerError::AccountChanged, _) => Self::Failed(trouble),
            (_, ErrorKind::Invalid | ErrorKind::Unsupported) => Self::Failed(trouble),
            (_, ErrorKind::ProviderRefused | ErrorKind::NotFound) => Self::Refused(trouble, error.retry_after()),
            _ => Self::Later(trouble, error.retry_after()),
        }
    }
}

/// Ends a rotation in this state, without a reason.
pub(super) fn end(record: &mut RotationRecord, state: RotationState) {
    record.state = state;
    (record.reason, record.message) = (None, None);
}

fn set_trouble(record: &mut RotationRecord, state: RotationState, trouble: &Trouble) {
    record.state = state;
    (record.reason, record.message) = (Some(trouble.reason.clone()), Some(trouble.message.clone()));
}

/// Notes a rotation in the audit subject.
pub(super) fn describe(record: &RotationRecord, subject: &mut Subject) {
    subject.rotation = Some(record.id);
    subject.entry = Some(record.entry_id);
    subject.connection = record.connection_id;
    subject.reference.clone_from(&record.secret_ref);
}

/// Marks a rotation as being written.
fn claim(record: &mut RotationRecord, until: Timestamp) {
    record.state = RotationState::Committing;
    record.attempts = record.attempts.saturating_add(1);
    record.failed_settings = None;
    (record.attempt_until, record.next_attempt_at) = (Some(until), Some(until));
}

/// Runs an operation that may write an item to its end, even if its caller is cancelled.
pub(super) async fn to_its_end<T: Send + 'static>(
    operation: impl Future<Output = Result<T, BrokerError>> + Send + 'static,
) -> Result<T, BrokerError> {
    let ended = request::spawn(operation).await;
    ended.map_err(|error| BrokerError::Host(format!("a password rotation ended without a result: {error}").into()))?
}

impl Rotations {
    /// Claims an attempt and makes it. Returns the rotation as it is then; `None` when another
    /// change came first.
    pub(super) async fn claim_and_write(
        &self,
        record: &RotationRecord,
        trail: &Trail,
    ) -> Result<Option<Rotation>, BrokerError> {
        let contents = self.journal.open(record).await?;
        trail.begin().await?;
        let until = after(self.core.timestamp(), self.attempt_time());
        let claim = |record: &mut RotationRecord| claim(record, until);
        let Some(claimed) = self.journal.advance(record, &contents, claim).await? else { return Ok(None) };
        let settled = self.attempt(claimed, &contents, trail).await?;
        match settled.state {
            RotationState::Done => trail.note(Subject::wrote_password),
            RotationState::WriteBackFailed => trail.fell_short(Shortfall::WriteBackFailed),
            RotationState::Conflicted => trail.fell_short(Shortfall::WriteBackConflict),
            _ => trail.fell_short(Shortfall::WriteBackPending),
        }
        Ok(Some(settled.into()))
    }

    /// The longest time that an attempt takes.
    fn attempt_time(&self) -> Duration {
        longest_call(self.connections.runtime.limits().call_time) * CALLS + MARGIN
    }

    async fn attempt(
        &self,
        mut record: RotationRecord,
        contents: &Contents,
        trail: &Trail,
    ) -> Result<RotationRecord, BrokerError> {
        let outcome = if record.secret_ref.is_some() {
            self.write_item(&mut record, contents, trail).await
        } else {
            match self.write_own(&record, contents).await {
                Ok(Ok(ended)) => return Ok(ended),
                Ok(Err(outcome)) => Ok(outcome),
                Err(error) => Err(error),
            }
        };
        self.settle(&record, contents, &outcome.unwrap_or_else(|error| Outcome::of(&error))).await
    }

    /// Records the outcome of an attempt, and logs it for the operator.
    async fn settle(
        &self,
        record: &RotationRecord,
        contents: &Contents,
        outcome: &Outcome,
    ) -> Result<RotationRecord, BrokerError> {
        let now = self.core.timestamp();
        let change = |record: &mut RotationRecord| match outcome {
            Outcome::Written => end(record, RotationState::Done),
            Outcome::Conflicted => set_trouble(record, RotationState::Conflicted, &conflict()),
            Outcome::Failed(trouble) => set_trouble(record, RotationState::WriteBackFailed, trouble),
            Outcome::Refused(trouble, _) if is_believed(record, now) => {
                set_trouble(record, RotationState::WriteBackFailed, trouble);
            }
            Outcome::Refused(trouble, wait) | Outcome::Later(trouble, wait) => {
                set_trouble(record, RotationState::Committing, trouble);
                record.attempt_until = None;
                record.next_attempt_at = Some(after(now, wait_before(record.attempts, *wait)));
            }
        };
        let Some(settled) = self.journal.advance(record, contents, change).await? else {
            // Another attempt was made meanwhile, and has seen the result of this one.
            return self.journal.record(record.workspace_id, record.id).await;
        };
        let (rotation, entry, attempts) = (settled.id, settled.entry_id, settled.attempts);
        let reason = settled.reason.as_deref().unwrap_or_default();
        let message = settled.message.as_deref().unwrap_or_default();
        match settled.state {
            RotationState::Done => info!(%rotation, %entry, attempts, "password rotation done"),
            RotationState::Committing => {
                let next = settled.next_attempt_at.map(tracing::field::display);
                warn!(%rotation, %entry, attempts, reason, message, next, "a new password could not be written back yet");
            }
            _ => error!(
                %rotation, %entry, attempts, reason, message,
                "a new password is set on the site and was NOT written back; it is kept, and tried again when the connection has new settings, every hour, and by hand"
            ),
        }
        Ok(settled)
    }

    async fn write_item(
        &self,
        record: &mut RotationRecord,
        contents: &Contents,
        trail: &Trail,
    ) -> Result<Outcome, BrokerError> {
        let connection = self.connection_of(record).await?;
        // The settings of this attempt: if they were replaced meanwhile, the rotation counts as
        // failed with the old ones.
        record.failed_settings = Some(connection.settings_version);
        let opened = self.open_for(record, &connection, trail).await?;
        for _ in 0..WRITES {
            let expected = record.expected_revision.as_deref();
            match item::write_password(&opened, reference(record), &contents.password, expected).await {
                Ok(written) => return self.confirm(&opened, record, &written).await,
                Err(CallFailure::Call(CallError::Provider(error))) if error.code == ErrorCode::Conflict => {}
                Err(failure) => return Err(failure.into()),
            }
            let (current, revision) =
                item::read_password(&opened, reference(record), ProviderOperation::ReadBack).await?;
            // A removed password counts as an empty one.
            let current = current.unwrap_or_default();
            if same(&current, &contents.password) {
                return Ok(Outcome::Written);
            } else if !contents.replaces.fits(&current) {
                return Ok(Outcome::Conflicted);
            }
            record.expected_revision = Some(revision);
        }
        Ok(Outcome::later("conflict", "concurrent changes of the item or its vault continue", None))
    }

    /// The outcome of a write that the provider has acknowledged with this revision: whether a read
    /// shows it.
    async fn confirm(&self, opened: &Opened, record: &RotationRecord, written: &str) -> Result<Outcome, BrokerError> {
        let Some(replaced) = record.expected_revision.as_deref().filter(|replaced| *replaced != written) else {
            return Ok(Outcome::Written);
        };
        let (_, shown) = item::read_password(opened, reference(record), ProviderOperation::ReadBack).await?;
        if shown != replaced {
            return Ok(Outcome::Written);
        }
        let message = "the secret manager has accepted the new password, and still shows the item as it was before";
        Ok(Outcome::later("unconfirmed", message, None))
    }

    /// The connection of a rotation.
    pub(super) async fn connection_of(&self, record: &RotationRecord) -> Result<Arc<ConnectionRecord>, BrokerError> {
        let id = record.connection_id.ok_or_else(|| BrokerError::Host("the rotation has no connection".into()))?;
        self.connections.record(record.workspace_id, id).await
    }

    /// The same, ready for calls about its item.
    pub(super) async fn open_for(
        &self,
        record: &RotationRecord,
        connection: &ConnectionRecord,
        trail: &Trail,
    ) -> Result<Opened, BrokerError> {
        // The same reference in another account is a different item, even at the same revision.
        if record.account_id.as_ref().is_some_and(|account| *account != connection.account_id) {
            return Err(BrokerError::AccountChanged);
        }
        let opened = self.connections.open(connection).await?;
        opened.note(trail);
        Ok(opened)
    }
}

pub(super) fn reference(record: &RotationRecord) -> &str {
    record.secret_ref.as_deref().unwrap_or_default()
}

fn conflict() -> Trouble {
    Trouble {
        reason: "password_changed".into(),
        message:
            "the item's password was changed after the rotation began, and was not overwritten. If the site has the \
                  rotation's password, retry with `overwrite`; otherwise abandon the rotation with its password discarded"
                .into(),
    }
}

/// Whether a refusal is believed: whether this rotation has been tried for long enough.
fn is_believed(record: &RotationRecord, now: Timestamp) -> bool {
    let (time, attempts) = BELIEVED_AFTER;
    let age = Duration::try_from(now.duration_since(record.created_at)).unwrap_or_default();
    age >= time && record.attempts >= attempts
}

/// The pause after this many attempts: half of it is fixed, half is random.
fn wait_before(attempts: u32, asked: Option<Duration>) -> Duration {
    let wait = back_off(FIRST_WAIT, LONGEST_WAIT, attempts, draw());
    wait.max(asked.unwrap_or_default().min(keyway_budget::LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use keyway_runtime::ProviderError;

    use super::*;
    use crate::error::Thing;

    #[test]
    fn waiting_doubles_up_to_a_quarter_of_an_hour_and_is_never_shorter_than_asked() {
        for (attempts, longest) in [(1, 10), (2, 20), (3, 40), (7, 640), (8, 900), (400, 900)] {
            let longest = Duration::from_secs(longest);
            let waits: Vec<_> = (0..50).map(|_| wait_before(attempts, None)).collect();
            assert!(waits.iter().all(|wait| *wait >= longest / 2 && *wait <= longest), "{attempts}: {waits:?}");
            // About once in 2^50 runs, all fifty are drawn from the same half of their range.
            let middle = longest * 3 / 4;
            assert!(waits.iter().any(|wait| *wait < middle), "{attempts}: {waits:?}");
            assert!(waits.iter().any(|wait| *wait > middle), "{attempts}: {waits:?}");
        }
        let asked = |hours: u64| wait_before(1, Some(Duration::from_secs(hours * 3_600)));
        assert_eq!(asked(1), Duration::from_secs(3_600));
        assert_eq!(asked(1_000_000), keyway_budget::LONGEST_WAIT, "no provider puts it off for ever");
    }

    #[test]
    fn what_cannot_succeed_stops_and_everything_else_goes_on() {
        let text = || "x".to_owned();
        let outcome = |code: ErrorCode| Outcome::of(&BrokerError::Provider(ProviderError::new(code, text())));
        for code in [ErrorCode::InvalidReference, ErrorCode::Unsupported] {
            assert!(matches!(outcome(code.clone()), Outcome::Failed(_)), "{code:?}");
        }
        for code in [
            ErrorCode::InvalidSettings,
            ErrorCode::Unauthenticated,
            ErrorCode::PermissionDenied,
            ErrorCode::ActionRequired,
            ErrorCode::NotFound,
        ] {
            assert!(matches!(outcome(code.clone()), Outcome::Refused(..)), "{code:?}");
        }
        for code in
            [ErrorCode::RateLimited, ErrorCode::Unavailable, ErrorCode::UnexpectedAnswer, ErrorCode::Other(text())]
        {
            assert!(matches!(outcome(code.clone()), Outcome::Later(..)), "{code:?}");
        }
        assert!(matches!(Outcome::of(&BrokerError::Host(text().into())), Outcome::Later(..)));
        // The connection was deleted, or the entry whose password it is.
        for gone in [Thing::Connection, Thing::Entry] {
            assert!(matches!(Outcome::of(&BrokerError::NotFound(gone)), Outcome::Failed(_)));
        }
        let retry_after = Duration::from_secs(60);
        let not_called = |not_called| Outcome::of(&BrokerError::NotCalled(not_called));
        assert!(matches!(not_called(NotCalled::Refused { retry_after }), Outcome::Refused(..)));
        for later in [
            NotCalled::RateLimited { retry_after },
            NotCalled::Unavailable { retry_after },
            NotCalled::Doubted { retry_after },
        ] {
            let Outcome::Later(_, wait) = not_called(later) else { panic!("it may succeed later") };
            assert_eq!(wait, Some(retry_after));
        }
    }
}
