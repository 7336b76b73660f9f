//! The signature of every request after sign-in (`x-agilebits-mac`, protocol notes section 6).
//!
//! It covers session, method, host, path, query and a counter, but not the body, which is an
//! envelope under the session key. How the real server treats a repeated counter is not public, so
//! it is a setting ([`CounterRule`](crate::CounterRule)).

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::encoding::from_b64u;
use crate::rules::CounterRule;

const KEY_MESSAGE: &[u8] = b"He never wears a Mac, in the pouring rain. Very strange.";
/// The MAC is truncated to this many bytes.
const MAC_BYTES: usize = 12;

/// The MAC key of one session, ready to use.
pub(crate) struct RequestMac(Hmac<Sha256>);

/// The signed parts of a request.
#[derive(Clone, Copy)]
pub(crate) struct Signed<'a> {
    pub(crate) session_id: &'a str,
    pub(crate) method: &'a str,
    /// Without scheme and port.
    pub(crate) host: &'a str,
    /// With its leading slash.
    pub(crate) path: &'a str,
    /// As received, without the question mark; empty if there is none.
    pub(crate) query: &'a str,
}

/// Why a request's signature is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum MacError {
    #[error("the header is not v1|counter|mac")]
    Malformed,
    #[error("the signature does not fit the request")]
    Wrong,
    #[error("the counter was used before")]
    Reused,
}

impl RequestMac {
    /// For the session key `K`.
    pub(crate) fn new(session_key: &[u8; 32]) -> Result<Self, MacError> {
        let mut derive = Hmac::<Sha256>::new_from_slice(session_key).map_err(|_| MacError::Malformed)?;
        derive.update(KEY_MESSAGE);
        let key = derive.finalize().into_bytes();
        Hmac::new_from_slice(&key).map(Self).map_err(|_| MacError::Malformed)
    }

    /// Checks the header and returns its counter.
    pub(crate) fn verify(&self, signed: Signed<'_>, header: &str) -> Result<u64, MacError> {
        let mut parts = header.split('|');
        let (Some("v1"), Some(digits), Some(mac), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(MacError::Malformed);
        };
        let counter: u64 = digits.parse().map_err(|_| MacError::Malformed)?;
        let mac = from_b64u(mac).filter(|mac| mac.len() == MAC_BYTES).ok_or(MacError::Malformed)?;
        if counter.to_string() != digits {
            return Err(MacError::Malformed);
        }
        let mut expected = self.0.clone();
        for part in
            [signed.session_id, "|", signed.method, "|", signed.host, signed.path, "?", signed.query, "|v1|", digits]
        {
            expected.update(part.as_bytes());
        }
        expected.verify_truncated_left(&mac).map_err(|_| MacError::Wrong)?;
        Ok(counter)
    }
}

/// The counters that a session has used, as ranges (first to last). Clients count upwards, so there
/// are few ranges.
#[derive(Default)]
pub(crate) struct Counters(BTreeMap<u64, u64>);

impl Counters {
    /// Records `counter`, unless `rule` forbids it.
    pub(crate) fn take(&mut self, counter: u64, rule: CounterRule) -> Result<(), MacError> {
        let before = self.0.range(..=counter).next_back().map(|(first, last)| (*first, *last));
        let used = before.is_some_and(|(_, last)| last >= counter);
        let overtaken = used || self.0.range(counter..).next().is_some();
        match rule {
            CounterRule::Unique if used => return Err(MacError::Reused),
            CounterRule::Ascending if overtaken => return Err(MacError::Reused),
            CounterRule::Unchecked if used => return Ok(()),
            _ => {}
        }
        let first = before.filter(|(_, last)| last.checked_add(1) == Some(counter)).map_or(counter, |(first, _)| first);
        let last = counter.checked_add(1).and_then(|next| self.0.remove(&next)).unwrap_or(counter);
        self.0.insert(first, last);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{VECTORS, bytes, text};

    fn signed<'a>(session_id: &'a str, method: &'a str, url: &'a str) -> Signed<'a> {
        let rest = url.split_once("://").unwrap().1;
        let (authority, _) = rest.split_once('/').unwrap();
        let host = authority.split(':').next().unwrap();
        let (path, query) = rest[authority.len()..].split_once('?').unwrap_or((&rest[authority.len()..], ""));
        Signed { session_id, method, host, path, query }
    }

    #[test]
    fn the_headers_of_the_vectors_are_accepted() {
        let mac = RequestMac::new(&bytes(&VECTORS["mac"]["sessionKey"])).unwrap();
        let cases = VECTORS["mac"]["cases"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let signed = signed(text(&VECTORS["mac"]["sessionId"]), text(&case["method"]), text(&case["url"]));
            assert_eq!(mac.verify(signed, text(&case["header"])), Ok(case["counter"].as_u64().unwrap()));
        }
    }

    #[test]
    fn a_header_for_anything_else_is_refused() {
        let mac = RequestMac::new(&bytes(&VECTORS["mac"]["sessionKey"])).unwrap();
        let case = &VECTORS["mac"]["cases"][1];
        let right = signed(text(&VECTORS["mac"]["sessionId"]), text(&case["method"]), text(&case["url"]));
        let header = text(&case["header"]);
        for wrong in [
            Signed { session_id: "2B3JXFVZHPCX4GEBDDSF5LARAJ", ..right },
            Signed { method: "PUT", ..right },
            Signed { host: "my.1password.eu", ..right },
            Signed { path: "/api/v2/account/keyset", ..right },
            Signed { query: "a=b", ..right },
        ] {
            assert_eq!(mac.verify(wrong, header), Err(MacError::Wrong));
        }
        assert_eq!(mac.verify(right, &header.replace("123459", "123460")), Err(MacError::Wrong));
        for malformed in
            ["", "v1", "v2|1|AAAAAAAAAAAAAAAA", "v1|01|AAAAAAAAAAAAAAAA", "v1|1|AAAA", "v1|1|AAAAAAAAAAAAAAAA|"]
        {
            assert_eq!(mac.verify(right, malformed), Err(MacError::Malformed), "{malformed}");
        }
    }

    #[test]
    fn a_counter_is_good_once_and_in_any_order() {
        let mut counters = Counters::default();
        for counter in [5, 7, 6, 3, 4, u64::MAX, 0] {
            assert_eq!(counters.take(counter, CounterRule::Unique), Ok(()), "{counter}");
        }
        for counter in [0, 3, 4, 5, 6, 7, u64::MAX] {
            assert_eq!(counters.take(counter, CounterRule::Unique), Err(MacError::Reused), "{counter}");
        }
        assert_eq!(counters.0.len(), 3);
    }

    #[test]
    fn under_the_ascending_rule_a_counter_that_was_overtaken_is_refused() {
        let mut counters = Counters::default();
        assert_eq!(counters.take(5, CounterRule::Ascending), Ok(()));
        assert_eq!(counters.take(7, CounterRule::Ascending), Ok(()));
        assert_eq!(counters.take(6, CounterRule::Ascending), Err(MacError::Reused));
        assert_eq!(counters.take(7, CounterRule::Ascending), Err(MacError::Reused));
    }

    #[test]
    fn unchecked_counters_may_come_again() {
        let mut counters = Counters::default();
        assert_eq!(counters.take(5, CounterRule::Unchecked), Ok(()));
        assert_eq!(counters.take(5, CounterRule::Unchecked), Ok(()));
    }
}
