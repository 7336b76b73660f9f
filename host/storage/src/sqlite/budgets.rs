//! The statements of budgets and breakers.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, query, query_as};

use super::{SqliteStorage, rows};
use crate::{
    BreakerRecord, BudgetStorage, PauseReason, PauseRecord, RequestCount, RequestKind, RequestReservation,
    ReservedRequests, StorageError,
};

#[async_trait]
impl BudgetStorage for SqliteStorage {
    async fn reserve_requests(&self, wanted: &RequestReservation) -> Result<ReservedRequests, StorageError> {
        let (subject, kind) = (wanted.subject.as_slice(), wanted.kind.to_string());
        let slot = wanted.slot.as_millisecond();
        // One transaction: between reading what is left and taking it, nobody else may take it.
        // IMMEDIATE, because a transaction that begins to write later cannot wait for another
        // writer.
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if let Some((of, unused)) = wanted.returned {
            query(
                "UPDATE request_counts SET requests = max(0, requests - ?) WHERE subject = ? AND kind = ? AND slot = ?",
            )
            .bind(unused)
            .bind(subject)
            .bind(&kind)
            .bind(of.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        }
        query("DELETE FROM request_counts WHERE subject = ? AND kind = ? AND slot < ?")
            .bind(subject)
            .bind(&kind)
            .bind(wanted.kept_from.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        query(
            "INSERT INTO request_counts (subject, kind, slot, requests)
             SELECT ?1, ?2, ?3, sum(requests) FROM request_counts WHERE subject = ?1 AND kind = ?2 AND slot > ?4
             HAVING count(*) > 0
             ON CONFLICT (subject, kind, slot) DO UPDATE SET requests = requests + excluded.requests",
        )
        .bind(subject)
        .bind(&kind)
        .bind(slot)
        .bind(wanted.future.as_millisecond())
        .execute(&mut *transaction)
        .await?;
        query("DELETE FROM request_counts WHERE subject = ? AND kind = ? AND slot > ?")
            .bind(subject)
            .bind(&kind)
            .bind(wanted.future.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        let mut counts: Vec<RequestCount> = query_as(
            "SELECT slot, requests FROM request_counts WHERE subject = ? AND kind = ? AND slot >= ? ORDER BY slot",
        )
        .bind(subject)
        .bind(&kind)
        .bind(wanted.counted_from.as_millisecond())
        .fetch_all(&mut *transaction)
        .await?;
        let used: u64 = counts.iter().map(|count| u64::from(count.requests)).sum();
        let left = wanted.limit.map_or(u64::MAX, |limit| u64::from(limit).saturating_sub(used));
        let granted = u32::try_from(left.min(u64::from(wanted.requests))).unwrap_or(wanted.requests);
        if granted > 0 {
            query(
                "INSERT INTO request_counts (subject, kind, slot, requests) VALUES (?, ?, ?, ?)
                 ON CONFLICT (subject, kind, slot) DO UPDATE SET requests = requests + excluded.requests",
            )
            .bind(subject)
            .bind(&kind)
            .bind(slot)
            .bind(granted)
            .execute(&mut *transaction)
            .await?;
            match counts.binary_search_by_key(&wanted.slot, |count| count.slot) {
                Ok(at) => {
                    if let Some(count) = counts.get_mut(at) {
                        count.requests = count.requests.saturating_add(granted);
                    }
                }
                Err(at) => counts.insert(at, RequestCount { slot: wanted.slot, requests: granted }),
            }
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
        Ok(query_as(
            "SELECT slot, requests FROM request_counts WHERE subject = ? AND kind = ? AND slot >= ? ORDER BY slot",
        )
        .bind(subject.as_slice())
        .bind(kind.to_string())
        .bind(from.as_millisecond())
        .fetch_all(&self.pool)
        .await?)
    }

    async fn breaker(&self, subject: &[u8; 16]) -> Result<Option<BreakerRecord>, StorageError> {
        Ok(query_as("SELECT * FROM breakers WHERE subject = ?")
            .bind(subject.as_slice())
            .fetch_optional(&self.pool)
            .await?)
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
            .bind(pause.map(|pause| pause.reason.to_string()))
            .bind(pause.map(|pause| pause.until.as_millisecond()))
            .bind(pause.map_or(0, |pause| pause.strikes))
            .bind(pause.is_some_and(|pause| pause.probing))
            .bind(rows::signed(breaker.version))
            .bind(breaker.updated_at.as_millisecond())
            .bind(breaker.subject.as_slice());
        if let Some(version) = expected {
            statement = statement.bind(rows::signed(version));
        }
        Ok(statement.execute(&self.pool).await?.rows_affected() == 1)
    }

    async fn forget_budgets(&self, before: Timestamp) -> Result<(), StorageError> {
        // Two statements that need not happen together: what one of them leaves, the next time
        // takes.
        for statement in
            [query("DELETE FROM request_counts WHERE slot < ?"), query("DELETE FROM breakers WHERE updated_at < ?")]
        {
            statement.bind(before.as_millisecond()).execute(&self.pool).await?;
        }
        Ok(())
    }
}

impl FromRow<'_, SqliteRow> for RequestCount {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self { slot: rows::time(row, "slot")?, requests: rows::number(row, "requests")? })
    }
}

impl FromRow<'_, SqliteRow> for BreakerRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let reason: Option<&str> = row.try_get("reason")?;
        let known = |name| PauseReason::from_name(name).ok_or_else(|| rows::corrupt("reason"));
        let reason = reason.map(known).transpose()?;
        let (strikes, probing) = (rows::number(row, "strikes")?, row.try_get("probing")?);
        let pause = reason.zip(rows::optional(row, "until", rows::time)?);
        Ok(Self {
            subject: rows::bytes(row, "subject")?,
            failures: rows::number(row, "failures")?,
            pause: pause.map(|(reason, until)| PauseRecord { reason, until, strikes, probing }),
            version: rows::number(row, "version")?,
            updated_at: rows::time(row, "updated_at")?,
        })
    }
}
