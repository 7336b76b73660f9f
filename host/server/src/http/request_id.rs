//! The id of a request: in its answer, its log lines and its audit records.
//!
//! [`keyway::request::current`] holds it during a request, for log lines and audit records.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The header that carries it.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const LIMIT: usize = 64;

/// The caller's own id if it is safe to log, otherwise a new one. A safe id has one to 64 letters,
/// digits and `-_.`.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let harmless = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=LIMIT).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    let own = || {
        let id = Uuid::now_v7().hyphenated().encode_lower(&mut Uuid::encode_buffer()).parse();
        id.unwrap_or(HeaderValue::from_static("unknown"))
    };
    headers.get(&REQUEST_ID).filter(harmless).cloned().unwrap_or_else(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(sent: &'static str) -> String {
        let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(sent))]);
        request_id(&headers).to_str().unwrap().to_owned()
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
        let [one, other] = [(); 2].map(|()| request_id(&HeaderMap::new()));
        assert_ne!(one, other);
        assert!(one.to_str().unwrap().parse::<Uuid>().is_ok());
    }
}
