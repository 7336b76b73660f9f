//! The component that served each provider type last, so that a change of it is noticed.

use async_trait::async_trait;

use crate::StorageError;

/// The components that served last.
#[async_trait]
pub trait ComponentStorage: Send + Sync + 'static {
    /// The digest of the component that served this provider type last; `None` when none did.
    async fn component(&self, provider_type: &str) -> Result<Option<String>, StorageError>;

    /// Notes the digest of the component that serves this provider type.
    async fn put_component(&self, provider_type: &str, digest: &str) -> Result<(), StorageError>;
}
