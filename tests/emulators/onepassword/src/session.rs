//! Sessions: from `auth/start` to the key that signs and seals everything after it.
//!
//! A session goes through its phases once and in order: started, exchanged (public values), keyed
//! (proof accepted), complete. A request for another phase is refused as not authenticated.
//! [`Caller`] proves that a request belongs to a complete session and is correctly signed; handlers
//! of data require one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use zeroize::Zeroizing;

use crate::encoding::upper_id;
use crate::envelope::{Envelope, SymmetricKey};
use crate::faults::Fault;
use crate::gate::ActiveFault;
use crate::mac::{Counters, RequestMac, Signed};
use crate::random;
use crate::refusal::Refusal;
use crate::srp::{ClientPublic, Ephemeral};
use crate::store::Account;
use crate::world::{World, lock};

/// One sign-in.
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) account: Arc<Account>,
    /// Whether the device was known at the start. If not, the session can only be used to register
    /// it.
    pub(crate) device_known: bool,
    /// The public values, kept between `auth` and `confirm-key`.
    pub(crate) exchange: Mutex<Option<Exchange>>,
    keys: OnceLock<Keys>,
    complete: AtomicBool,
    counters: Mutex<Counters>,
    throttling: Mutex<Option<(String, Instant)>>,
}

/// The public values of a sign-in.
pub(crate) struct Exchange {
    pub(crate) ephemeral: Ephemeral,
    pub(crate) client: ClientPublic,
}

struct Keys {
    transport: SymmetricKey,
    mac: RequestMac,
}

/// How long a checked throttling token is not checked again in its session.
const THROTTLING_CHECK: Duration = Duration::from_secs(60);

impl Session {
    /// Both sides have proven that they know the key.
    pub(crate) fn agree(&self, key: &Zeroizing<[u8; 32]>) -> Result<(), Refusal> {
        let mac = RequestMac::new(key).map_err(|_| Refusal::Internal)?;
        let keys = Keys { transport: SymmetricKey::new(&self.id, **key), mac };
        self.keys.set(keys).map_err(|_| Refusal::NotAuthenticated)
    }

    pub(crate) fn complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    fn check_throttling(&self, world: &World, headers: &HeaderMap) -> Result<(), Refusal> {
        let token = text(headers, "op-throttling-token");
        let known = lock(&self.throttling)
            .as_ref()
            .is_some_and(|(known, at)| Some(known.as_str()) == token && at.elapsed() < THROTTLING_CHECK);
        if known {
            return Ok(());
        }
        check_throttling(&self.account, world, headers)?;
        *lock(&self.throttling) = token.map(|token| (token.to_owned(), Instant::now()));
        Ok(())
    }
}

/// Checks the throttling token of a request without a session that could cache the result.
pub(crate) fn check_throttling(account: &Account, world: &World, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(key) = &account.throttling else { return Ok(()) };
    let rule = world.rules().throttling;
    key.verify(text(headers, "op-throttling-token"), Timestamp::now(), rule).map_err(|error| {
        tracing::debug!(account = account.name, %error, "refused");
        Refusal::BadRequest("invalid_throttling_token")
    })
}

/// The sessions, by id.
#[derive(Default)]
pub(crate) struct Sessions(RwLock<HashMap<String, Arc<Session>>>);

impl Sessions {
    /// Starts one.
    pub(crate) fn start(&self, account: Arc<Account>, device_known: bool) -> Arc<Session> {
        let session = Arc::new(Session {
            id: upper_id(random::bytes()),
            account,
            device_known,
            exchange: Mutex::new(None),
            keys: OnceLock::new(),
            complete: AtomicBool::new(false),
            counters: Mutex::default(),
            throttling: Mutex::new(None),
        });
        let mut sessions = self.0.write().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(session.id.clone(), Arc::clone(&session));
        session
    }

    /// The session named by the headers.
    pub(crate) fn of(&self, headers: &HeaderMap) -> Result<Arc<Session>, Refusal> {
        let id = text(headers, "x-agilebits-session-id").ok_or(Refusal::NotAuthenticated)?;
        let sessions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        sessions.get(id).cloned().ok_or(Refusal::NotAuthenticated)
    }

    pub(crate) fn end(&self, id: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    pub(crate) fn end_of_account(&self, account: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|_, session| session.account.name != account);
    }

    pub(crate) fn clear(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A correctly signed request in a session that has agreed on a key, but may not be complete.
pub(crate) struct Signatory {
    pub(crate) session: Arc<Session>,
    fault: Option<Fault>,
}

/// A correctly signed request in a complete session.
pub(crate) struct Caller(Signatory);

impl std::ops::Deref for Caller {
    type Target = Signatory;

    fn deref(&self) -> &Signatory {
        &self.0
    }
}

impl FromRequestParts<Arc<World>> for Signatory {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, world: &Arc<World>) -> Result<Self, Refusal> {
        let session = world.sessions.of(&parts.headers)?;
        session.check_throttling(world, &parts.headers)?;
        let keys = session.keys.get().ok_or(Refusal::NotAuthenticated)?;
        let signed = Signed {
            session_id: &session.id,
            method: parts.method.as_str(),
            host: &world.host,
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
        };
        let header = text(&parts.headers, "x-agilebits-mac").unwrap_or_default();
        let rule = world.rules().counters;
        let verified = keys.mac.verify(signed, header).and_then(|counter| lock(&session.counters).take(counter, rule));
        if let Err(error) = verified {
            tracing::debug!(method = signed.method, path = signed.path, %error, "refused");
            return Err(Refusal::NotAuthenticated);
        }
        let fault = parts.extensions.get::<ActiveFault>().and_then(|active| active.0.clone());
        Ok(Self { session, fault })
    }
}

impl FromRequestParts<Arc<World>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, world: &Arc<World>) -> Result<Self, Refusal> {
        let signatory = Signatory::from_request_parts(parts, world).await?;
        if signatory.session.complete.load(Ordering::Acquire) {
            Ok(Self(signatory))
        } else {
            Err(Refusal::NotAuthenticated)
        }
    }
}

impl Signatory {
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.session.account
    }

    /// The fault that applies to this call.
    pub(crate) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Opens the request's body.
    pub(crate) fn open<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Refusal> {
        let keys = self.session.keys.get().ok_or(Refusal::NotAuthenticated)?;
        let envelope: Envelope = serde_json::from_slice(body).map_err(|_| Refusal::BadRequest("not_an_envelope"))?;
        let plaintext = keys.transport.open(&envelope).map_err(|error| {
            tracing::debug!(%error, "refused");
            Refusal::BadRequest("envelope_cannot_be_opened")
        })?;
        serde_json::from_slice(&plaintext).map_err(|error| {
            tracing::debug!(%error, "refused");
            Refusal::BadRequest("unexpected_content")
        })
    }

    /// Seals the answer.
    pub(crate) fn answer(&self, answer: &impl Serialize) -> Result<Response, Refusal> {
        let keys = self.session.keys.get().ok_or(Refusal::NotAuthenticated)?;
        let plaintext = match &self.fault {
            Some(Fault::GarbagePlaintext) => Zeroizing::new(b"{\"contentVersion\":".to_vec()),
            Some(Fault::EnvelopeError { code, message }) => {
                let error = json!({ "errorCode": code, "errorMessage": message, "requestId": 0 });
                Zeroizing::new(error.to_string().into_bytes())
            }
            _ => Zeroizing::new(serde_json::to_vec(answer).map_err(|_| Refusal::Internal)?),
        };
        let envelope = match &self.fault {
            Some(Fault::WrongEnvelopeKey) => SymmetricKey::new(&self.session.id, random::bytes()).seal(&plaintext),
            Some(Fault::WrongEnvelopeKid) => {
                Envelope { kid: upper_id(random::bytes()), ..keys.transport.seal(&plaintext) }
            }
            Some(Fault::TamperedEnvelope) => tampered(keys.transport.seal(&plaintext)),
            _ => keys.transport.seal(&plaintext),
        };
        let body = serde_json::to_vec(&envelope).map_err(|_| Refusal::Internal)?;
        Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
    }
}

/// The same with one bit of its first byte flipped.
fn tampered(envelope: Envelope) -> Envelope {
    let other = if envelope.data.starts_with('A') { "B" } else { "A" };
    let rest = envelope.data.get(1..).unwrap_or_default();
    Envelope { data: format!("{other}{rest}"), ..envelope }
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
