//! Calls in a session: sealed, signed, and repeated once with a new session if the server no longer
//! accepts the old one.
//!
//! Invariants: a call of the provider signs in at most once; concurrent calls sign in once
//! together, because the host grants that right to one of them
//! ([`SessionStore::renew`](keyway_sdk::session::SessionStore::renew)) and hands the others what
//! that one put; a request that was refused with 401 has had no effect, so it may be sent again,
//! also when it writes.

use std::time::Duration;

use keyway_sdk::{
    Error, Host,
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

/// How many sessions of other calls are tried before a refusal is believed. Each is newer than the
/// one before.
const MAX_RENEWALS: u32 = 4;

/// What a call needs of its machine besides the [`Host`].
pub(crate) struct Machine<'a> {
    pub(crate) random: &'a dyn Random,
    /// Waits.
    pub(crate) pause: &'a dyn Fn(Duration),
}

/// One call's access to the account.
pub(crate) struct Client<'a> {
    wire: Wire<'a>,
    machine: &'a Machine<'a>,
    slot: Typed<'a, Session>,
    /// What the host has, or had when this call asked.
    known: Option<Stored<Session>>,
    /// Whether this call has signed in itself.
    signed_in: bool,
    /// Whether the host does not have the new session yet, see [`Client::sign_in`].
    pending: bool,
    renewals: u32,
}

impl<'a> Client<'a> {
    /// Nothing is requested yet.
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

    /// Unix seconds.
    pub(crate) fn now(&self) -> u64 {
        self.wire.host.clock.now()
    }

    /// The session. Signs in if there is none.
    pub(crate) fn session(&mut self) -> Result<&mut Session, Error> {
        if !matches!(self.known, Some(Stored::Valid { .. })) {
            self.renew()?;
        }
        match &mut self.known {
            Some(Stored::Valid { value, .. }) => Ok(value),
            _ => Err(no_session()),
        }
    }

    /// Gets another session than the one at hand: that of a call that signed in meanwhile, else a
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
                    // Another call may only have added to the session that was refused: then it is
                    // the same one.
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

    /// The host gets the new session, and with it all calls that wait for one, as soon as there are
    /// keys in it: at once if those of the session before are known, else with the first that are
    /// opened ([`Client::remember`]), so that not each of them asks the server for the same keys.
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

    /// Hands the session with what was added to it to the host, for the calls to come.
    pub(crate) fn remember(&mut self) -> Result<(), Error> {
        let now = self.now();
        if let Some(Stored::Valid { value, generation }) = &mut self.known {
            let present = self.slot.put(value, value.seconds_left(now))?;
            // An addition may come too late, after a newer login, which wins; then the generation
            // is that of the newer one. The old one is right in both cases. A new session is always
            // taken.
            if self.pending {
                *generation = present;
                self.pending = false;
            }
        }
        Ok(())
    }

    /// The end of the call: the host gets a new session also if nothing was opened with it, or if
    /// the call failed.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        if self.pending { self.remember() } else { Ok(()) }
    }

    /// `GET`.
    pub(crate) fn get(&mut self, path: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        self.call(Method::Get, path, None)
    }

    /// A call in the session: the plaintext of the answer. With another session once more if this
    /// one is not accepted.
    pub(crate) fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        loop {
            match self.call_once(method, path, body) {
                Err(Failure::Refused(Refusal::Unauthorized)) => self.after_refusal()?,
                result => return result,
            }
        }
    }

    /// The server did not accept the session: gets another one, unless this call made it.
    pub(crate) fn after_refusal(&mut self) -> Result<(), Error> {
        if self.signed_in {
            // Not worth keeping; the calls that wait for it get this error instead.
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
        // The session's own token is nearly always young enough; the host's clock decides when the
        // session goes.
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

    /// A failure as an error for the host.
    pub(crate) fn error(&self, failure: Failure, asked: Asked<'_>) -> Error {
        failure.into_error(self.wire.token.host(), asked)
    }
}

fn no_session() -> Error {
    Error::other("no-session", "The login session was lost. Try again.")
}
