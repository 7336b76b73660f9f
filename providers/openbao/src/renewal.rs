//! Tokens are renewed before they end, also when nothing else uses the connection.
//!
//! The host calls [`refresh`] by the time that the durable state names. With a token among the
//! settings, the state is only the number of seconds for which it was last renewed. With a JWT it
//! is the token of the login: the JWT itself ends soon, so a restart of the host would end the
//! connection. An AppRole can log in again, and keeps nothing.

use keyway_sdk::{Result, http::Method};

use crate::{
    client::Client,
    config::Login,
    durable,
    login::{AuthAnswer, TokenData},
};

/// Asks the host to renew a token of the settings, if it ends and can be renewed.
pub(crate) fn schedule(client: &Client<'_>, token: &TokenData) -> Result<()> {
    if matches!(client.config.login, Login::Token(_)) && token.renewable && token.ttl > 0 {
        store_seconds(client, token.ttl)?;
    }
    Ok(())
}

/// Renews the token.
pub(crate) fn refresh(client: &mut Client<'_>) -> Result<()> {
    match client.config.login {
        Login::AppRole { .. } => Ok(()),
        Login::Jwt { .. } => client.log_in(None),
        Login::Token(_) => {
            let body = serde_json::Map::new();
            let answer = client.call(Method::Post, "auth/token/renew-self", &[], Some(&body))?;
            let AuthAnswer { auth } = answer.json()?;
            if auth.renewable && auth.lease_duration > 0 {
                store_seconds(client, auth.lease_duration)?;
            }
            Ok(())
        }
    }
}

/// Stores how many seconds a token of the settings has left. It is to be renewed after half of
/// them.
fn store_seconds(client: &Client<'_>, seconds: u64) -> Result<()> {
    let refresh_by = client.now() + seconds / 2;
    durable::store(client.host(), seconds.to_string().as_bytes(), Some(refresh_by), |stored| {
        let earlier = std::str::from_utf8(&stored.data).ok().and_then(|text| text.parse::<u64>().ok());
        if earlier.is_some_and(|earlier| seconds < earlier / 2) {
            client
                .warn("the token was renewed for a shorter time than before: it comes to the end of its longest life");
        }
    })
}
