//! Mapping between records and SQLite rows: the columns of each record's table, and how a column
//! holds a value. Rows are checked: a value that the broker never writes is an error, not a
//! default.

use std::sync::Arc;

use jiff::Timestamp;
use sqlx::error::DatabaseError;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Decode, Encode, FromRow, Row, Type, TypeInfo, ValueRef, query};
use uuid::Uuid;

use super::explain::explained;
use crate::{
    ApiKeyId, ApiKeyRecord, AuditAnchorRecord, ConnectionId, ConnectionRecord, ConnectionStateRecord, Constraint,
    EntryId, EntryRecord, HostKeyRecord, MasterKeyRecord, PauseReason, RequestCount, RotationId, RotationRecord,
    RotationState, Scopes, StorageError, TfaMethod, WorkspaceId, WorkspaceKeyRecord, WorkspaceRecord,
};

pub(crate) type Statement = Query<'static, Sqlite, SqliteArguments>;

/// Leaves out rows without a possible identifier: they are damaged, and cost no other row.
pub(super) const IS_ID: &str = "typeof(id) = 'blob' AND length(id) = 16";

/// What precedes the number of a row whose identifier is damaged.
pub(super) const PLACE: &str = "rowid:";

/// A record, and its table.
pub(crate) trait Record: for<'r> FromRow<'r, SqliteRow> + Send + Unpin {
    const TABLE: &'static str;
    /// The columns that change, then those that are fixed when the record is added.
    const COLUMNS: [&'static [&'static str]; 2];

    fn bind_changing(&self, statement: Statement) -> Statement;

    fn bind_fixed(&self, statement: Statement) -> Statement;

    /// This record after a change to `record`: what is fixed stays.
    fn changed_to(self, record: &Self) -> Self;

    /// Whether the row holds this very record.
    fn is_in(&self, row: &SqliteRow) -> sqlx::Result<bool>;
}

/// What selects a sealed row: its workspace and its `id`.
pub(crate) type Key = (Uuid, Uuid);

/// A record whose row has a seal.
pub(crate) trait Sealed: Record {
    /// The column of its workspace.
    const WORKSPACE: &'static str;

    fn key(&self) -> Key;
}

macro_rules! sealed {
    ($($record:ident by $workspace:ident in $column:literal and $id:ident),*) => {$(
        impl Sealed for $record {
            const WORKSPACE: &'static str = $column;

            fn key(&self) -> Key {
                (self.$workspace.as_uuid(), self.$id.as_uuid())
            }
        }
    )*};
}

sealed! {
    WorkspaceRecord by id in "id" and id,
    ApiKeyRecord by workspace_id in "workspace_id" and id,
    ConnectionRecord by workspace_id in "workspace_id" and id,
    ConnectionStateRecord by workspace_id in "workspace_id" and connection_id,
    EntryRecord by workspace_id in "workspace_id" and id,
    RotationRecord by workspace_id in "workspace_id" and id
}

/// The statement that adds a record; `rest` follows the values.
pub(super) fn insert<R: Record>(record: &R, rest: &str) -> Statement {
    let columns = R::COLUMNS.concat();
    let values = vec!["?"; columns.len()].join(", ");
    let sql = format!("INSERT INTO {} ({}) VALUES ({values}) {rest}", R::TABLE, columns.join(", "));
    record.bind_fixed(record.bind_changing(query(AssertSqlSafe(sql))))
}

/// The statement that changes a record; `rest` follows the assignments and selects the row.
pub(super) fn update<R: Record>(record: &R, rest: &str) -> Statement {
    let [changing, _] = R::COLUMNS;
    let sql = format!("UPDATE {} SET {} = ?{rest}", R::TABLE, changing.join(" = ?, "));
    record.bind_changing(query(AssertSqlSafe(sql)))
}

/// The name of a field's column.
macro_rules! column {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $column:ident) => {
        stringify!($column)
    };
}

/// Lists for each record the fixed fields, the fields that change, and methods whose results are
/// also written. The column has the same name unless another one is given.
macro_rules! records {
    ($($record:ident in $table:literal {
        $($fixed:ident $(as $fixed_column:ident)?),*;
        $($changing:ident $(as $column:ident)?),*;
        $($computed:ident),*
    })*) => {$(
        impl FromRow<'_, SqliteRow> for $record {
            fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
                Ok(Self {
                    $($fixed: read(row, column!($fixed $($fixed_column)?))?,)*
                    $($changing: read(row, column!($changing $($column)?))?,)*
                })
            }
        }

        impl Record for $record {
            const TABLE: &'static str = $table;
            const COLUMNS: [&'static [&'static str]; 2] = [
                &[$(column!($changing $($column)?),)* $(stringify!($computed),)*],
                &[$(column!($fixed $($fixed_column)?),)*],
            ];

            fn bind_changing(&self, statement: Statement) -> Statement {
                statement $(.bind(self.$changing.stored()))* $(.bind(self.$computed().stored()))*
            }

            fn bind_fixed(&self, statement: Statement) -> Statement {
                statement $(.bind(self.$fixed.stored()))*
            }

            fn changed_to(self, record: &Self) -> Self {
                let Self { $($changing,)* .. } = record;
                Self { $($fixed: self.$fixed,)* $($changing: $changing.clone(),)* }
            }

            fn is_in(&self, row: &SqliteRow) -> sqlx::Result<bool> {
                Ok(true
                    $(&& holds(row, column!($fixed $($fixed_column)?), &self.$fixed)?)*
                    $(&& holds(row, column!($changing $($column)?), &self.$changing)?)*
                    $(&& holds(row, stringify!($computed), &self.$computed())?)*)
            }
        }
    )*};
}

records! {
    MasterKeyRecord in "master_keys" { term, key_id, created_at;; }
    HostKeyRecord in "host_keys" { name, created_at; wrapped_key, master_term, rows_sealed, has_audit_root, version; }
    WorkspaceKeyRecord in "workspace_keys" { workspace_id, term, created_at; wrapped_key, master_term, version; }
    WorkspaceRecord in "workspaces" { id, external_id, created_at; name, updated_at; }
    ApiKeyRecord in "api_keys" { id, workspace_id, name, lookup, hash, scopes, created_at; revoked_at; }
    ConnectionRecord in "connections" {
        id, workspace_id, cache_generation, created_at;
        name, provider_type, sealed_settings, hints, account, account_key, account_id, rate_limit_tier, read_only,
        cache_ttl_seconds, settings_version, version, updated_at;
    }
    ConnectionStateRecord in "connection_states" {
        connection_id as id, workspace_id, settings_version;
        sealed_state, version, refresh_at, refresh_attempts, updated_at;
    }
    EntryRecord in "vault_entries" {
        id, workspace_id, created_at;
        user as permissioned_user_id, domain, alias as user_alias, tfa_method, passkey, connection_id, secret_ref,
        cache_ttl_seconds, sealed_credentials, sealed_attributes, session_data_set_at, version, updated_at;
    }
    RotationRecord in "rotations" {
        id, workspace_id, entry_id, connection_id, secret_ref, account_id, begun_by, created_at;
        state, reason, message, sealed_password, expected_revision, attempts, attempt_until, next_attempt_at,
        failed_settings, version, updated_at;
        open_entry_id, open_item
    }
    RequestCount in "request_counts" { slot; requests; }
    AuditAnchorRecord in "audit_anchors" { series; number, head, mac, at; }
}

/// A value, and how a column holds it.
pub(super) trait Value: Sized {
    type Stored: for<'r> Decode<'r, Sqlite> + for<'q> Encode<'q, Sqlite> + Type<Sqlite> + PartialEq + 'static;

    fn stored(&self) -> Self::Stored;

    /// `None` for a value that is never stored.
    fn from_stored(stored: Self::Stored) -> Option<Self>;
}

macro_rules! values {
    ($($value:ty as $stored:ty: $to:expr, $from:expr;)*) => {$(
        impl Value for $value {
            type Stored = $stored;

            fn stored(&self) -> $stored {
                let to: fn(&Self) -> $stored = $to;
                to(self)
            }

            fn from_stored(stored: $stored) -> Option<Self> {
                let from: fn($stored) -> Option<Self> = $from;
                from(stored)
            }
        }
    )*};
}

values! {
    bool as bool: Clone::clone, Some;
    String as String: Clone::clone, Some;
    Vec<u8> as Vec<u8>: Clone::clone, Some;
    Arc<str> as String: ToString::to_string, |text| Some(text.into());
    u32 as i64: |number| i64::from(*number), |number| number.try_into().ok();
    u64 as i64: |number| signed(*number), |number| number.try_into().ok();
    Timestamp as i64: |time| time.as_millisecond(), |time| Timestamp::from_millisecond(time).ok();
    WorkspaceId as Uuid: Self::as_uuid, |id| Some(id.into());
    ApiKeyId as Uuid: Self::as_uuid, |id| Some(id.into());
    ConnectionId as Uuid: Self::as_uuid, |id| Some(id.into());
    EntryId as Uuid: Self::as_uuid, |id| Some(id.into());
    RotationId as Uuid: Self::as_uuid, |id| Some(id.into());
    Scopes as String: ToString::to_string, |text| text.parse().ok();
    TfaMethod as String: ToString::to_string, |text| text.parse().ok();
    RotationState as String: ToString::to_string, |text| text.parse().ok();
    PauseReason as String: ToString::to_string, |text| Self::from_name(&text);
}

impl<const N: usize> Value for [u8; N] {
    type Stored = Vec<u8>;

    fn stored(&self) -> Vec<u8> {
        self.to_vec()
    }

    fn from_stored(stored: Vec<u8>) -> Option<Self> {
        stored.try_into().ok()
    }
}

/// A value that may be NULL.
impl<V: Value> Value for Option<V> {
    type Stored = Option<V::Stored>;

    fn stored(&self) -> Self::Stored {
        self.as_ref().map(V::stored)
    }

    fn from_stored(stored: Self::Stored) -> Option<Self> {
        stored.map_or(Some(None), |stored| V::from_stored(stored).map(Some))
    }
}

pub(super) fn read<V: Value>(row: &SqliteRow, column: &'static str) -> sqlx::Result<V> {
    V::from_stored(row.try_get(column)?)
        .ok_or_else(|| sqlx::Error::Decode(StorageError::Corrupt { column: column.to_owned() }.into()))
}

/// The identifier in a column, if it is in the form in which a host writes one.
pub(super) fn id_in(row: &SqliteRow, column: &str) -> Option<Uuid> {
    let is_blob = row.try_get_raw(column).is_ok_and(|value| value.type_info().name() == "BLOB");
    if is_blob { row.try_get(column).ok() } else { None }
}

/// What a row goes by whose identifier is damaged. The statement selects `rowid AS place`.
pub(super) fn place_in(row: &SqliteRow) -> String {
    format!("{PLACE}{}", row.try_get::<i64, _>("place").unwrap_or_default())
}

/// What a key of a workspace goes by, likewise.
pub(super) fn key_in(row: &SqliteRow) -> String {
    match (id_in(row, "workspace_id"), row.try_get::<i64, _>("term")) {
        (Some(workspace), Ok(term)) => format!("{workspace}/{term}"),
        _ => place_in(row),
    }
}

fn holds<V: Value>(row: &SqliteRow, column: &'static str, value: &V) -> sqlx::Result<bool> {
    Ok(row.try_get::<V::Stored, _>(column)? == value.stored())
}

/// SQLite's integers are signed. The broker's counts stay far below the limit; larger ones
/// saturate.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The first `limit` rows whose sizes add up to at most `bytes`, always including the first row.
pub(super) fn fitting(rows: &[SqliteRow], limit: u32, bytes: u64) -> sqlx::Result<Vec<Uuid>> {
    let (mut fitting, mut sum) = (Vec::new(), 0_u64);
    for row in rows.iter().take(limit as usize) {
        sum = sum.saturating_add(read(row, "size")?);
        if sum > bytes && !fitting.is_empty() {
            break;
        }
        fitting.push(row.try_get("id")?);
    }
    Ok(fitting)
}

/// Whether another connection held the lock for longer than this one waits.
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
            // A value of another type than this program writes.
            (_, sqlx::Error::ColumnDecode { index, .. }) => {
                Self::Corrupt { column: index.trim_matches('"').to_owned() }
            }
            (_, error) => Self::Failed(explained(error)),
        }
    }
}
