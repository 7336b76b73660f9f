//! The id of a request: in its answer, its log lines and its audit records.
//!
//! While a request is handled it is [`keyway::request::current`], where log lines and audit records find it.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use keyway::request;
use uuid::Uuid;

/// The header that has it.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const LIMIT: usize = 64;

/// One to 64 letters, digits and `-_.`, so it can be written anywhere as it is.
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// The caller's own id, if it can be written into a log as it is, else a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let harmless = |value: &&HeaderValue| {
            let bytes = value.as_bytes();
            (1..=LIMIT).contains(&bytes.len())
                && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        };
        let own = || {
            let id = Uuid::now_v7().hyphenated().encode_lower(&mut Uuid::encode_buffer()).parse();
            id.unwrap_or(HeaderValue::from_static("unknown"))
        };
        Self(headers.get(&REQUEST_ID).filter(harmless).cloned().unwrap_or_else(own))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    pub(crate) fn into_header(self) -> HeaderValue {
        self.0
    }

    /// Handles the request that has this id.
    pub(crate) async fn scope<F: Future>(&self, handle: F) -> F::Output {
        request::scope(self.as_str().into(), handle).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(sent: &'static str) -> String {
        let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(sent))]);
        RequestId::of(&headers).as_str().to_owned()
    }

    #[test]
    fn a_callers_request_id_is_kept_unless_it_could_forge_a_log() {
        assert_eq!(id_for("0af7-651916cd.43_dd"), "0af7-651916cd.43_dd");
        for bad in ["", "two words", "a=b", "\"", &"x".repeat(65)] {
            let bad: &'static str = Box::leak(bad.to_owned().into_boxed_str());
            assert_ne!(id_for(bad), bad);
        }
    }

    #[test]
    fn without_one_it_gets_a_new_uuid() {
        let [one, other] = [(); 2].map(|()| RequestId::of(&HeaderMap::new()));
        assert_ne!(one.as_str(), other.as_str());
        assert!(one.as_str().parse::<Uuid>().is_ok());
    }
}
