//! One trait that the host's own code calls, and one small file behind it for each version of the contract.
//!
//! Adding a version adds a file and a line in [`VERSIONS`]; dropping one deletes them.

mod v0_1;

use wasmtime::Store;
use wasmtime::component::{InstancePre, Linker};

use crate::contract::{Changes, Description, Fields, ItemPage, Resolved, Settings, Verified, WriteAccess};
use crate::error::ProviderError;
use crate::state::CallState;

/// Outside: the sandbox ended the call. Inside: the provider's own answer.
pub(crate) type CallResult<T> = wasmtime::Result<Result<T, ProviderError>>;

/// A fresh instance, good for one call.
#[async_trait::async_trait]
pub(crate) trait Instance: Send + Sync {
    async fn describe(&self, store: &mut Store<CallState>) -> wasmtime::Result<Description>;
    async fn verify(&self, store: &mut Store<CallState>, settings: &Settings) -> CallResult<Verified>;
    async fn list_items(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        page: Option<&str>,
    ) -> CallResult<ItemPage>;
    async fn resolve(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
        fields: Fields,
    ) -> CallResult<Resolved>;
    async fn write(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
        changes: &Changes,
        expected_revision: Option<&str>,
    ) -> CallResult<String>;
    async fn check_write_access(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
    ) -> CallResult<WriteAccess>;
}

/// A component whose imports are linked, ready to be instantiated.
#[async_trait::async_trait]
pub(crate) trait Adapter: Send + Sync {
    async fn instantiate(&self, store: &mut Store<CallState>) -> wasmtime::Result<Box<dyn Instance>>;
}

/// A version of the contract.
pub(crate) struct Version {
    /// What a component of this version exports.
    pub(crate) export: &'static str,
    /// Adds what the version's world imports beyond WASI.
    pub(crate) link: fn(&mut Linker<CallState>) -> wasmtime::Result<()>,
    /// Checks the exports.
    pub(crate) adapt: fn(InstancePre<CallState>) -> wasmtime::Result<Box<dyn Adapter>>,
}

/// Every version that this host can run, oldest first.
pub(crate) const VERSIONS: &[Version] = &[v0_1::VERSION];

/// What the contract's export is called in every version.
pub(crate) const EXPORT: &str = "keyway:provider/secret-provider";
