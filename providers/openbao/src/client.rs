//! Requests with a token, and the session that keeps it.
//!
//! Invariants: a call of the provider logs in at most once. Concurrent calls share one login: the
//! host grants the right to log in to one of them. A refused token had no effect, so its request is
//! sent again with the token of a new login, even if it writes.

use keyway_sdk::{
    Error, ErrorCode, Host, Level, Result,
    http::{self, Answer, Method},
    session::{Stored, Typed},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    config::{Config, Login},
    durable,
    engine::Mount,
    errors,
    login::{AuthAnswer, Token, log_in},
};

/// How many sessions of other calls are tried before a refusal is final. Each is newer than the
/// previous one.
const MAX_RENEWALS: u32 = 4;

/// The most that a host keeps a session, by the contract, and what a token without an end gets.
const MAX_SECONDS: u64 = 86_400;

/// What one call leaves to the next.
#[derive(Default, Serialize, Deserialize)]
struct Session {
    /// Absent with a token among the settings.
    token: Option<Token>,
    mounts: Vec<Mount>,
}

/// One call's access to the server.
pub(crate) struct Client<'a> {
    host: Host<'a>,
    http: http::Client<'a>,
    pub(crate) config: Config<'a>,
    slot: Typed<'a, Session>,
    session: Session,
    /// The generation of the session, as of when this call received it.
    generation: Option<u64>,
    /// Whether this call itself has logged in.
    logged_in: bool,
}

impl<'a> Client<'a> {
    /// Makes no request yet.
    pub(crate) fn new(host: &Host<'a>, config: Config<'a>) -> Self {
        // Agents and proxies of HashiCorp refuse requests without this header.
        let mut http = host.client(config.address.clone()).default_header("x-vault-request", "true");
        if let Some(namespace) = config.namespace {
            http = http.default_header("x-vault-namespace", namespace);
        }
        let slot = Typed::<Session>::new(host.session);
        let (session, generation) = match slot.get() {
            Some(Stored::Valid { value, generation }) => (value, Some(generation)),
            Some(Stored::Foreign { generation }) => (Session::default(), Some(generation)),
            None => (Session::default(), None),
        };
        Self { host: *host, http, config, slot, session, generation, logged_in: false }
    }

    /// The current time in Unix seconds.
    pub(crate) fn now(&self) -> u64 {
        self.host.clock.now()
    }

    /// The host's parts that this provider uses besides HTTP.
    pub(crate) fn host(&self) -> &Host<'a> {
        &self.host
    }

    /// Warns the operator.
    pub(crate) fn warn(&self, message: &str) {
        self.host.log.write(Level::Warn, message);
    }

    /// The mounts that earlier calls have asked for.
    pub(crate) fn mounts(&self) -> &[Mount] {
        &self.session.mounts
    }

    /// Replaces the known mounts, for later calls as well.
    pub(crate) fn remember_mounts(&mut self, mounts: Vec<Mount>) -> Result<()> {
        // The host takes the first state only from the call that has the right to store it.
        if self.generation.is_none()
            && let Some(stored) = self.slot.renew(None)?
        {
            let (Stored::Valid { generation, .. } | Stored::Foreign { generation }) = stored;
            self.generation = Some(generation);
        }
        self.session.mounts = mounts;
        // The generation stays that of the login: if another call has logged in since, the host
        // ignores this addition.
        let stored = self.slot.put(&self.session, self.seconds_left())?;
        _ = self.generation.get_or_insert(stored);
        Ok(())
    }

    /// Reads a path of the server, decoded and without a leading slash.
    pub(crate) fn get(&mut self, path: &str, query: &[(&str, &str)]) -> Result<Answer> {
        self.call::<()>(Method::Get, path, query, None)
    }

    /// Makes a request, and returns its answer if it is a success.
    pub(crate) fn call<B: Serialize>(
        &mut self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&B>,
    ) -> Result<Answer> {
        let answer = self.send(method, path, query, body)?;
        errors::check(answer, &self.config.address)
    }

    /// Makes a request, and returns its answer unless it refuses the token.
    pub(crate) fn send<B: Serialize>(
        &mut self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&B>,
    ) -> Result<Answer> {
        loop {
            let token = self.token()?;
            let mut request = self.http.request(method, "v1").header("x-vault-token", token.as_bytes());
            for part in path.split('/') {
                request = request.segment(part);
            }
            for (name, value) in query {
                request = request.query(name, value);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            if method == Method::Patch {
                request = request.header("content-type", "application/merge-patch+json");
            }
            let answer = request.send()?;
            if !errors::refuses_token(&answer) {
                return Ok(answer);
            }
            if self.logged_in || matches!(self.config.login, Login::Token(_)) {
                return Err(errors::unauthenticated(self.config.server()));
            }
            self.log_in(Some(&token))?;
        }
    }

    fn token(&mut self) -> Result<Zeroizing<String>> {
        if let Login::Token(token) = self.config.login {
            return Ok(Zeroizing::new(token.to_owned()));
        }
        let now = self.now();
        if self.session.token.as_ref().is_none_or(|token| token.is_due(now)) && !self.logged_in {
            self.log_in(None)?;
        }
        match &self.session.token {
            Some(token) => Ok(token.value.clone()),
            None => Err(Error::other("no-session", "The login session was lost. Try again.")),
        }
    }

    /// Replaces the token: by that of a call that has logged in since, by one that is kept durably,
    /// by renewing it if it is not refused, else by a login.
    pub(crate) fn log_in(&mut self, refused: Option<&str>) -> Result<()> {
        let earlier = self.session.token.clone();
        for _ in 0..MAX_RENEWALS {
            match self.slot.renew(self.generation)? {
                None => {
                    self.logged_in = true;
                    let now = self.now();
                    let is_good = |token: &Token| Some(token.value.as_str()) != refused;
                    let renewed = match (earlier.filter(is_good), self.kept().filter(is_good)) {
                        (None, Some(kept)) if !kept.is_due(now) => Some(kept),
                        (Some(token), _) | (None, Some(token)) => self.renew(&token),
                        (None, None) => None,
                    };
                    self.session.token = match renewed {
                        Some(token) => Some(token),
                        None => log_in(&self.http, &self.config.login, now)?,
                    };
                    self.generation = Some(self.slot.put(&self.session, self.seconds_left())?);
                    return match &self.session.token {
                        Some(token) if self.keeps() => durable::keep(&self.host, token),
                        _ => Ok(()),
                    };
                }
                Some(Stored::Valid { value, generation }) => {
                    self.session = value;
                    self.generation = Some(generation);
                    // Another call may only have added a mount to the same login.
                    let value = |token: &Option<Token>| token.as_ref().map(|token| token.value.clone());
                    if value(&self.session.token).is_some() && value(&self.session.token) != value(&earlier) {
                        return Ok(());
                    }
                }
                Some(Stored::Foreign { generation }) => self.generation = Some(generation),
            }
        }
        Err(Error::unavailable("The login session keeps being replaced by other calls. Try again."))
    }

    /// Whether the token of a login is kept durably: a JWT soon ends, so that a restart of the host
    /// would end the connection. An AppRole can log in again.
    fn keeps(&self) -> bool {
        matches!(self.config.login, Login::Jwt { .. })
    }

    fn kept(&self) -> Option<Token> {
        self.keeps().then(|| durable::token(&self.host)).flatten()
    }

    /// The token with a new end. `None` if only a login helps.
    fn renew(&self, token: &Token) -> Option<Token> {
        let request = self.http.post("v1/auth/token/renew-self").header("x-vault-token", token.value.as_bytes());
        let answer = request.json(&serde_json::Map::new()).send().ok()?;
        let AuthAnswer { auth } = errors::check(answer, &self.config.address).ok()?.json().ok()?;
        let now = self.now();
        let renewed = auth.into_token(now);
        // At the end of its longest life a token is renewed for ever shorter times.
        renewed.ends_at.is_none_or(|at| at > now + MIN_SECONDS).then_some(renewed)
    }

    /// How long the host may keep the session.
    fn seconds_left(&self) -> u32 {
        let ends_at = self.session.token.as_ref().and_then(|token| token.ends_at);
        let left = ends_at.map_or(MAX_SECONDS, |at| at.saturating_sub(self.now()));
        // At most 86,400.
        u32::try_from(left.clamp(1, MAX_SECONDS)).unwrap_or(1)
    }
}

/// A renewal for less than this is not worth its request.
const MIN_SECONDS: u64 = 10;

/// Whether this error may come from what is remembered about the mount.
pub(crate) fn may_be_outdated(error: &Error) -> bool {
    matches!(error.code, ErrorCode::NotFound | ErrorCode::Unsupported | ErrorCode::UnexpectedAnswer)
}
