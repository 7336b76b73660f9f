//! Logging in with an AppRole or a JWT.

use keyway_sdk::{Error, ErrorCode, Result, http};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{config::Login, errors};

/// A token that a login gave, and its life.
#[derive(Clone, Serialize, Deserialize)]
// Clone: one copy goes into the session.
pub(crate) struct Token {
    pub(crate) value: Zeroizing<String>,
    /// When to renew it, if it can be renewed.
    pub(crate) renew_at: Option<u64>,
    /// When it ends.
    pub(crate) ends_at: Option<u64>,
}

impl Token {
    /// Whether it must be renewed, or replaced if it cannot be renewed.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.renew_at.or(self.ends_at).is_some_and(|at| at <= now)
    }
}

/// The part `auth` of an answer.
#[derive(Deserialize)]
pub(crate) struct Auth {
    client_token: Zeroizing<String>,
    /// Seconds; 0 for a token that never ends.
    pub(crate) lease_duration: u64,
    pub(crate) renewable: bool,
}

#[derive(Deserialize)]
pub(crate) struct AuthAnswer {
    pub(crate) auth: Auth,
}

impl Auth {
    /// The token. It is renewed after two thirds of its life.
    pub(crate) fn into_token(self, now: u64) -> Token {
        let ends = self.lease_duration > 0;
        Token {
            value: self.client_token,
            renew_at: (self.renewable && ends).then(|| now + self.lease_duration * 2 / 3),
            ends_at: ends.then(|| now + self.lease_duration),
        }
    }
}

/// What the server says about a token.
#[derive(Deserialize)]
pub(crate) struct TokenData {
    pub(crate) display_name: String,
    /// Seconds left; 0 for a token that never ends.
    pub(crate) ttl: u64,
    pub(crate) renewable: bool,
    pub(crate) expire_time: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    AppRole {
        role_id: &'a str,
        secret_id: &'a str,
    },
    Jwt {
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<&'a str>,
        jwt: &'a str,
    },
}

/// Logs in. `None` for a token among the settings, which needs no login.
pub(crate) fn log_in(http: &http::Client<'_>, login: &Login<'_>, now: u64) -> Result<Option<Token>> {
    let (mount, body) = match *login {
        Login::Token(_) => return Ok(None),
        Login::AppRole { mount, role_id, secret_id } => (mount, Body::AppRole { role_id, secret_id }),
        Login::Jwt { mount, role, jwt } => (mount, Body::Jwt { role, jwt }),
    };
    let mut request = http.post("v1/auth");
    for part in mount.split('/') {
        request = request.segment(part);
    }
    let answer = request.segment("login").json(&body).send()?;
    // 400: "invalid role or secret ID", and all that is wrong with a JWT. 403: also a mount that
    // does not exist.
    let is_refusal = matches!(answer.status(), 400 | 401 | 403);
    let answer = errors::check(answer, http.base()).map_err(|error| {
        if !is_refusal || error.code == ErrorCode::Unavailable {
            return error;
        }
        Error::unauthenticated(format!(
            "{} does not accept this login at the auth method '{mount}'. Check the role, the secret, and where the \
             method is mounted.",
            http.base().host_str().unwrap_or_default()
        ))
    })?;
    let AuthAnswer { auth } = answer.json()?;
    Ok(Some(auth.into_token(now)))
}
