//! Whatever stands in whatever column of the database, also what its schema forbids, costs the row
//! that it stands in: hosts start and serve others, and a person can find and delete the row.

use std::path::Path;

use keyway::keyway_runtime::Runtime;
use keyway::readiness::NotReady;
use keyway::rotations::{BeginRotation, RotationFilter};
use keyway::{Access, Audit, Broker, BrokerError, SqliteStorage};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, raw_sql};

use crate::key_rotation::{manual, master_key};
use crate::rotation::world;

/// Takes away what makes the database refuse values of other types.
const LOOSEN: &str = "
    UPDATE sqlite_schema SET sql = replace(replace(replace(replace(replace(sql,
        ') STRICT', ')'), 'BLOB    NOT NULL', 'BLOB'), 'BLOB NOT NULL', 'BLOB'), 'TEXT    NOT NULL', 'TEXT'),
        'INTEGER NOT NULL', 'INTEGER')
    WHERE type = 'table' AND name NOT LIKE 'sqlite%'";

const COLUMNS: &str = "
    SELECT tables.name, columns.name FROM pragma_table_list AS tables JOIN pragma_table_info(tables.name) AS columns
    WHERE tables.schema = 'main' AND tables.type = 'table' AND tables.name NOT LIKE '%sql%'";

/// One is tried in each column, in turn; all of them with `KEYWAY_TEST_ALL_DAMAGE`, for minutes.
const VALUES: [&str; 7] =
    ["'zz'", "NULL", "1.5", "x'00'", "CAST(x'ff' AS TEXT)", "zeroblob(16)", "-9223372036854775807"];

/// Connects as another program would, which checks nothing.
async fn attacker(database: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(database).foreign_keys(false);
    options.pragma("ignore_check_constraints", "ON").pragma("writable_schema", "ON").connect().await.unwrap()
}

/// Deletes everything that depends on a damaged row of a workspace.
async fn delete_dependents(host: &Broker, access: &Access, connection: bool) -> Result<(), BrokerError> {
    for rotation in host.rotations().list(access, &RotationFilter::default(), None).await?.rotations {
        if rotation.state.is_open() {
            host.rotations().abandon(access, rotation.id, true).await?;
        }
    }
    for entry in host.entries().list(access, None).await?.entries {
        if connection {
            host.entries().delete(access, &entry.id.into()).await?;
        }
    }
    Ok(())
}

/// Deletes the damaged rows, and what depends on them as the errors say.
async fn mend(host: &Broker, access: &Access) -> Result<(), BrokerError> {
    for _ in 0..6 {
        let found = host.database().damaged_rows().await?;
        if found.is_empty() {
            return Ok(());
        }
        for row in &found {
            match host.database().delete_damaged_row(row.table, &row.id).await {
                // It went with another one.
                Ok(()) | Err(BrokerError::NotFound(_)) => {}
                Err(BrokerError::RotationOpen) => delete_dependents(host, access, false).await?,
                Err(BrokerError::ConnectionInUse(_)) => delete_dependents(host, access, true).await?,
                Err(error) => return Err(error),
            }
        }
    }
    Err(BrokerError::Host(format!("{:?}", host.database().damaged_rows().await?).into()))
}

#[tokio::test]
async fn any_value_in_any_column_costs_one_row_which_is_named_and_deleted() {
    let (world, _, entry) = world().await;
    world.begin(&entry).await;
    let own = world.own_entry("own", Some("a password")).await;
    world.broker.rotations().begin(&world.access, BeginRotation::new(own.id)).await.unwrap();
    let created = world.broker.workspaces().create("Other", keyway::Scopes::ALL).await.unwrap();
    let other = Access::operator(created.workspace.id, "tests");
    world.broker.entries().create(&other, manual("user", &created.encryption_key)).await.unwrap();
    world.broker.close().await;
    let original = world.folder.path().join("keyway.db");
    let mut attacker = self::attacker(&original).await;
    raw_sql(LOOSEN).execute(&mut attacker).await.unwrap();
    let columns: Vec<(String, String)> = sqlx::query_as(COLUMNS).fetch_all(&mut attacker).await.unwrap();
    assert!(columns.len() > 80, "{columns:?}");
    raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut attacker).await.unwrap();
    attacker.close().await.unwrap();

    let runtime = Runtime::builder().build().unwrap();
    let all = std::env::var_os("KEYWAY_TEST_ALL_DAMAGE").is_some();
    let mut failures = Vec::new();
    for (number, (table, column)) in columns.iter().enumerate() {
        for (index, value) in VALUES.iter().enumerate() {
            if !all && index != number % VALUES.len() {
                continue;
            }
            let folder = tempfile::tempdir().unwrap();
            let (database, audit) = (folder.path().join("keyway.db"), folder.path().join("audit"));
            std::fs::copy(&original, &database).unwrap();
            std::fs::create_dir(&audit).unwrap();
            for file in std::fs::read_dir(world.audit.path()).unwrap().map(Result::unwrap) {
                std::fs::copy(file.path(), audit.join(file.file_name())).unwrap();
            }
            let mut attacker = self::attacker(&database).await;
            let sql = format!("UPDATE {table} SET {column} = {value} WHERE rowid = (SELECT min(rowid) FROM {table})");
            let changed = raw_sql(AssertSqlSafe(sql)).execute(&mut attacker).await;
            attacker.close().await.unwrap();
            // A number that is the primary key can be nothing else.
            if changed.is_err() {
                continue;
            }
            let case = format!("{table}.{column} = {value}");
            let storage = match SqliteStorage::open(&database).await {
                Ok(storage) => storage,
                Err(error) => {
                    failures.push(format!("{case}: cannot open: {error}"));
                    continue;
                }
            };
            let broker = Broker::builder(runtime.clone(), storage, master_key()).audit(Audit::in_folder(&audit));
            let host = match broker.background_work(false).open().await {
                Ok(host) => host,
                // Nothing opens without these.
                Err(error) if table == "master_keys" || table == "host_keys" => {
                    let told = [&format!("of the table `{table}` was damaged"), "the host's own key is missing"];
                    if !told.iter().any(|told| error.to_string().contains(told)) {
                        failures.push(format!("{case}: {error}"));
                    }
                    continue;
                }
                Err(error) => {
                    failures.push(format!("{case}: {error}"));
                    continue;
                }
            };
            let mut not_ready = host.readiness().check().await;
            not_ready.retain(|reason| *reason != NotReady::NoProvider);
            if !not_ready.is_empty() {
                failures.push(format!("{case}: {not_ready:?}"));
            }
            if let Err(error) = mend(&host, &world.access).await {
                failures.push(format!("{case}: {error}"));
            }
            let entries = host.entries().list(&other, None).await.map(|page| page.entries.len());
            if !matches!(entries, Ok(1)) {
                failures.push(format!("{case}: another workspace has {entries:?}"));
            }
            if let Err(error) = host.keys().encryption_key(&other).await {
                failures.push(format!("{case}: another workspace's key: {error}"));
            }
            host.close().await;
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
