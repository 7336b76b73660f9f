//! The functions that a component exports.

use secrecy::ExposeSecret;
use wasmtime::Store;

use super::super::{CallResult, Instance, unsupported};
use super::bindings::exports::keyway::provider::{item_fields, leases, refresh, secret_provider as wit};
use super::bindings::keyway::provider::provider_types as types;
use crate::contract::{self, Changes, Description, ItemPage, Resolved, Selection, Settings, Verified, WriteAccess};
use crate::state::CallState;

/// The exported functions of one instance.
pub(super) struct Exports {
    pub(super) provider: wit::Guest,
    pub(super) item_fields: Option<item_fields::Guest>,
    pub(super) leases: Option<leases::Guest>,
    pub(super) refresh: Option<refresh::Guest>,
}

#[async_trait::async_trait]
impl Instance for Exports {
    async fn describe(&self, store: &mut Store<CallState>) -> wasmtime::Result<Description> {
        Ok(self.provider.call_describe(store).await?.into())
    }

    async fn normalize_reference(&self, store: &mut Store<CallState>, reference: &str) -> CallResult<String> {
        Ok(self.provider.call_normalize_reference(store, reference).await?.map_err(Into::into))
    }

    async fn verify(&self, store: &mut Store<CallState>, settings: &Settings) -> CallResult<Verified> {
        let answer = self.provider.call_verify(store, &lower(settings)).await?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }

    async fn list_items(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        page: Option<&str>,
    ) -> CallResult<ItemPage> {
        let answer = self.provider.call_list_items(store, &lower(settings), page).await?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }

    async fn resolve(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
        selection: &Selection,
    ) -> CallResult<Resolved> {
        let further: Vec<&str> = selection.further.iter().map(String::as_str).collect();
        let selection = wit::Selection { standard: selection.standard.into(), further: &further };
        let answer = self.provider.call_resolve(store, &lower(settings), reference, selection).await?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }

    async fn write(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
        changes: &Changes,
        expected_revision: Option<&str>,
    ) -> CallResult<String> {
        let changes = wit::Changes {
            username: changes.username.as_ref().map(|value| value.expose_secret()),
            password: changes.password.as_ref().map(|value| value.expose_secret()),
        };
        let answer = self.provider.call_write(store, &lower(settings), reference, changes, expected_revision).await?;
        Ok(answer.map_err(Into::into))
    }

    async fn check_write_access(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
    ) -> CallResult<WriteAccess> {
        let answer = self.provider.call_check_write_access(store, &lower(settings), reference).await?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }

    async fn list_fields(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
    ) -> CallResult<Vec<contract::FieldSpec>> {
        let Some(interface) = &self.item_fields else { return unsupported("item-fields") };
        let answer = interface.call_list_fields(store, &lower(settings), reference).await?;
        Ok(answer.map(|fields| fields.into_iter().map(Into::into).collect()).map_err(Into::into))
    }

    async fn renew_lease(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        lease: &str,
        seconds: Option<u32>,
    ) -> CallResult<contract::Lease> {
        let Some(interface) = &self.leases else { return unsupported("leases") };
        let answer = interface.call_renew(store, &lower(settings), lease, seconds).await?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }

    async fn revoke_lease(&self, store: &mut Store<CallState>, settings: &Settings, lease: &str) -> CallResult<()> {
        let Some(interface) = &self.leases else { return unsupported("leases") };
        Ok(interface.call_revoke(store, &lower(settings), lease).await?.map_err(Into::into))
    }

    async fn refresh(&self, store: &mut Store<CallState>, settings: &Settings) -> CallResult<()> {
        let Some(interface) = &self.refresh else { return unsupported("refresh") };
        Ok(interface.call_refresh_state(store, &lower(settings)).await?.map_err(Into::into))
    }
}

fn lower(settings: &Settings) -> Vec<types::Setting<'_>> {
    settings.iter().map(|(name, value)| types::Setting { name, value: value.expose_secret() }).collect()
}
