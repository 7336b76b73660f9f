//! Sealed tables: their rows are written with a seal and read only with a good one.
//!
//! A row is sealed in the transaction that wrote it, if it is what was meant: a trigger that
//! something else put into the database may have changed it. A change first checks the row that it
//! changes; otherwise it would vouch for a row that something else changed.
//!
//! Lists leave damaged rows out and name them in the log, so one damaged row costs one row.

use std::sync::Arc;

use super::SqliteStorage;
use super::rows::{Key, Sealed, Statement, insert};
use crate::{
    ApiKeyRecord, ConnectionRecord, ConnectionStateRecord, EntryRecord, RotationRecord, RowSealer, StorageError,
    WorkspaceRecord,
};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Row, Sqlite, SqliteConnection, TypeInfo, ValueRef, query, query_scalar};
use tracing::error;

/// How many rows are sealed at a time when a database from before the seals is opened.
const PAGE: u32 = 100;

type Select<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

impl SqliteStorage {
    /// The row that this selects.
    pub(super) async fn one<R: Sealed>(&self, select: Select<'_>) -> Result<Option<R>, StorageError> {
        select.fetch_optional(&self.readers).await?.map(|row| self.verified(&row)).transpose()
    }

    /// The rows that this selects, without damaged ones.
    pub(crate) async fn all<R: Sealed>(&self, select: Select<'_>) -> Result<Vec<R>, StorageError> {
        let rows = select.fetch_all(&self.readers).await?;
        rows.iter()
            .filter_map(|row| match self.verified(row) {
                Err(damaged @ StorageError::Damaged { .. }) => {
                    error!("{damaged}");
                    None
                }
                verified => Some(verified),
            })
            .collect()
    }

    /// The record of a row whose seal is good.
    pub(super) fn verified<R: Sealed>(&self, row: &SqliteRow) -> Result<R, StorageError> {
        let sealer = self.sealer()?;
        // A value that cannot even be read was not written by a host.
        let seal = row.try_get::<Option<Vec<u8>>, _>("seal").unwrap_or_default();
        match (seal, content::<R>(row)) {
            (Some(seal), Ok(content)) if sealer.is_seal(&content, &seal) => {
                R::from_row(row).map_err(|_| damaged::<R>(row))
            }
            _ => Err(damaged::<R>(row)),
        }
    }

    /// Adds a record; `rest` follows the values. Returns whether it was added.
    pub(super) async fn add<R: Sealed>(
        &self,
        connection: &mut SqliteConnection,
        record: &R,
        rest: &str,
    ) -> Result<bool, StorageError> {
        let done = insert(record, rest).execute(&mut *connection).await?;
        let is_added = done.rows_affected() == 1;
        if is_added {
            self.seal_as_meant(connection, record).await?;
        }
        Ok(is_added)
    }

    /// Changes a row by this statement, which changes no other, to what `meant` makes of it.
    /// Returns it; `None` when there is none or the statement did not select it.
    pub(super) async fn change<R: Sealed>(
        &self,
        connection: &mut SqliteConnection,
        key: Key,
        statement: Select<'_>,
        meant: impl FnOnce(R) -> R,
    ) -> Result<Option<R>, StorageError> {
        let Some(row) = select::<R>(key).fetch_optional(&mut *connection).await? else { return Ok(None) };
        let before = self.verified::<R>(&row)?;
        if statement.execute(&mut *connection).await?.rows_affected() != 1 {
            return Ok(None);
        }
        let after = meant(before);
        self.seal_as_meant(connection, &after).await?;
        Ok(Some(after))
    }

    async fn seal_as_meant<R: Sealed>(&self, connection: &mut SqliteConnection, meant: &R) -> Result<(), StorageError> {
        match select::<R>(meant.key()).fetch_optional(&mut *connection).await? {
            Some(row) if meant.is_in(&row)? => self.seal::<R>(connection, meant.key(), &row).await,
            _ => Err(StorageError::Damaged { table: R::TABLE, id: meant.key().1 }),
        }
    }

    async fn seal<R: Sealed>(
        &self,
        connection: &mut SqliteConnection,
        (workspace, id): Key,
        row: &SqliteRow,
    ) -> Result<(), StorageError> {
        let seal = self.sealer()?.seal(&content::<R>(row)?);
        let sql = format!("UPDATE {} SET seal = ? WHERE {} = ? AND id = ?", R::TABLE, R::WORKSPACE);
        query(AssertSqlSafe(sql)).bind(seal.to_vec()).bind(workspace).bind(id).execute(connection).await?;
        Ok(())
    }

    /// Seals all rows of a database from before the seals. None of them has a seal: otherwise this
    /// would vouch for what something else changed.
    pub(super) async fn seal_all(&self, connection: &mut SqliteConnection) -> Result<(), StorageError> {
        self.seal_table::<WorkspaceRecord>(connection).await?;
        self.seal_table::<ApiKeyRecord>(connection).await?;
        self.seal_table::<ConnectionRecord>(connection).await?;
        self.seal_table::<ConnectionStateRecord>(connection).await?;
        self.seal_table::<EntryRecord>(connection).await?;
        self.seal_table::<RotationRecord>(connection).await
    }

    async fn seal_table<R: Sealed>(&self, connection: &mut SqliteConnection) -> Result<(), StorageError> {
        let sealed = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE seal IS NOT NULL)", R::TABLE);
        if query_scalar(AssertSqlSafe(sealed)).fetch_one(&mut *connection).await? {
            return Err(StorageError::AlreadySealed);
        }
        let mut after = i64::MIN;
        loop {
            let sql = format!("SELECT rowid AS place, * FROM {} WHERE rowid > ? ORDER BY rowid LIMIT ?", R::TABLE);
            let rows = query(AssertSqlSafe(sql)).bind(after).bind(PAGE).fetch_all(&mut *connection).await?;
            for row in &rows {
                after = row.try_get("place")?;
                self.seal::<R>(connection, (row.try_get(R::WORKSPACE)?, row.try_get("id")?), row).await?;
            }
            if rows.is_empty() {
                return Ok(());
            }
        }
    }

    fn sealer(&self) -> Result<&dyn RowSealer, StorageError> {
        let sealer = self.sealer.get().map(Arc::as_ref);
        sealer.ok_or_else(|| StorageError::Failed("rows are read and written only with the key of their seals".into()))
    }
}

fn select<R: Sealed>((workspace, id): Key) -> Statement {
    let sql = format!("SELECT * FROM {} WHERE {} = ? AND id = ?", R::TABLE, R::WORKSPACE);
    query(AssertSqlSafe(sql)).bind(workspace).bind(id)
}

fn damaged<R: Sealed>(row: &SqliteRow) -> StorageError {
    StorageError::Damaged { table: R::TABLE, id: row.try_get("id").unwrap_or_default() }
}

/// What a row says, in the form that is sealed: each part with its length, so that no two rows say
/// the same in other words. NULL adds nothing, so a table can get a further column that is NULL in
/// the rows that it has.
fn content<R: Sealed>(row: &SqliteRow) -> Result<Vec<u8>, StorageError> {
    let mut columns = R::COLUMNS.concat();
    columns.sort_unstable();
    let mut content = Vec::with_capacity(512);
    let mut add = |part: &[u8]| {
        content.extend_from_slice(&(part.len() as u64).to_be_bytes());
        content.extend_from_slice(part);
    };
    add(R::TABLE.as_bytes());
    for column in columns {
        let value = row.try_get_raw(column)?;
        if value.is_null() {
            continue;
        }
        let kind = value.type_info().name().to_owned();
        add(column.as_bytes());
        add(kind.as_bytes());
        match &*kind {
            // An envelope is bound to its row by itself.
            "BLOB" if column.starts_with("sealed_") => {}
            "BLOB" => add(row.try_get(column)?),
            "TEXT" => add(row.try_get::<&str, _>(column)?.as_bytes()),
            "INTEGER" => add(&row.try_get::<i64, _>(column)?.to_be_bytes()),
            _ => return Err(damaged::<R>(row)),
        }
    }
    Ok(content)
}
