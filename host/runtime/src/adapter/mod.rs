//! The trait that the host's own code calls, and one small file behind it for each version of the
//! contract.
//!
//! Adding a version adds a file and a line in [`VERSIONS`]; dropping one deletes them.

mod session;
mod v0_1;
mod v0_2;

use wasmtime::Store;
use wasmtime::component::{InstancePre, Linker};

use crate::contract::{
    Changes, Description, FieldSpec, Interfaces, ItemPage, Lease, Resolved, Selection, Settings, Verified, WriteAccess,
};
use crate::error::{ErrorCode, ProviderError};
use crate::state::CallState;

/// The outer error: the sandbox ended the call. The inner result: the provider's own answer.
pub(crate) type CallResult<T> = wasmtime::Result<Result<T, ProviderError>>;

/// A new instance, for one call. The functions of optional interfaces return
/// [`ErrorCode::Unsupported`] if the component does not export them.
#[async_trait::async_trait]
pub(crate) trait Instance: Send + Sync {
    async fn describe(&self, store: &mut Store<CallState>) -> wasmtime::Result<Description>;
    async fn normalize_reference(&self, store: &mut Store<CallState>, reference: &str) -> CallResult<String>;
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
        selection: &Selection,
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
    async fn list_fields(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
    ) -> CallResult<Vec<FieldSpec>>;
    async fn renew_lease(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        lease: &str,
        seconds: Option<u32>,
    ) -> CallResult<Lease>;
    async fn revoke_lease(&self, store: &mut Store<CallState>, settings: &Settings, lease: &str) -> CallResult<()>;
    async fn refresh(&self, store: &mut Store<CallState>, settings: &Settings) -> CallResult<()>;
}

/// The error for an optional interface that the component does not export.
pub(crate) fn unsupported<T>(interface: &str) -> CallResult<T> {
    let what = match interface {
        "item-fields" => "further fields of items",
        "leases" => "values under a lease",
        _ => "durable state that it renews",
    };
    let message = format!("this provider has no {what}");
    Ok(Err(ProviderError::new(ErrorCode::Unsupported, message)))
}

/// The component's functions have other types than the host's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct OtherShape(String);

impl OtherShape {
    /// Marks a failed look-up of functions, which is always about their types.
    fn of(error: &wasmtime::Error) -> wasmtime::Error {
        wasmtime::Error::new(Self(format!("{error:#}")))
    }
}

/// A component whose imports are linked, ready to be instantiated.
#[async_trait::async_trait]
pub(crate) trait Adapter: Send + Sync {
    /// The optional interfaces that the component exports.
    fn interfaces(&self) -> Interfaces;

    async fn instantiate(&self, store: &mut Store<CallState>) -> wasmtime::Result<Box<dyn Instance>>;
}

/// A version of the contract.
pub(crate) struct Version {
    /// What a component of this version exports.
    pub(crate) export: &'static str,
    /// Links what the version's world imports beyond WASI.
    pub(crate) link: fn(&mut Linker<CallState>) -> wasmtime::Result<()>,
    /// Finds the exports.
    pub(crate) adapt: fn(InstancePre<CallState>) -> wasmtime::Result<Box<dyn Adapter>>,
}

/// Every version that this host can run, oldest first.
pub(crate) const VERSIONS: &[Version] = &[v0_1::VERSION, v0_2::VERSION];

/// The name of the contract's export in every version.
pub(crate) const EXPORT: &str = "keyway:provider/secret-provider";
