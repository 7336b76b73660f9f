//! Misbehaviour on demand: faults replace the correct answers to the next calls, of all endpoints
//! or of one.
//!
//! Faults wait in a queue. A call takes the first fault that matches its endpoint; a fault is
//! removed after its number of uses.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::calls::Endpoint;
use crate::world::lock;

/// A fault, and the calls that it affects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Affects only calls of this endpoint; if absent, calls of any.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
    /// How many matching calls are let through first.
    #[serde(default)]
    pub skip: u32,
    /// How many calls it affects; if absent, all until it is cleared.
    #[serde(default = "once")]
    pub times: Option<u32>,
    /// What happens to those calls.
    pub fault: Fault,
}

fn once() -> Option<u32> {
    Some(1)
}

/// What happens to a call.
///
/// If the request is *handled*, it takes effect (a change is stored) and only the answer is
/// affected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Answers with a status; not handled.
    Status {
        /// The HTTP status.
        status: u16,
        /// The value of `retry-after`.
        #[serde(default)]
        retry_after_seconds: Option<u32>,
        /// Where `retry-after` is stated.
        #[serde(default)]
        retry_after_in: RetryAfterForm,
        /// The body, if it differs from that of a usual error.
        #[serde(default)]
        body: Option<Value>,
    },
    /// Waits first; then handled and answered as usual.
    Delay {
        /// The delay.
        milliseconds: u64,
    },
    /// Never answers; not handled. The connection is closed after the given time.
    Hang {
        /// The longest wait, one minute by default.
        #[serde(default = "one_minute")]
        milliseconds: u64,
    },
    /// Closes the connection without an answer.
    Drop {
        /// Whether the request is handled first.
        #[serde(default)]
        handled: bool,
    },
    /// Status 200 and a body that is not JSON; not handled.
    Garbage,
    /// Handled; the answer promises its full length, and the connection is closed after half of it.
    Truncated,
    /// Handled; the answer has another content type.
    ContentType {
        /// The value of `content-type`.
        #[serde(default = "html")]
        value: String,
    },
    /// Status 200 and a body of zeros of the given size; not handled.
    Oversized {
        /// The body's length.
        bytes: usize,
    },
    /// Redirects elsewhere (status 302); not handled.
    Redirect {
        /// The value of `location`.
        location: String,
    },
    /// Handled; one bit of the answer's envelope is flipped, so that its tag is wrong.
    TamperedEnvelope,
    /// Handled; the answer's envelope is sealed under another key than the session's.
    WrongEnvelopeKey,
    /// Handled; the answer's envelope names another key.
    WrongEnvelopeKid,
    /// Handled; the answer's envelope is valid, but its plaintext is not JSON.
    GarbagePlaintext,
    /// Handled; status 200, and an error object inside the envelope instead of the answer.
    EnvelopeError {
        /// `errorCode`.
        code: i32,
        /// `errorMessage`.
        message: String,
    },
    /// `PATCH` only: nothing is stored, and every item fails with this code.
    FailedItems {
        /// The code.
        code: i32,
    },
    /// `item` only: the item is answered as it was before its last change, as a replica does for a
    /// moment.
    Outdated,
    /// `auth` only: the server's public value is zero modulo N, which would fix the key.
    ZeroPublicValue,
    /// `confirm-key` only: the server's proof is wrong, as if the server did not know the account.
    WrongServerProof,
}

/// Where `retry-after` is stated. Which form the real service uses is not public.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryAfterForm {
    /// In the header of that name, in seconds.
    #[default]
    Header,
    /// In the header of that name, as an HTTP date.
    HeaderDate,
    /// In the body, as a member `retryAfter`, in seconds.
    Body,
    /// In both header and body.
    Both,
}

fn one_minute() -> u64 {
    60_000
}

fn html() -> String {
    "text/html".to_owned()
}

impl FaultRule {
    /// For the next call of any endpoint.
    #[must_use]
    pub fn next(fault: Fault) -> Self {
        Self { endpoint: None, skip: 0, times: Some(1), fault }
    }

    /// For the next call of that endpoint.
    #[must_use]
    pub fn next_of(endpoint: Endpoint, fault: Fault) -> Self {
        Self { endpoint: Some(endpoint), ..Self::next(fault) }
    }

    /// Applies to that many calls instead of one.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Applies to all calls, until faults are cleared.
    #[must_use]
    pub fn always(self) -> Self {
        Self { times: None, ..self }
    }

    /// Applies only after that many matching calls.
    #[must_use]
    pub fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }
}

impl Fault {
    /// A status without further details.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status { status, retry_after_seconds: None, retry_after_in: RetryAfterForm::Header, body: None }
    }

    /// Status 429 with `retry-after`.
    #[must_use]
    pub fn rate_limited(retry_after_seconds: u32, retry_after_in: RetryAfterForm) -> Self {
        Self::Status { status: 429, retry_after_seconds: Some(retry_after_seconds), retry_after_in, body: None }
    }
}

/// The queued faults.
#[derive(Default)]
pub(crate) struct FaultQueue(Mutex<Vec<FaultRule>>);

impl FaultQueue {
    pub(crate) fn add(&self, rule: FaultRule) {
        lock(&self.0).push(rule);
    }

    pub(crate) fn clear(&self) {
        lock(&self.0).clear();
    }

    pub(crate) fn waiting(&self) -> Vec<FaultRule> {
        lock(&self.0).clone()
    }

    /// Takes the fault for a call of that endpoint from the queue.
    pub(crate) fn take(&self, endpoint: Endpoint) -> Option<Fault> {
        let mut rules = lock(&self.0);
        let matching = rules.iter().position(|rule| rule.endpoint.is_none_or(|it| it == endpoint))?;
        let rule = rules.get_mut(matching)?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        let fault = rule.fault.clone();
        if let Some(times) = &mut rule.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                rules.remove(matching);
            }
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_used_up_after_its_number_of_times() {
        let queue = FaultQueue::default();
        queue.add(FaultRule::next(Fault::Garbage).times(2));
        assert_eq!(queue.take(Endpoint::Item), Some(Fault::Garbage));
        assert_eq!(queue.take(Endpoint::Vault), Some(Fault::Garbage));
        assert_eq!(queue.take(Endpoint::Item), None);
    }

    #[test]
    fn a_fault_for_one_endpoint_lets_the_others_pass() {
        let queue = FaultQueue::default();
        queue.add(FaultRule::next_of(Endpoint::Item, Fault::Truncated).after(1));
        assert_eq!(queue.take(Endpoint::Vault), None);
        assert_eq!(queue.take(Endpoint::Item), None);
        assert_eq!(queue.take(Endpoint::Item), Some(Fault::Truncated));
        assert_eq!(queue.waiting(), []);
    }

    #[test]
    fn a_rule_in_json_needs_no_more_than_its_kind() {
        let rule: FaultRule = serde_json::from_str(r#"{"fault":{"kind":"status","status":503}}"#).unwrap();
        assert_eq!(rule, FaultRule::next(Fault::status(503)));
        assert!(serde_json::from_str::<FaultRule>(r#"{"fault":{"kind":"garbage"},"time":3}"#).is_err());
        let rule: FaultRule =
            serde_json::from_str(r#"{"fault":{"kind":"hang"},"times":null,"endpoint":"auth-start"}"#).unwrap();
        let hang = Fault::Hang { milliseconds: 60_000 };
        assert_eq!(rule, FaultRule::next_of(Endpoint::AuthStart, hang).always());
    }
}
