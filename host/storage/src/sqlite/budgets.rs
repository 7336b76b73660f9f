//! The statements of budgets and breakers.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Executor, FromRow, Sqlite, query};
use tracing::warn;

use super::SqliteStorage;
use super::rows::{read, signed};
use crate::{
    BreakerRecord, BudgetStorage, PauseRecord, RequestCount, RequestKind, RequestReservation, ReservedRequests,
    StorageError,
};

#[async_trait]
impl BudgetStorage for SqliteStorage {
    async fn reserve_requests(&self, wanted: &RequestReservation) -> Result<ReservedRequests, StorageError> {
        let (subject, kind) = (wanted.subject.as_slice(), wanted.kind.name());
        let slot = wanted.slot.as_millisecond();
        // One transaction, so that no other host takes what is left between reading and reserving
        // it. IMMEDIATE, because a transaction that begins to write later cannot wait for another
        // writer.
        let mut transaction = self.writer()?.begin_with("BEGIN IMMEDIATE").await?;
        // They would stop every later call, and their requests are long made.
        let spoiled = query(
            "DELETE FROM request_counts
             WHERE subject = ? AND kind = ?
                 AND (typeof(requests) <> 'integer' OR requests NOT BETWEEN 0 AND 4294967295)",
        )
        .bind(subject)
        .bind(kind)
        .execute(&mut *transaction)
        .await?;
        if spoiled.rows_affected() > 0 {
            let rows = spoiled.rows_affected();
            warn!(rows, kind, "counts of requests in the database were damaged; they begin again at 0");
        }
        if let Some((of, unused)) = wanted.returned {
            query(
                "UPDATE request_counts SET requests = max(0, requests - ?) WHERE subject = ? AND kind = ? AND slot = ?",
            )
            .bind(unused)
            .bind(subject)
            .bind(kind)
            .bind(of.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        }
        query("DELETE FROM request_counts WHERE subject = ? AND kind = ? AND slot < ?")
            .bind(subject)
            .bind(kind)
            .bind(wanted.kept_from.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        query(
            "INSERT INTO request_counts (subject, kind, slot, requests)
             SELECT ?1, ?2, ?3, min(4294967295, sum(requests)) FROM request_counts
             WHERE subject = ?1 AND kind = ?2 AND slot > ?4
             HAVING count(*) > 0
             ON CONFLICT (subject, kind, slot)
                 DO UPDATE SET requests = min(4294967295, requests + excluded.requests)",
        )
        .bind(subject)
        .bind(kind)
        .bind(slot)
        .bind(wanted.future.as_millisecond())
        .execute(&mut *transaction)
        .await?;
        query("DELETE FROM request_counts WHERE subject = ? AND kind = ? AND slot > ?")
            .bind(subject)
            .bind(kind)
            .bind(wanted.future.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        let mut counts = counts(&mut *transaction, &wanted.subject, wanted.kind, wanted.counted_from).await?;
        let used: u64 = counts.iter().map(|count| u64::from(count.requests)).sum();
        let left = wanted.limit.map_or(u64::MAX, |limit| u64::from(limit).saturating_sub(used));
        let granted = u32::try_from(left.min(u64::from(wanted.requests))).unwrap_or(wanted.requests);
        if granted > 0 {
            query(
                "INSERT INTO request_counts (subject, kind, slot, requests) VALUES (?, ?, ?, ?)
                 ON CONFLICT (subject, kind, slot)
                 DO UPDATE SET requests = min(4294967295, requests + excluded.requests)",
            )
            .bind(subject)
            .bind(kind)
            .bind(slot)
            .bind(granted)
            .execute(&mut *transaction)
            .await?;
            counts = self::counts(&mut *transaction, &wanted.subject, wanted.kind, wanted.counted_from).await?;
        }
        transaction.commit().await?;
        Ok(ReservedRequests { granted, counts })
    }

    async fn request_counts(
        &self,
        subject: &[u8; 16],
        kind: RequestKind,
        from: Timestamp,
    ) -> Result<Vec<RequestCount>, StorageError> {
        counts(&self.readers, subject, kind, from).await
    }

    async fn breaker(&self, subject: &[u8; 16]) -> Result<Option<BreakerRecord>, StorageError> {
        let select = query("SELECT * FROM breakers WHERE subject = ?").bind(subject.as_slice());
        let Some(row) = select.fetch_optional(&self.readers).await? else { return Ok(None) };
        match BreakerRecord::from_row(&row) {
            Ok(breaker) => Ok(Some(breaker)),
            Err(error) => {
                warn!(%error, "a breaker in the database was damaged; it begins again, closed");
                let delete = query("DELETE FROM breakers WHERE subject = ?").bind(subject.as_slice());
                delete.execute(self.writer()?).await?;
                Ok(None)
            }
        }
    }

    async fn save_breaker(&self, breaker: &BreakerRecord, expected: Option<u64>) -> Result<bool, StorageError> {
        let statement = match expected {
            Some(_) => query(
                "UPDATE breakers SET failures = ?, reason = ?, until = ?, strikes = ?, probing = ?, version = ?, updated_at = ?
                 WHERE subject = ? AND version = ?",
            ),
            None => query(
                "INSERT INTO breakers (failures, reason, until, strikes, probing, version, updated_at, subject)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (subject) DO NOTHING",
            ),
        };
        let pause = breaker.pause;
        let mut statement = statement
            .bind(breaker.failures)
            .bind(pause.map(|pause| pause.reason.name()))
            .bind(pause.map(|pause| pause.until.as_millisecond()))
            .bind(pause.map_or(0, |pause| pause.strikes))
            .bind(pause.is_some_and(|pause| pause.probing))
            .bind(signed(breaker.version))
            .bind(breaker.updated_at.as_millisecond())
            .bind(breaker.subject.as_slice());
        if let Some(version) = expected {
            statement = statement.bind(signed(version));
        }
        Ok(statement.execute(self.writer()?).await?.rows_affected() == 1)
    }

    async fn forget_budgets(&self, before: Timestamp) -> Result<(), StorageError> {
        // The two statements need not be atomic: the next call drops what this one leaves.
        for statement in
            [query("DELETE FROM request_counts WHERE slot < ?"), query("DELETE FROM breakers WHERE updated_at < ?")]
        {
            statement.bind(before.as_millisecond()).execute(self.writer()?).await?;
        }
        Ok(())
    }
}

/// The counts of a subject's slots from `from` on, in ascending order.
async fn counts(
    executor: impl Executor<'_, Database = Sqlite>,
    subject: &[u8; 16],
    kind: RequestKind,
    from: Timestamp,
) -> Result<Vec<RequestCount>, StorageError> {
    let sql = "SELECT slot, requests FROM request_counts WHERE subject = ? AND kind = ? AND slot >= ? ORDER BY slot";
    let counts = query(sql).bind(subject.as_slice()).bind(kind.name()).bind(from.as_millisecond());
    let rows = counts.fetch_all(executor).await?;
    // The next reservation deletes those that cannot be read.
    let readable =
        |row| RequestCount::from_row(row).inspect_err(|error| warn!(%error, "a count of requests is damaged"));
    Ok(rows.iter().filter_map(|row| readable(row).ok()).collect())
}

impl FromRow<'_, SqliteRow> for BreakerRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let (strikes, probing) = (read(row, "strikes")?, read(row, "probing")?);
        let pause = read::<Option<_>>(row, "reason")?.zip(read(row, "until")?);
        Ok(Self {
            subject: read(row, "subject")?,
            failures: read(row, "failures")?,
            pause: pause.map(|(reason, until)| PauseRecord { reason, until, strikes, probing }),
            version: read(row, "version")?,
            updated_at: read(row, "updated_at")?,
        })
    }
}
