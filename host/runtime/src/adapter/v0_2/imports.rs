//! The host functions offered to a component beyond WASI.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower};
use zeroize::{Zeroize, Zeroizing};

use super::super::session::{self, Answer};
use super::bindings::keyway::provider::provider_types as types;
use crate::error::ProviderError;
use crate::output::Level;
use crate::state::CallState;
use crate::store::{self, StoreError};

pub(super) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    session::link::<types::Error>(linker, "keyway:provider/session@0.2.0")?;
    link_durable_state(linker)?;
    let mut call = linker.instance("keyway:provider/call-context@0.2.0")?;
    call.func_wrap("remaining-milliseconds", |store: StoreContextMut<'_, CallState>, (): ()| {
        let left = store.data().time_left().as_millis();
        Ok((u32::try_from(left).unwrap_or(u32::MAX),))
    })?;
    let mut log = linker.instance("keyway:provider/host-log@0.2.0")?;
    log.func_wrap("log", |store: StoreContextMut<'_, CallState>, (level, message): (Level, String)| {
        store.data().output.write(level, &Zeroizing::new(message));
        Ok(())
    })
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct StoredState {
    data: Vec<u8>,
    version: u64,
}

impl Drop for StoredState {
    fn drop(&mut self) {
        self.data.zeroize();
    }
}

/// Linked by hand like the session, so that the bytes are wiped.
fn link_durable_state(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    let mut interface = linker.instance("keyway:provider/durable-state@0.2.0")?;
    interface.func_wrap_async(
        "get",
        |store: StoreContextMut<'_, CallState>,
         (): ()|
         -> Box<dyn Future<Output = Answer<Option<StoredState>, types::Error>> + Send + '_> {
            let slot = store.data().state_store.clone();
            Box::new(async move {
                let Some(slot) = slot else { return Ok((Err(ProviderError::from(StoreError::NotKept).into()),)) };
                Ok((match slot.get().await {
                    Ok(state) => Ok(state.map(|mut state| {
                        store.data().passed(&state.data);
                        StoredState { data: std::mem::take(&mut *state.data), version: state.version }
                    })),
                    Err(error) => Err(ProviderError::from(error).into()),
                },))
            })
        },
    )?;
    interface.func_wrap_async(
        "put",
        |store: StoreContextMut<'_, CallState>,
         (data, expected, refresh_by): (Vec<u8>, Option<u64>, Option<u64>)|
         -> Box<dyn Future<Output = Answer<u64, types::Error>> + Send + '_> {
            let slot = store.data().state_store.clone();
            Box::new(async move {
                let data = Zeroizing::new(data);
                store.data().passed(&data);
                let Some(slot) = slot else { return Ok((Err(ProviderError::from(StoreError::NotKept).into()),)) };
                if data.len() > store::MAX_BYTES {
                    return Ok((Err(ProviderError::from(StoreError::TooLarge).into()),));
                }
                let version = slot.put(&data, expected, refresh_by).await;
                Ok((version.map_err(|error| ProviderError::from(error).into()),))
            })
        },
    )
}
