//! What a provider keeps between calls: one login under any number of concurrent calls.
//!
//! Nothing in a provider's own memory survives a call, so a login session is handed to the host,
//! which keeps it sealed in one slot for each connection and may drop it at any time.
//! [`with_session`] is the whole procedure: use what is there, log in when there is nothing, and
//! when the server refuses the session, make at most one new login, which the host grants to one
//! call at a time.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::{Error, Host, Result, wiped};

/// The slot of this connection, in bytes. [`Typed`] is the comfortable form.
pub trait SessionStore {
    /// What was put last; `None` when nothing was put yet, or it expired or was dropped.
    fn get(&self) -> Option<SessionState>;

    /// Stores `data` for at most `ttl_seconds` (1 to 86,400; 0 drops the state) and returns the
    /// slot's generation.
    ///
    /// It takes effect when this call was granted the renewal, or when nothing was put since this
    /// call last received the state and nobody is renewing. Otherwise it is ignored, which is no
    /// error: a new login wins over an addition to an old one.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Unsupported`](crate::ErrorCode::Unsupported) for more than 256 KiB.
    fn put(&self, data: &[u8], ttl_seconds: u32) -> Result<u64>;

    /// Asks for the right to log in. `refused` is the generation that the server no longer accepts,
    /// or `None` when [`get`](Self::get) returned nothing. Waits while another call has that right.
    ///
    /// # Errors
    ///
    /// The error of the call that was waited for, if that one ended in an error; return it.
    fn renew(&self, refused: Option<u64>) -> Result<Renewal>;

    /// A number that no other call on this connection has received or will receive, ascending.
    fn counter(&self) -> u64;
}

/// What was put last.
pub struct SessionState {
    /// Exactly the bytes that were put.
    pub data: Zeroizing<Vec<u8>>,
    /// Which put they came from; greater for each later one.
    pub generation: u64,
}

/// Prints the length only.
impl std::fmt::Debug for SessionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionState").field("bytes", &self.data.len()).field("generation", &self.generation).finish()
    }
}

/// The answer to [`SessionStore::renew`].
#[derive(Debug)]
pub enum Renewal {
    /// This call, and no other, may log in now. The right ends with a put or with the call.
    Granted,
    /// Another call has put a newer state meanwhile. Use it, do not log in.
    Renewed(SessionState),
}

/// The slot of this connection, holding a `T` as JSON. The bytes on the way are wiped; wiping `T`
/// itself is up to `T` (see [`zeroize::ZeroizeOnDrop`]).
pub struct Typed<'a, T> {
    store: &'a dyn SessionStore,
    holds: PhantomData<fn() -> T>,
}

/// A state of the slot.
#[derive(Debug)]
pub enum Stored<T> {
    /// Something that is a `T`.
    Valid {
        /// What was put.
        value: T,
        /// Which put it came from.
        generation: u64,
    },
    /// Something that is no `T`, for example put by another build of this provider. Good for
    /// nothing but to be renewed.
    Foreign {
        /// Which put it came from.
        generation: u64,
    },
}

impl<'a, T: Serialize + DeserializeOwned> Typed<'a, T> {
    /// The slot of this connection.
    pub fn new(store: &'a dyn SessionStore) -> Self {
        Self { store, holds: PhantomData }
    }

    /// What was put last.
    pub fn get(&self) -> Option<Stored<T>> {
        self.store.get().map(decode)
    }

    /// Stores the value; see [`SessionStore::put`].
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Unsupported`](crate::ErrorCode::Unsupported) for more than 256 KiB of JSON,
    /// [`ErrorCode::Other`](crate::ErrorCode::Other) with the code `invalid-session` for a value
    /// that cannot be written as JSON.
    pub fn put(&self, value: &T, ttl_seconds: u32) -> Result<u64> {
        let data = wiped::to_json(value).map_err(|_| {
            Error::other("invalid-session", "The login session cannot be stored. This is a fault of the provider.")
        })?;
        self.store.put(&data, ttl_seconds)
    }

    /// Asks for the right to log in; see [`SessionStore::renew`]. `None` means granted.
    ///
    /// # Errors
    ///
    /// The error of the call that was waited for.
    pub fn renew(&self, refused: Option<u64>) -> Result<Option<Stored<T>>> {
        Ok(match self.store.renew(refused)? {
            Renewal::Granted => None,
            Renewal::Renewed(state) => Some(decode(state)),
        })
    }
}

fn decode<T: DeserializeOwned>(state: SessionState) -> Stored<T> {
    match serde_json::from_slice(&state.data) {
        Ok(value) => Stored::Valid { value, generation: state.generation },
        Err(_) => Stored::Foreign { generation: state.generation },
    }
}

/// How many states of other calls are tried before the refusal is believed. Each is newer than the
/// one before, so more than two are only seen when other calls keep adding to a state that the
/// server refuses.
const MAX_STATES: usize = 8;

/// Makes a call with the connection's session, logging in when needed.
///
/// * There is a session: `call` gets it.
/// * There is none, or `is_refused` says of the error that the server no longer accepts it: either
///   another call has logged in meanwhile and its session is used, or `login` runs, at most once,
///   and what it returns is stored for the seconds that it says and handed to `call`.
/// * A session that was refused straight after this call's own login is an error like any other.
///
/// `call` may run several times, so it should do its reading first. To add to the stored session,
/// it uses [`Typed::put`].
///
/// # Errors
///
/// What `login` or `call` return, or the error of another call's login that this one waited for.
pub fn with_session<T, R>(
    host: &Host<'_>,
    login: impl FnOnce() -> Result<(T, u32)>,
    call: impl Fn(&T) -> Result<R>,
    is_refused: impl Fn(&Error) -> bool,
) -> Result<R>
where
    T: Serialize + DeserializeOwned,
{
    let slot = Typed::<T>::new(host.session);
    let mut state = match slot.get() {
        Some(state) => Some(state),
        None => slot.renew(None)?,
    };
    for _ in 0..MAX_STATES {
        let refused = match state {
            None => break,
            Some(Stored::Foreign { generation }) => generation,
            Some(Stored::Valid { value, generation }) => match call(&value) {
                Err(error) if is_refused(&error) => generation,
                result => return result,
            },
        };
        state = slot.renew(Some(refused))?;
    }
    if state.is_some() {
        return Err(Error::unavailable("The login session keeps being replaced by other calls. Try again."));
    }
    let (value, ttl_seconds) = login()?;
    slot.put(&value, ttl_seconds)?;
    call(&value)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
