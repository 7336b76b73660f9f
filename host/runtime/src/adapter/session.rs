//! The interface `session`, whose shape is the same in every version except for its error.
//!
//! Linked by hand: the generated bindings would drop the bytes of a session, which contain its
//! keys, without wiping them.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower};
use zeroize::{Zeroize, Zeroizing};

use crate::error::{ErrorCode, ProviderError};
use crate::state::CallState;

#[derive(ComponentType, Lower)]
#[component(record)]
struct State {
    data: Vec<u8>,
    generation: u64,
}

impl Drop for State {
    fn drop(&mut self) {
        self.data.zeroize();
    }
}

impl From<crate::session::State> for State {
    fn from(mut state: crate::session::State) -> Self {
        Self { data: std::mem::take(&mut *state.data), generation: state.generation }
    }
}

#[derive(ComponentType, Lower)]
#[component(variant)]
enum Renewal {
    #[component(name = "granted")]
    Granted,
    #[component(name = "renewed")]
    Renewed(State),
}

/// The return type of a function that can fail with the contract's error.
pub(super) type Answer<T, E> = wasmtime::Result<(Result<T, E>,)>;

/// The error of a host function that needs a connection when there is none.
fn no_connection() -> ProviderError {
    ProviderError::new(ErrorCode::Unsupported, "nothing can be kept without a connection")
}

/// Adds the interface under this name.
pub(super) fn link<E>(linker: &mut Linker<CallState>, name: &str) -> wasmtime::Result<()>
where
    E: ComponentType + Lower + From<ProviderError> + Send + Sync + 'static,
{
    let mut session = linker.instance(name)?;
    session.func_wrap("get", |mut store: StoreContextMut<'_, CallState>, (): ()| {
        let state = store.data_mut().session.as_mut().and_then(|session| session.get());
        if let Some(state) = &state {
            store.data().passed(&state.data);
        }
        Ok((state.map(State::from),))
    })?;
    session.func_wrap(
        "put",
        |mut store: StoreContextMut<'_, CallState>, (data, ttl): (Vec<u8>, u32)| -> Answer<u64, E> {
            let data = Zeroizing::new(data);
            store.data().passed(&data);
            Ok((match &mut store.data_mut().session {
                Some(session) => session.put(&data, ttl).map_err(Into::into),
                None => Err(no_connection().into()),
            },))
        },
    )?;
    session.func_wrap_async(
        "renew",
        |mut store: StoreContextMut<'_, CallState>,
         (refused,): (Option<u64>,)|
         -> Box<dyn Future<Output = Answer<Renewal, E>> + Send + '_> {
            Box::new(async move {
                let Some(session) = &mut store.data_mut().session else {
                    return Ok((Err(no_connection().into()),));
                };
                Ok((match session.renew(refused).await {
                    Ok(crate::session::Renewal::Granted) => Ok(Renewal::Granted),
                    Ok(crate::session::Renewal::Renewed(state)) => {
                        store.data().passed(&state.data);
                        Ok(Renewal::Renewed(state.into()))
                    }
                    Err(error) => Err(error.into()),
                },))
            })
        },
    )?;
    session.func_wrap("counter", |mut store: StoreContextMut<'_, CallState>, (): ()| {
        Ok((store.data_mut().session.as_mut().map_or(0, |session| session.counter()),))
    })
}
