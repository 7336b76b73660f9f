//! Calls in a session: sealed, signed, and repeated once with a new session if the server no longer
//! accepts the old one.
//!
//! Invariants: a call of the provider signs in at most once. Concurrent calls share one sign-in:
//! the host grants the right to sign in to one of them
//! ([`SessionStore::renew`](keyway_sdk::session::SessionStore::renew)) and gives the others the
//! session that it stores. A request refused with 401 had no effect, so it may be sent again, even
//! if it writes.

use std::time::Duration;

use keyway_sdk::{
    Error, Host, Level,
    http::Method,
    session::{Stored, Typed},
};
use zeroize::Zeroizing;

use crate::{
    errors::{Asked, Failure, Refusal, error_code, token_refused},
    random::Random,
    session::Session,
    sign_in::sign_in,
    token::Token,
    wire::{self, Credentials, Wire},
};

/// How many sessions of other calls are tried before a refusal is final. Each is newer than the
/// previous one.
const MAX_RENEWALS: u32 = 4;

/// What a call needs besides the [`Host`].
pub(crate) struct Machine<'a> {
    pub(crate) random: &'a dyn Random,
    /// Sleeps.
    pub(crate) pause: &'a dyn Fn(Duration),
}

/// One call's access to the account.
pub(crate) struct Client<'a> {
    wire: Wire<'a>,
    machine: &'a Machine<'a>,
    slot: Typed<'a, Session>,
    /// The host's session, as of when this call asked for it.
    known: Option<Stored<Session>>,
    /// Whether this call itself has signed in.
    signed_in: bool,
    /// Whether the new session is yet to be stored in the host, see [`Client::sign_in`].
    pending: bool,
    renewals: u32,
}

impl<'a> Client<'a> {
    /// Makes no request yet.
    pub(crate) fn new(host: &'a Host<'a>, token: &'a Token, machine: &'a Machine<'a>) -> Self {
        let slot = Typed::new(host.session);
        let known = slot.get();
        Self { wire: Wire { host, token }, machine, slot, known, signed_in: false, pending: false, renewals: 0 }
    }

    pub(crate) fn token(&self) -> &'a Token {
        self.wire.token
    }

    pub(crate) fn machine(&self) -> &'a Machine<'a> {
        self.machine
    }

    /// The current time in Unix seconds.
    pub(crate) fn now(&self) -> u64 {
        self.wire.host.clock.now()
    }

    /// Warns the operator.
    pub(crate) fn warn(&self, message: &str) {
        self.wire.host.log.write(Level::Warn, message);
    }

    /// The session; signs in if there is none.
    pub(crate) fn session(&mut self) -> Result<&mut Session, Error> {
        if !matches!(self.known, Some(Stored::Valid { .. })) {
            self.renew()?;
        }
        match &mut self.known {
            Some(Stored::Valid { value, .. }) => Ok(value),
            _ => Err(no_session()),
        }
    }

    /// Replaces the current session: with that of a call that has signed in since, otherwise with a
    /// new one.
    pub(crate) fn renew(&mut self) -> Result<(), Error> {
        while self.renewals < MAX_RENEWALS {
            self.renewals += 1;
            let refused = match &self.known {
                Some(Stored::Valid { generation, .. } | Stored::Foreign { generation }) => Some(*generation),
                None => None,
            };
            match self.slot.renew(refused)? {
                None => return self.sign_in(),
                Some(Stored::Valid { mut value, generation }) => {
                    let earlier = self.known.take();
                    // Another call may only have added keys to the refused session; then it is
                    // still the same session.
                    let is_new =
                        !matches!(&earlier, Some(Stored::Valid { value: refused, .. }) if refused.id == value.id);
                    if let Some(Stored::Valid { value: earlier, .. }) = earlier {
                        value.inherit(earlier);
                    }
                    self.known = Some(Stored::Valid { value, generation });
                    if is_new {
                        return Ok(());
                    }
                }
                Some(foreign @ Stored::Foreign { .. }) => self.known = Some(foreign),
            }
        }
        Err(Error::unavailable("The login session keeps being replaced by other calls. Try again."))
    }

    /// Signs in. The host, and all calls that wait for a session, get the new one as soon as it
    /// contains keys: at once if the previous session's keys are known, otherwise after the first
    /// keys are opened ([`Client::remember`]). So the waiting calls need not each ask the server
    /// for the same keys.
    fn sign_in(&mut self) -> Result<(), Error> {
        self.signed_in = true;
        let mut session = sign_in(&self.wire, self.machine.random)?;
        self.pending = true;
        let earlier = match self.known.take() {
            Some(Stored::Valid { value, .. }) => Some(value),
            _ => None,
        };
        let has_keys = earlier.is_some();
        if let Some(earlier) = earlier {
            session.inherit(earlier);
        }
        self.known = Some(Stored::Valid { value: session, generation: 0 });
        if has_keys { self.remember() } else { Ok(()) }
    }

    /// Stores the session with its additions in the host, for later calls.
    pub(crate) fn remember(&mut self) -> Result<(), Error> {
        let now = self.now();
        if let Some(Stored::Valid { value, generation }) = &mut self.known {
            let present = self.slot.put(value, value.seconds_left(now))?;
            // An addition may arrive after a newer login, which takes precedence; `present` is then
            // the generation of the newer one. Keeping the old generation is right in both cases. A
            // new session is always stored.
            if self.pending {
                *generation = present;
                self.pending = false;
            }
        }
        Ok(())
    }

    /// Ends the call. A new session is stored even if nothing was opened with it or the call
    /// failed.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        if self.pending { self.remember() } else { Ok(()) }
    }

    /// Sends a `GET`.
    pub(crate) fn get(&mut self, path: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        self.call(Method::Get, path, None)
    }

    /// Makes a call in the session and returns the plaintext of the answer. If the session is not
    /// accepted, retries with another one.
    pub(crate) fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        loop {
            match self.call_once(method, path, body) {
                Err(Failure::Refused(Refusal::Unauthorized)) => self.after_refusal()?,
                // It may be a proxy's, or the server's in an unknown form. A new session settles
                // it.
                Err(Failure::Refused(Refusal::Foreign(401, _))) if !self.signed_in => self.renew()?,
                result => return result,
            }
        }
    }

    /// Handles a refused session: gets another one, unless this call created it.
    pub(crate) fn after_refusal(&mut self) -> Result<(), Error> {
        if self.signed_in {
            // Do not store it; the calls that wait for it get this error instead.
            self.pending = false;
            return Err(token_refused());
        }
        self.renew()
    }

    fn call_once(&mut self, method: Method, path: &str, body: Option<&[u8]>) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let now = self.now();
        self.session()?;
        let Some(Stored::Valid { value: session, .. }) = &self.known else { return Err(no_session().into()) };
        let body = match body {
            None => Vec::new(),
            Some(plaintext) => session.key().seal(plaintext, self.machine.random)?.to_json(),
        };
        // The session's own token is nearly always fresh enough; the host's clock decides when the
        // session expires.
        let fresh = match (&session.throttle, &self.wire.token.throttle) {
            (Some(token), _) if token.value_at(now).is_some() => None,
            (_, Some(secret)) => Some(secret.issue(now)),
            (_, None) => None,
        };
        let throttle = fresh.as_ref().or(session.throttle.as_ref()).map(|token| token.value());
        let mac = session.sign(self.wire.host.session, method.as_str(), self.wire.token.host(), path);
        let credentials = Credentials { session_id: Some(&session.id), mac: Some(mac), throttle };
        let response = self.wire.send(method, path, &credentials, body)?;
        if let Some(refusal) = Refusal::of(&response, now) {
            return Err(Failure::Refused(refusal));
        }
        let plaintext = wire::open(&response, session.key())?;
        match error_code(&plaintext) {
            Some(code) => Err(Failure::Refused(Refusal::from_code(code))),
            None => Ok(plaintext),
        }
    }

    /// Converts a failure into an error for the host.
    pub(crate) fn error(&self, failure: Failure, asked: Asked<'_>) -> Error {
        failure.into_error(self.wire.token.host(), asked)
    }
}

fn no_session() -> Error {
    Error::other("no-session", "The login session was lost. Try again.")
}
