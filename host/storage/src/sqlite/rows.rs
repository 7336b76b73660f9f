//! From a row of SQLite to a record, checked: a value that the broker never writes is an error, not
//! a default.

use std::str::FromStr;

use jiff::Timestamp;
use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, ValueRef};
use uuid::Uuid;

use crate::{
    ApiKeyRecord, AuditAnchorRecord, ConnectionRecord, ConnectionStateRecord, Constraint, DependentEntry, EntryRecord,
    MasterKeyRecord, RotationRecord, StorageError, WorkspaceKeyRecord, WorkspaceRecord,
};

impl FromRow<'_, SqliteRow> for MasterKeyRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self { term: number(row, "term")?, key_id: bytes(row, "key_id")?, created_at: time(row, "created_at")? })
    }
}

impl FromRow<'_, SqliteRow> for WorkspaceRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get::<Uuid, _>("id")?.into(),
            name: row.try_get("name")?,
            external_id: row.try_get("external_id")?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for WorkspaceKeyRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            workspace_id: row.try_get::<Uuid, _>("workspace_id")?.into(),
            term: number(row, "term")?,
            wrapped_key: row.try_get("wrapped_key")?,
            master_term: number(row, "master_term")?,
            version: number(row, "version")?,
            created_at: time(row, "created_at")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for ApiKeyRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get::<Uuid, _>("id")?.into(),
            workspace_id: row.try_get::<Uuid, _>("workspace_id")?.into(),
            name: row.try_get("name")?,
            lookup: row.try_get("lookup")?,
            hash: bytes(row, "hash")?,
            scopes: name(row, "scopes")?,
            created_at: time(row, "created_at")?,
            revoked_at: optional(row, "revoked_at", time)?,
        })
    }
}

impl FromRow<'_, SqliteRow> for ConnectionRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get::<Uuid, _>("id")?.into(),
            workspace_id: row.try_get::<Uuid, _>("workspace_id")?.into(),
            name: row.try_get("name")?,
            provider_type: row.try_get("provider_type")?,
            sealed_settings: row.try_get("sealed_settings")?,
            hints: row.try_get("hints")?,
            account: row.try_get("account")?,
            account_key: row.try_get("account_key")?,
            account_id: row.try_get::<&str, _>("account_id")?.into(),
            rate_limit_tier: row.try_get("rate_limit_tier")?,
            read_only: row.try_get("read_only")?,
            cache_ttl_seconds: number(row, "cache_ttl_seconds")?,
            cache_generation: number(row, "cache_generation")?,
            settings_version: number(row, "settings_version")?,
            version: number(row, "version")?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for ConnectionStateRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            connection_id: row.try_get::<Uuid, _>("id")?.into(),
            workspace_id: row.try_get::<Uuid, _>("workspace_id")?.into(),
            settings_version: number(row, "settings_version")?,
            sealed_state: row.try_get("sealed_state")?,
            version: number(row, "version")?,
            refresh_at: optional(row, "refresh_at", time)?,
            refresh_attempts: number(row, "refresh_attempts")?,
            updated_at: time(row, "updated_at")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for EntryRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get::<Uuid, _>("id")?.into(),
            workspace_id: row.try_get::<Uuid, _>("workspace_id")?.into(),
            user: row.try_get("permissioned_user_id")?,
            domain: row.try_get("domain")?,
            alias: row.try_get("user_alias")?,
            tfa_method: optional(row, "tfa_method", name)?,
            passkey: row.try_get("passkey")?,
            connection_id: row.try_get::<Option<Uuid>, _>("connection_id")?.map(Into::into),
            secret_ref: row.try_get("secret_ref")?,
            cache_ttl_seconds: optional(row, "cache_ttl_seconds", number)?,
            sealed_credentials: row.try_get("sealed_credentials")?,
            sealed_attributes: row.try_get("sealed_attributes")?,
            session_data_set_at: optional(row, "session_data_set_at", time)?,
            version: number(row, "version")?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for DependentEntry {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get::<Uuid, _>("id")?.into(),
            user: row.try_get("permissioned_user_id")?,
            domain: row.try_get("domain")?,
            alias: row.try_get("user_alias")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for AuditAnchorRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            series: number(row, "series")?,
            number: number(row, "number")?,
            head: bytes(row, "head")?,
            mac: bytes(row, "mac")?,
            at: time(row, "at")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for RotationRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get::<Uuid, _>("id")?.into(),
            workspace_id: row.try_get::<Uuid, _>("workspace_id")?.into(),
            entry_id: row.try_get::<Uuid, _>("entry_id")?.into(),
            connection_id: row.try_get::<Option<Uuid>, _>("connection_id")?.map(Into::into),
            secret_ref: row.try_get("secret_ref")?,
            account_id: row.try_get::<Option<&str>, _>("account_id")?.map(Into::into),
            state: name(row, "state")?,
            reason: row.try_get("reason")?,
            message: row.try_get("message")?,
            sealed_password: row.try_get("sealed_password")?,
            expected_revision: row.try_get("expected_revision")?,
            attempts: number(row, "attempts")?,
            attempt_until: optional(row, "attempt_until", time)?,
            next_attempt_at: optional(row, "next_attempt_at", time)?,
            failed_settings: optional(row, "failed_settings", number)?,
            version: number(row, "version")?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
        })
    }
}

/// A number that is not negative and fits.
pub(super) fn number<N: TryFrom<i64>>(row: &SqliteRow, column: &'static str) -> sqlx::Result<N> {
    N::try_from(row.try_get(column)?).map_err(|_| corrupt(column))
}

/// SQLite's integers are signed. What the broker counts stays far below the limit; at the limit it
/// stays there.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn bytes<const N: usize>(row: &SqliteRow, column: &'static str) -> sqlx::Result<[u8; N]> {
    row.try_get::<&[u8], _>(column)?.try_into().map_err(|_| corrupt(column))
}

pub(super) fn time(row: &SqliteRow, column: &'static str) -> sqlx::Result<Timestamp> {
    Timestamp::from_millisecond(row.try_get(column)?).map_err(|_| corrupt(column))
}

/// One of a list of names.
pub(super) fn name<N: FromStr>(row: &SqliteRow, column: &'static str) -> sqlx::Result<N> {
    row.try_get::<&str, _>(column)?.parse().map_err(|_| corrupt(column))
}

/// What may be NULL, and is read like this if it is not.
pub(super) fn optional<T>(
    row: &SqliteRow,
    column: &'static str,
    read: fn(&SqliteRow, &'static str) -> sqlx::Result<T>,
) -> sqlx::Result<Option<T>> {
    if row.try_get_raw(column)?.is_null() { Ok(None) } else { read(row, column).map(Some) }
}

/// Passes through `sqlx` as its own error.
pub(super) fn corrupt(column: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(StorageError::Corrupt { column }.into())
}

/// Whether another connection had the lock for longer than this one waits.
pub(super) fn is_busy(error: &dyn DatabaseError) -> bool {
    // The lower byte of SQLite's extended codes is the primary one; 5 is SQLITE_BUSY.
    error.code().and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| code & 0xff == 5)
}

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::error::ErrorKind::{ForeignKeyViolation, UniqueViolation};
        if matches!(error, sqlx::Error::PoolTimedOut) || error.as_database_error().is_some_and(is_busy) {
            return Self::Busy;
        }
        match (error.as_database_error().map(|error| error.kind()), error) {
            (Some(UniqueViolation), _) => Self::Conflict(Constraint::Unique),
            (Some(ForeignKeyViolation), _) => Self::Conflict(Constraint::Reference),
            (_, sqlx::Error::Decode(cause)) => cause.downcast::<Self>().map_or_else(Self::Failed, |own| *own),
            (_, error) => Self::Failed(error.into()),
        }
    }
}
