use std::cell::Cell;

use serde::Deserialize;

use super::*;
use crate::ErrorCode;
use crate::http::HttpError;
use crate::testing::{MemorySession, TestHost};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Login {
    key: String,
}

impl Login {
    fn new(key: &str) -> Self {
        Self { key: key.into() }
    }
}

fn sandbox() -> TestHost {
    TestHost::new(|_| Err(HttpError::Denied))
}

fn stored(session: &dyn SessionStore) -> Option<Stored<Login>> {
    Typed::new(session).get()
}

fn refused() -> Error {
    Error::unauthenticated("expired")
}

fn is_refused(error: &Error) -> bool {
    *error == refused()
}

/// A server that accepts one key, and counts calls.
struct Server {
    accepts: &'static str,
    calls: Cell<u32>,
}

impl Server {
    fn accepting(accepts: &'static str) -> Self {
        Self { accepts, calls: Cell::new(0) }
    }

    fn call(&self, login: &Login) -> Result<String> {
        self.calls.set(self.calls.get() + 1);
        if login.key == self.accepts { Ok(format!("hello {}", login.key)) } else { Err(refused()) }
    }
}

fn never() -> Result<(Login, u32)> {
    panic!("there was no reason to log in")
}

#[test]
fn a_cold_start_logs_in_once_and_keeps_the_session() {
    let (sandbox, server) = (sandbox(), Server::accepting("k1"));
    let host = sandbox.host();
    let answer = with_session(&host, || Ok((Login::new("k1"), 600)), |login| server.call(login), is_refused);
    assert_eq!(answer.unwrap(), "hello k1");
    assert_eq!(sandbox.session.ttl_seconds(), Some(600));

    let again = with_session(&host, never, |login| server.call(login), is_refused);
    assert_eq!(again.unwrap(), "hello k1");
    assert_eq!((sandbox.session.logins(), server.calls.get()), (1, 2));
}

#[test]
fn a_refused_session_makes_one_new_login_and_the_call_again() {
    let (sandbox, server) = (sandbox(), Server::accepting("k2"));
    Typed::new(&sandbox.session).put(&Login::new("k1"), 600).unwrap();
    let answer = with_session(&sandbox.host(), || Ok((Login::new("k2"), 60)), |login| server.call(login), is_refused);
    assert_eq!(answer.unwrap(), "hello k2");
    assert_eq!((sandbox.session.logins(), server.calls.get()), (1, 2));
    assert!(matches!(stored(&sandbox.session), Some(Stored::Valid { value, .. }) if value.key == "k2"));
}

#[test]
fn a_session_that_is_refused_right_after_its_login_is_an_error() {
    let (sandbox, server) = (sandbox(), Server::accepting("never"));
    let answer = with_session(&sandbox.host(), || Ok((Login::new("k1"), 60)), |login| server.call(login), is_refused);
    assert_eq!(answer.unwrap_err(), refused());
    assert_eq!((sandbox.session.logins(), server.calls.get()), (1, 1));
}

#[test]
fn a_refused_login_is_the_error_and_stores_nothing() {
    let sandbox = sandbox();
    let answer: Result<()> =
        with_session(&sandbox.host(), || Err::<(Login, u32), _>(refused()), |_| panic!("no session"), is_refused);
    assert_eq!(answer.unwrap_err(), refused());
    assert!(stored(&sandbox.session).is_none());
}

#[test]
fn an_error_of_another_kind_is_returned_as_it_is() {
    let sandbox = sandbox();
    Typed::new(&sandbox.session).put(&Login::new("k1"), 600).unwrap();
    let error = Error::not_found("no such item");
    let answer: Result<()> = with_session(&sandbox.host(), never, |_: &Login| Err(error.clone()), is_refused);
    assert_eq!(answer.unwrap_err(), error);
    assert_eq!(sandbox.session.logins(), 0);
}

#[test]
fn a_state_that_this_build_does_not_understand_is_replaced() {
    let (sandbox, server) = (sandbox(), Server::accepting("k2"));
    sandbox.session.put(b"\x00not json", 600).unwrap();
    let answer = with_session(&sandbox.host(), || Ok((Login::new("k2"), 60)), |login| server.call(login), is_refused);
    assert_eq!(answer.unwrap(), "hello k2");
    assert_eq!(sandbox.session.logins(), 1);
}

/// A slot in which another call stores a state at every request for a renewal.
struct Shared {
    slot: MemorySession,
    puts: std::cell::RefCell<Vec<&'static str>>,
}

impl SessionStore for Shared {
    fn get(&self) -> Option<SessionState> {
        self.slot.get()
    }

    fn put(&self, data: &[u8], ttl_seconds: u32) -> Result<u64> {
        self.slot.put(data, ttl_seconds)
    }

    fn renew(&self, refused: Option<u64>) -> Result<Renewal> {
        if let Some(key) = self.puts.borrow_mut().pop() {
            Typed::new(&self.slot).put(&Login::new(key), 600)?;
        }
        self.slot.renew(refused)
    }

    fn counter(&self) -> u64 {
        self.slot.counter()
    }
}

#[test]
fn the_login_of_another_call_is_used_instead_of_an_own_one() {
    for first in [None, Some("k1")] {
        let (sandbox, server) = (sandbox(), Server::accepting("k2"));
        let shared = Shared { slot: MemorySession::default(), puts: vec!["k2"].into() };
        if let Some(key) = first {
            Typed::new(&shared).put(&Login::new(key), 600).unwrap();
        }
        let host = Host { session: &shared, ..sandbox.host() };
        let answer = with_session(&host, never, |login| server.call(login), is_refused);
        assert_eq!(answer.unwrap(), "hello k2");
    }
}

#[test]
fn an_addition_to_a_refused_session_does_not_prevent_the_new_login() {
    let (sandbox, server) = (sandbox(), Server::accepting("k2"));
    let shared = Shared { slot: MemorySession::default(), puts: vec!["k1"].into() };
    Typed::new(&shared).put(&Login::new("k1"), 600).unwrap();
    let host = Host { session: &shared, ..sandbox.host() };
    let answer = with_session(&host, || Ok((Login::new("k2"), 60)), |login| server.call(login), is_refused);
    assert_eq!(answer.unwrap(), "hello k2");
    assert_eq!(server.calls.get(), 3, "the old one, the old one again with an addition, the new one");
}

#[test]
fn a_session_that_is_replaced_again_and_again_ends_in_an_error() {
    let (sandbox, server) = (sandbox(), Server::accepting("k2"));
    let shared = Shared { slot: MemorySession::default(), puts: vec!["k1"; 100].into() };
    let host = Host { session: &shared, ..sandbox.host() };
    let answer = with_session(&host, never, |login| server.call(login), is_refused);
    assert!(answer.unwrap_err().code == ErrorCode::Unavailable);
    assert_eq!(server.calls.get() as usize, MAX_STATES);
}

#[test]
fn an_oversized_session_is_refused_and_the_old_one_stays() {
    let sandbox = sandbox();
    let slot = Typed::new(&sandbox.session);
    slot.put(&Login::new("k1"), 600).unwrap();
    let error = slot.put(&Login::new(&"k".repeat(300_000)), 600).unwrap_err();
    assert_eq!(error.code, ErrorCode::Unsupported);
    assert!(matches!(slot.get(), Some(Stored::Valid { value, .. }) if value.key == "k1"));
}

#[test]
fn the_bytes_of_a_session_are_not_printed() {
    let sandbox = sandbox();
    sandbox.session.put(b"hunter2", 600).unwrap();
    let printed = format!("{:?}", sandbox.session.get().unwrap());
    assert_eq!(printed, "SessionState { bytes: 7, generation: 1 }");
}
