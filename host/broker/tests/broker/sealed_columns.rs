//! The columns of the database that are resealed when a workspace key is rotated.

use keyway::storage::SealedColumn;

use crate::key_rotation::database;
use crate::support::World;

/// Columns of bytes that are not envelopes: identifiers, hashes of random keys, MACs, keyed
/// fingerprints.
const NOT_SEALED: [&str; 31] = [
    "api_keys.hash",
    "api_keys.id",
    "api_keys.seal",
    "api_keys.workspace_id",
    "audit_anchors.head",
    "audit_anchors.mac",
    "audit_roots.root",
    "breakers.subject",
    "connection_states.id",
    "connection_states.seal",
    "connection_states.workspace_id",
    "connections.id",
    "connections.seal",
    "connections.workspace_id",
    "item_generations.workspace_id",
    "master_keys.key_id",
    "request_counts.subject",
    "rotations.connection_id",
    "rotations.entry_id",
    "rotations.id",
    "rotations.open_entry_id",
    "rotations.seal",
    "rotations.workspace_id",
    "vault_entries.connection_id",
    "vault_entries.id",
    "vault_entries.seal",
    "vault_entries.workspace_id",
    "workspace_keys.workspace_id",
    "workspaces.id",
    "workspaces.seal",
    "_sqlx_migrations.checksum",
];

/// A sealed column missing from the list would be lost with the rotated key. Every new column of
/// bytes must therefore be listed here.
#[tokio::test]
async fn every_column_of_bytes_is_sealed_anew_or_known_to_be_no_envelope() {
    let world = World::new().await;
    let mut columns: Vec<String> = sqlx::query_scalar(
        "SELECT m.name || '.' || c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND c.type NOT IN ('INTEGER', 'TEXT', 'BIGINT', 'BOOLEAN', 'TIMESTAMP')",
    )
    .fetch_all(&database(&world).await)
    .await
    .unwrap();
    let mut expected: Vec<_> =
        SealedColumn::ALL.iter().map(|column| format!("{}.{}", column.table(), column.name())).collect();
    // Under the master key.
    expected.extend(["workspace_keys", "host_keys"].map(|table| format!("{table}.wrapped_key")));
    expected.extend(NOT_SEALED.map(str::to_owned));
    columns.sort();
    expected.sort();
    assert_eq!(columns, expected);
}
