//! What is kept durably: the token of a login that cannot be repeated, or how long a token among
//! the settings was last good for. A host without durable state renews no tokens; everything else
//! works.

use keyway_sdk::{ErrorCode, Host, Result, store::StoredState};
use zeroize::Zeroizing;

use crate::login::Token;

/// The kept token, if it has not ended.
pub(crate) fn token(host: &Host<'_>) -> Option<Token> {
    let state = host.store.get().ok()??;
    let token = serde_json::from_slice::<Token>(&state.data).ok()?;
    token.ends_at.is_none_or(|at| at > host.clock.now()).then_some(token)
}

/// Keeps this token, to be renewed when it is due.
pub(crate) fn keep(host: &Host<'_>, token: &Token) -> Result<()> {
    match serde_json::to_vec(token).map(Zeroizing::new) {
        Ok(data) => store(host, &data, token.renew_at, |_| {}),
        Err(_) => Ok(()),
    }
}

/// Stores a durable state in place of the earlier one, which it shows.
pub(crate) fn store(
    host: &Host<'_>,
    data: &[u8],
    refresh_by: Option<u64>,
    earlier: impl Fn(&StoredState),
) -> Result<()> {
    let states = host.store;
    let stored = match states.get() {
        Err(error) if error.code == ErrorCode::Unsupported => return Ok(()),
        stored => stored?,
    };
    if let Some(stored) = &stored {
        earlier(stored);
    }
    match states.put(data, stored.map(|state| state.version), refresh_by) {
        // Another call has renewed it at the same time.
        Err(error) if matches!(error.code, ErrorCode::Conflict | ErrorCode::Unsupported) => Ok(()),
        result => result.map(drop),
    }
}
