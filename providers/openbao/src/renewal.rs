//! A token among the settings is renewed before it ends, also when nothing else uses it.
//!
//! The host calls [`refresh`] by the time that the durable state names. The state itself is only
//! the time for which the token was last renewed.

use keyway_sdk::{ErrorCode, Result, http::Method, store::StateStore};

use crate::{access::TokenData, client::Client, config::Login, login::AuthAnswer};

/// Asks the host to renew this token, if it ends and can be renewed.
pub(crate) fn schedule(client: &Client<'_>, token: &TokenData) -> Result<()> {
    if matches!(client.config.login, Login::Token(_)) && token.renewable && token.ttl > 0 {
        store(client, token.ttl)?;
    }
    Ok(())
}

/// Renews the token.
pub(crate) fn refresh(client: &mut Client<'_>) -> Result<()> {
    if !matches!(client.config.login, Login::Token(_)) {
        return Ok(());
    }
    let body = serde_json::Map::new();
    let answer = client.call(Method::Post, "auth/token/renew-self", &[], Some(&body))?;
    let AuthAnswer { auth } = answer.json()?;
    if auth.renewable && auth.lease_duration > 0 {
        store(client, auth.lease_duration)?;
    }
    Ok(())
}

/// Stores how many seconds the token has left. It is to be renewed after half of them.
fn store(client: &Client<'_>, seconds: u64) -> Result<()> {
    let states: &dyn StateStore = client.host().store;
    let stored = match states.get() {
        // A host without durable state does not renew tokens. Everything else works.
        Err(error) if error.code == ErrorCode::Unsupported => return Ok(()),
        stored => stored?,
    };
    let earlier = stored.as_ref().and_then(|state| std::str::from_utf8(&state.data).ok()?.parse::<u64>().ok());
    if earlier.is_some_and(|earlier| seconds < earlier / 2) {
        client.warn("the token was renewed for a shorter time than before: it comes to the end of its longest life");
    }
    let refresh_by = client.now() + seconds / 2;
    let version = stored.map(|state| state.version);
    match states.put(seconds.to_string().as_bytes(), version, Some(refresh_by)) {
        // Another call has renewed it at the same time.
        Err(error) if matches!(error.code, ErrorCode::Conflict | ErrorCode::Unsupported) => Ok(()),
        result => result.map(drop),
    }
}
