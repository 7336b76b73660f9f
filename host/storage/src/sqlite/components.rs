//! The statements about components.

use async_trait::async_trait;
use sqlx::{query, query_scalar};

use super::SqliteStorage;
use crate::{ComponentStorage, StorageError};

#[async_trait]
impl ComponentStorage for SqliteStorage {
    async fn component(&self, provider_type: &str) -> Result<Option<String>, StorageError> {
        // Anything else than a digest was not written by a host, and would get into the audit log.
        let sql = "SELECT digest FROM components WHERE provider_type = ?
                       AND typeof(digest) = 'text' AND length(digest) = 64 AND digest NOT GLOB '*[^0-9a-f]*'";
        Ok(query_scalar(sql).bind(provider_type).fetch_optional(&self.readers).await?)
    }

    async fn put_component(&self, provider_type: &str, digest: &str) -> Result<(), StorageError> {
        let sql = "INSERT INTO components (provider_type, digest) VALUES (?, ?)
            ON CONFLICT (provider_type) DO UPDATE SET digest = excluded.digest";
        query(sql).bind(provider_type).bind(digest).execute(self.writer()?).await?;
        Ok(())
    }
}
