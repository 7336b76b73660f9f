//! The audit log: what is recorded, reading it and checking it. The documentation of
//! [`keyway_audit`] says what it keeps and what it detects.

use std::sync::Arc;

use keyway_audit::Trail;
pub use keyway_audit::{
    AUDIT_RECORDS_PER_PAGE, AuditActor, AuditError, AuditEvent, AuditFinding, AuditPage, AuditProblem, AuditQuery,
    AuditRecord, AuditRoot, AuditSink, AuditSource, AuditVerification, Copied, CopyError, Cursor, DEADLINE, Durability,
    InMemoryAudit, InvalidQuery, InvalidRoot, Operation, Order, Outcome, OutcomeFilter, Receipt, SEGMENT_BYTES,
    SYNC_INTERVAL, SegmentOptions, SeriesHead, Subject, copy, rehearse,
};

use crate::access::Access;
use crate::core::Core;
use crate::error::BrokerError;

/// The audit log, for reading: see [`Broker::audit`](crate::Broker::audit).
pub struct AuditLog {
    pub(crate) core: Arc<Core>,
}

impl AuditLog {
    /// A page of the audit log of the caller's workspace. Needs
    /// [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`], [`BrokerError::Audit`].
    pub async fn records(&self, access: &Access, mut query: AuditQuery) -> Result<AuditPage, BrokerError> {
        let trail = Trail::new();
        let read = async {
            query.workspace = Some(access.workspace());
            query.pseudonyms = true;
            let page = self.core.recorder.sink().read(&query).await?;
            trail.note(|subject| subject.count = Some(page.records.len() as u64));
            Ok(page)
        };
        self.core.audited(access, Operation::AuditRecords, &trail, read).await
    }

    /// A page of the audit log of all workspaces, including records that belong to none. For the
    /// code that embeds the broker; it takes no [`Access`].
    ///
    /// # Errors
    /// [`BrokerError::Audit`].
    pub async fn records_of_all(&self, query: &AuditQuery) -> Result<AuditPage, BrokerError> {
        self.core.ensure_open()?;
        Ok(self.core.recorder.sink().read(query).await?)
    }

    /// Checks the whole audit log: that every record is there, unchanged and in order. An earlier
    /// copy of the log *and* the database looks the same as the log; only
    /// [`verify_since`](Self::verify_since) reveals it. For the code that embeds the broker; it
    /// takes no [`Access`].
    ///
    /// # Errors
    /// [`BrokerError::Audit`] when the log cannot be read. Faults of the log are in the result.
    pub async fn verify(&self) -> Result<AuditVerification, BrokerError> {
        self.core.ensure_open()?;
        Ok(self.core.recorder.sink().verify(None).await?)
    }

    /// The same, and that everything is there that a [root](Self::root) vouches for which was kept
    /// in another place.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub async fn verify_since(&self, root: &AuditRoot) -> Result<AuditVerification, BrokerError> {
        self.core.ensure_open()?;
        Ok(self.core.recorder.sink().verify(Some(root)).await?)
    }

    /// The present root of the log, to be kept in another place: it vouches for everything that was
    /// recorded so far. It takes no [`Access`].
    ///
    /// # Errors
    /// [`BrokerError::Audit`] with [`AuditError::NoRoot`] before the first record.
    pub async fn root(&self) -> Result<AuditRoot, BrokerError> {
        self.core.ensure_open()?;
        Ok(self.core.recorder.sink().root().await?)
    }
}
