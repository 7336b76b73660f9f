//! From a row of SQLite to a record, checked: a value that the broker never writes is an error, not
//! a default.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::{
    ApiKeyRecord, AuditAnchorRecord, ConnectionRecord, ConnectionStateRecord, Constraint, DependentEntry, EntryRecord,
    MasterKeyRecord, RotationRecord, StorageError, WorkspaceKeyRecord, WorkspaceRecord,
};

pub(super) fn master_key(row: &SqliteRow) -> Result<MasterKeyRecord, StorageError> {
    Ok(MasterKeyRecord {
        term: number(row, "term")?,
        key_id: bytes(row, "key_id")?,
        created_at: time(row, "created_at")?,
    })
}

pub(super) fn workspace(row: &SqliteRow) -> Result<WorkspaceRecord, StorageError> {
    Ok(WorkspaceRecord {
        id: row.try_get::<Uuid, _>("id")?.into(),
        name: row.try_get("name")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

pub(super) fn workspace_key(row: &SqliteRow) -> Result<WorkspaceKeyRecord, StorageError> {
    Ok(WorkspaceKeyRecord {
        workspace_id: row.try_get::<Uuid, _>("workspace_id")?.into(),
        term: number(row, "term")?,
        wrapped_key: row.try_get("wrapped_key")?,
        master_term: number(row, "master_term")?,
        version: number(row, "version")?,
        created_at: time(row, "created_at")?,
    })
}

pub(super) fn api_key(row: &SqliteRow) -> Result<ApiKeyRecord, StorageError> {
    Ok(ApiKeyRecord {
        id: row.try_get::<Uuid, _>("id")?.into(),
        workspace_id: row.try_get::<Uuid, _>("workspace_id")?.into(),
        name: row.try_get("name")?,
        lookup: row.try_get("lookup")?,
        hash: bytes(row, "hash")?,
        scopes: row.try_get::<&str, _>("scopes")?.parse().map_err(|_| StorageError::Corrupt { column: "scopes" })?,
        created_at: time(row, "created_at")?,
        revoked_at: optional_time(row, "revoked_at")?,
    })
}

pub(super) fn connection(row: &SqliteRow) -> Result<ConnectionRecord, StorageError> {
    Ok(ConnectionRecord {
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

pub(super) fn connection_state(row: &SqliteRow) -> Result<ConnectionStateRecord, StorageError> {
    Ok(ConnectionStateRecord {
        connection_id: row.try_get::<Uuid, _>("id")?.into(),
        workspace_id: row.try_get::<Uuid, _>("workspace_id")?.into(),
        settings_version: number(row, "settings_version")?,
        sealed_state: row.try_get("sealed_state")?,
        version: number(row, "version")?,
        refresh_at: optional_time(row, "refresh_at")?,
        refresh_attempts: number(row, "refresh_attempts")?,
        updated_at: time(row, "updated_at")?,
    })
}

pub(super) fn entry(row: &SqliteRow) -> Result<EntryRecord, StorageError> {
    let tfa_method: Option<&str> = row.try_get("tfa_method")?;
    Ok(EntryRecord {
        id: row.try_get::<Uuid, _>("id")?.into(),
        workspace_id: row.try_get::<Uuid, _>("workspace_id")?.into(),
        user: row.try_get("permissioned_user_id")?,
        domain: row.try_get("domain")?,
        alias: row.try_get("user_alias")?,
        tfa_method: tfa_method
            .map(|method| method.parse().map_err(|_| StorageError::Corrupt { column: "tfa_method" }))
            .transpose()?,
        passkey: row.try_get("passkey")?,
        connection_id: row.try_get::<Option<Uuid>, _>("connection_id")?.map(Into::into),
        secret_ref: row.try_get("secret_ref")?,
        cache_ttl_seconds: row
            .try_get::<Option<i64>, _>("cache_ttl_seconds")?
            .map(|seconds| u32::try_from(seconds).map_err(|_| StorageError::Corrupt { column: "cache_ttl_seconds" }))
            .transpose()?,
        sealed_credentials: row.try_get("sealed_credentials")?,
        sealed_attributes: row.try_get("sealed_attributes")?,
        session_data_set_at: optional_time(row, "session_data_set_at")?,
        version: number(row, "version")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

pub(super) fn dependent_entry(row: &SqliteRow) -> Result<DependentEntry, StorageError> {
    Ok(DependentEntry {
        id: row.try_get::<Uuid, _>("id")?.into(),
        user: row.try_get("permissioned_user_id")?,
        domain: row.try_get("domain")?,
        alias: row.try_get("user_alias")?,
    })
}

pub(super) fn audit_anchor(row: &SqliteRow) -> Result<AuditAnchorRecord, StorageError> {
    Ok(AuditAnchorRecord {
        series: number(row, "series")?,
        number: number(row, "number")?,
        head: bytes(row, "head")?,
        mac: bytes(row, "mac")?,
        at: time(row, "at")?,
    })
}

pub(super) fn rotation(row: &SqliteRow) -> Result<RotationRecord, StorageError> {
    Ok(RotationRecord {
        id: row.try_get::<Uuid, _>("id")?.into(),
        workspace_id: row.try_get::<Uuid, _>("workspace_id")?.into(),
        entry_id: row.try_get::<Uuid, _>("entry_id")?.into(),
        connection_id: row.try_get::<Option<Uuid>, _>("connection_id")?.map(Into::into),
        secret_ref: row.try_get("secret_ref")?,
        account_id: row.try_get::<Option<&str>, _>("account_id")?.map(Into::into),
        state: row.try_get::<&str, _>("state")?.parse().map_err(|_| StorageError::Corrupt { column: "state" })?,
        reason: row.try_get("reason")?,
        message: row.try_get("message")?,
        sealed_password: row.try_get("sealed_password")?,
        expected_revision: row.try_get("expected_revision")?,
        attempts: number(row, "attempts")?,
        attempt_until: optional_time(row, "attempt_until")?,
        next_attempt_at: optional_time(row, "next_attempt_at")?,
        failed_settings: row
            .try_get::<Option<i64>, _>("failed_settings")?
            .map(|version| u64::try_from(version).map_err(|_| StorageError::Corrupt { column: "failed_settings" }))
            .transpose()?,
        version: number(row, "version")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

/// A number that is not negative and fits.
pub(super) fn number<N: TryFrom<i64>>(row: &SqliteRow, column: &'static str) -> Result<N, StorageError> {
    N::try_from(row.try_get(column)?).map_err(|_| StorageError::Corrupt { column })
}

/// SQLite's integers are signed. What the broker counts stays far below the limit; at the limit it
/// stays there.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn bytes<const N: usize>(row: &SqliteRow, column: &'static str) -> Result<[u8; N], StorageError> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map_err(|_| StorageError::Corrupt { column })
}

pub(super) fn time(row: &SqliteRow, column: &'static str) -> Result<Timestamp, StorageError> {
    Timestamp::from_millisecond(row.try_get(column)?).map_err(|_| StorageError::Corrupt { column })
}

pub(super) fn optional_time(row: &SqliteRow, column: &'static str) -> Result<Option<Timestamp>, StorageError> {
    let milliseconds: Option<i64> = row.try_get(column)?;
    milliseconds.map(|time| Timestamp::from_millisecond(time).map_err(|_| StorageError::Corrupt { column })).transpose()
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
        match error.as_database_error().map(|error| error.kind()) {
            Some(UniqueViolation) => Self::Conflict(Constraint::Unique),
            Some(ForeignKeyViolation) => Self::Conflict(Constraint::Reference),
            _ => Self::Failed(error.into()),
        }
    }
}
