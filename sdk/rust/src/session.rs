//! State that a provider keeps between calls: one login for any number of concurrent calls.
//!
//! Nothing in a provider's own memory survives a call. A login session is therefore passed to the
//! host, which keeps it sealed in one slot for each connection and may drop it at any time.
//! [`with_session`] is the whole procedure: it uses the existing session, logs in if there is none,
//! and makes at most one new login if the server refuses the session. The host grants the login to
//! one call at a time.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::{Error, Host, Result, wiped};

/// The slot of this connection, in bytes. [`Typed`] is more convenient.
pub trait SessionStore {
    /// The last state; `None` if there was no `put` yet, or the state has expired or was dropped.
    fn get(&self) -> Option<SessionState>;

    /// Stores `data` for at most `ttl_seconds` (1 to 86,400; 0 drops the state) and returns the
    /// slot's generation.
    ///
    /// It takes effect if this call holds the right to log in, or if nothing was stored since this
    /// call last received the state and no other call is renewing. Otherwise it is ignored without
    /// an error: a new login takes precedence over an addition to an old one.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Unsupported`](crate::ErrorCode::Unsupported) for more than 256 KiB.
    fn put(&self, data: &[u8], ttl_seconds: u32) -> Result<u64>;

    /// Asks for the right to log in. `refused` is the generation that the server no longer accepts,
    /// or `None` if [`get`](Self::get) returned nothing. Waits while another call has the right.
    ///
    /// # Errors
    ///
    /// The error that ended the other call, if it did end in one; return it.
    fn renew(&self, refused: Option<u64>) -> Result<Renewal>;

    /// A number that no other call on this connection receives, ascending.
    fn counter(&self) -> u64;
}

/// The last state stored.
pub struct SessionState {
    /// Exactly the bytes that were put.
    pub data: Zeroizing<Vec<u8>>,
    /// The generation of that `put`; it grows with each one.
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
    /// This call, and no other, may log in now. The right ends with a `put` or with the call.
    Granted,
    /// Another call has stored a newer state. Use it and do not log in.
    Renewed(SessionState),
}

/// The slot of this connection, holding a `T` as JSON. The intermediate bytes are wiped; `T` itself
/// must wipe its own (see [`zeroize::ZeroizeOnDrop`]).
pub struct Typed<'a, T> {
    store: &'a dyn SessionStore,
    holds: PhantomData<fn() -> T>,
}

/// A state of the slot.
#[derive(Debug)]
pub enum Stored<T> {
    /// A valid `T`.
    Valid {
        /// The stored value.
        value: T,
        /// Its generation.
        generation: u64,
    },
    /// Not a valid `T`, for example because another build of this provider stored it. It can only
    /// be renewed.
    Foreign {
        /// Its generation.
        generation: u64,
    },
}

impl<'a, T: Serialize + DeserializeOwned> Typed<'a, T> {
    /// The slot of this connection.
    pub fn new(store: &'a dyn SessionStore) -> Self {
        Self { store, holds: PhantomData }
    }

    /// The last state stored.
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
    /// The error that ended the other call that had the right.
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

/// How many states of other calls are tried before the refusal counts. Each is newer than the
/// previous one, so more than two occur only if other calls keep adding to a state that the server
/// refuses.
const MAX_STATES: usize = 8;

/// Makes a call with the connection's session, logging in when needed.
///
/// * If there is a session, `call` receives it.
/// * If there is none, or `is_refused` says that the server no longer accepts it, a session that
///   another call has created in the meantime is used. Failing that, `login` runs, at most once.
///   Its session is stored for the number of seconds that it returns, and passed to `call`.
/// * If the session of this call's own login is refused at once, that is an error like any other.
///
/// `call` may run several times, so it should read before it changes anything. It adds to the
/// stored session with [`Typed::put`].
///
/// # Errors
///
/// The errors of `login` and `call`, or the error of another call's login that this one waited for.
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
