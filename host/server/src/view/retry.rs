//! How long to wait after a failure, reported in the same way over HTTP and on the command line.

use std::time::Duration;

use keyway::audit::AuditError;
use keyway::{BrokerError, ErrorKind};

/// How long to wait before the next attempt, if the failure says so or its kind implies it.
pub(crate) fn retry_after(kind: ErrorKind, error: &BrokerError) -> Option<Duration> {
    // A change that was made must not be repeated blindly.
    let again = !matches!(error, BrokerError::Audit(AuditError::OutcomeUnrecorded(_)));
    let soon = again
        && matches!(
            kind,
            ErrorKind::Busy | ErrorKind::AuditUnavailable | ErrorKind::KeysUnavailable | ErrorKind::Ending
        );
    error.retry_after().or(soon.then_some(Duration::from_secs(1)))
}

/// A wait in whole seconds, rounded up.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use keyway::keys::KeyError;
    use keyway_runtime::{ErrorCode, ProviderError, SandboxError};

    use super::*;

    #[test]
    fn a_wait_is_the_servers_word_or_a_second_when_the_host_is_busy() {
        let limited = ProviderError::new(ErrorCode::RateLimited, "").retry_after(Duration::from_secs(7));
        let limited = BrokerError::Provider(limited);
        assert_eq!(retry_after(limited.kind(), &limited), Some(Duration::from_secs(7)));
        let busy = BrokerError::Sandbox(SandboxError::Busy { limit: 1 });
        assert_eq!(retry_after(busy.kind(), &busy), Some(Duration::from_secs(1)));
        let keys = BrokerError::Key(KeyError::Service("no route to host".into()));
        assert_eq!(retry_after(keys.kind(), &keys), Some(Duration::from_secs(1)));
        let audit = |error: AuditError| retry_after(ErrorKind::AuditUnavailable, &error.into());
        assert_eq!(audit(AuditError::unwritable("")), Some(Duration::from_secs(1)));
        assert_eq!(audit(AuditError::failed("").after_a_change()), None);
    }
}
