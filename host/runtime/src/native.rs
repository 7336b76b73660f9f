//! A provider that is not a component, for tests of programs that embed the host. Only with the
//! feature `testing`.
//!
//! Its calls pass everything that a component's calls pass except the sandbox: the limits on time
//! and concurrent calls, the gate before requests (each call counts as one request), the checks of
//! its answers, and the search for secrets in its messages.

use std::sync::Arc;

use async_trait::async_trait;
use wasmtime::Store;

use crate::adapter::{Adapter, CallResult, Instance, unsupported};
use crate::contract::{
    Changes, Description, FieldSpec, Interfaces, ItemPage, Lease, Resolved, Selection, Settings, Verified, WriteAccess,
};
use crate::egress::{RequestEffect, RequestGate};
use crate::error::{ErrorCode, LoadError, ProviderError};
use crate::provider::Provider;
use crate::runtime::Runtime;
use crate::state::CallState;

/// The functions of a provider, as the contract has them.
#[async_trait]
pub trait NativeProvider: Send + Sync + 'static {
    /// The provider's description of itself.
    fn describe(&self) -> Description;

    /// The normal form of a reference; by default the same text.
    async fn normalize_reference(&self, reference: &str) -> Result<String, ProviderError> {
        Ok(reference.to_owned())
    }

    /// Does this connection work?
    async fn verify(&self, settings: &Settings) -> Result<Verified, ProviderError>;

    /// A page of items.
    async fn list_items(&self, settings: &Settings, page: Option<&str>) -> Result<ItemPage, ProviderError>;

    /// The requested values of an item.
    async fn resolve(
        &self,
        settings: &Settings,
        reference: &str,
        selection: &Selection,
    ) -> Result<Resolved, ProviderError>;

    /// Changes an item, and returns its new revision.
    async fn write(
        &self,
        settings: &Settings,
        reference: &str,
        changes: &Changes,
        expected_revision: Option<&str>,
    ) -> Result<String, ProviderError>;

    /// May `write` change this item?
    async fn check_write_access(&self, settings: &Settings, reference: &str) -> Result<WriteAccess, ProviderError>;
}

impl Runtime {
    /// Loads a native provider. Its description is checked like a component's.
    ///
    /// # Errors
    /// [`LoadError::InvalidDescription`] and the like.
    pub async fn native(&self, provider: impl NativeProvider) -> Result<Provider, LoadError> {
        self.describe(Box::new(Native(Arc::new(provider))), "native".into(), "").await
    }
}

struct Native(Arc<dyn NativeProvider>);

#[async_trait]
impl Adapter for Native {
    fn interfaces(&self) -> Interfaces {
        Interfaces::default()
    }

    async fn instantiate(&self, _: &mut Store<CallState>) -> wasmtime::Result<Box<dyn Instance>> {
        Ok(Box::new(Self(self.0.clone())))
    }
}

/// Asks the gate about the call's one request.
async fn admit(gate: Option<Arc<dyn RequestGate>>, effect: RequestEffect) -> Result<(), ProviderError> {
    match gate {
        Some(gate) => gate.admit(effect).await.map_err(|why| ProviderError::new(ErrorCode::Unavailable, why)),
        None => Ok(()),
    }
}

/// A call with one request.
macro_rules! with_request {
    ($store:expr, $effect:ident, $call:expr) => {{
        let gate = $store.data().gate();
        match admit(gate, RequestEffect::$effect).await {
            Ok(()) => Ok($call.await),
            Err(error) => Ok(Err(error)),
        }
    }};
}

#[async_trait]
impl Instance for Native {
    async fn describe(&self, _: &mut Store<CallState>) -> wasmtime::Result<Description> {
        Ok(self.0.describe())
    }

    async fn normalize_reference(&self, _: &mut Store<CallState>, reference: &str) -> CallResult<String> {
        Ok(self.0.normalize_reference(reference).await)
    }

    async fn verify(&self, store: &mut Store<CallState>, settings: &Settings) -> CallResult<Verified> {
        with_request!(store, Safe, self.0.verify(settings))
    }

    async fn list_items(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        page: Option<&str>,
    ) -> CallResult<ItemPage> {
        with_request!(store, Safe, self.0.list_items(settings, page))
    }

    async fn resolve(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
        selection: &Selection,
    ) -> CallResult<Resolved> {
        with_request!(store, Safe, self.0.resolve(settings, reference, selection))
    }

    async fn write(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
        changes: &Changes,
        expected_revision: Option<&str>,
    ) -> CallResult<String> {
        with_request!(store, Unsafe, self.0.write(settings, reference, changes, expected_revision))
    }

    async fn check_write_access(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
    ) -> CallResult<WriteAccess> {
        with_request!(store, Safe, self.0.check_write_access(settings, reference))
    }

    async fn list_fields(&self, _: &mut Store<CallState>, _: &Settings, _: &str) -> CallResult<Vec<FieldSpec>> {
        unsupported("item-fields")
    }

    async fn renew_lease(&self, _: &mut Store<CallState>, _: &Settings, _: &str, _: Option<u32>) -> CallResult<Lease> {
        unsupported("leases")
    }

    async fn revoke_lease(&self, _: &mut Store<CallState>, _: &Settings, _: &str) -> CallResult<()> {
        unsupported("leases")
    }

    async fn refresh(&self, _: &mut Store<CallState>, _: &Settings) -> CallResult<()> {
        unsupported("refresh")
    }
}
