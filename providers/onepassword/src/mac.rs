//! The signature on every request of a session (`x-agilebits-mac`).
//!
//! It covers session, method, host, path, query and a counter, but not the body, which is in an
//! envelope under the session key. The counter must never repeat within a session, and concurrent
//! calls share one session. So it is the login's random start plus the connection's
//! [`counter`](keyway_sdk::SessionStore::counter), see [`crate::session`].

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::encoding::b64u;

/// The salt that derives the signing key from the session key; a constant of the protocol.
const SALT: &[u8] = b"He never wears a Mac, in the pouring rain. Very strange.";
/// How much of the HMAC is sent.
const SENT_BYTES: usize = 12;

/// The key that signs the requests of one session.
pub(crate) struct MacKey(Zeroizing<[u8; 32]>);

impl MacKey {
    /// Derives the key from the session key.
    pub(crate) fn derive(session_key: &[u8; 32]) -> Self {
        Self(hmac(session_key, SALT))
    }

    /// The header's value. `host` has no scheme or port; `path_and_query` starts with `/`.
    pub(crate) fn sign(
        &self,
        session_id: &str,
        method: &str,
        host: &str,
        path_and_query: &str,
        counter: u64,
    ) -> String {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let message = format!("{session_id}|{method}|{host}{path}?{query}|v1|{counter}");
        let tag = hmac(&self.0, message.as_bytes());
        let sent = tag.first_chunk::<SENT_BYTES>().map_or(&[][..], |sent| sent);
        format!("v1|{counter}|{}", b64u(sent))
    }
}

fn hmac(key: &[u8; 32], message: &[u8]) -> Zeroizing<[u8; 32]> {
    // A key shorter than SHA-256's block is padded with zeros (RFC 2104, section 2).
    let mut block = Zeroizing::new([0; 64]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    mac.update(message);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{encoding::decode_hex, vectors::vectors};

    #[test]
    fn every_vector_is_signed_as_the_official_client_signs_it() {
        let v = &vectors()["mac"];
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        assert_eq!(text(&v["salt"]).as_bytes(), SALT);
        let key = MacKey::derive(&decode_hex(&text(&v["sessionKey"])).unwrap());
        assert_eq!(key.0, decode_hex(&text(&v["macKey"])).unwrap());
        let cases = v["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 5);
        for case in cases {
            let url = url::Url::parse(&text(&case["url"])).unwrap();
            let path_and_query = &url[url::Position::BeforePath..];
            let header = key.sign(
                &text(&v["sessionId"]),
                &text(&case["method"]),
                url.host_str().unwrap(),
                path_and_query,
                case["counter"].as_u64().unwrap(),
            );
            assert_eq!(header, text(&case["header"]), "{url}");
        }
    }
}
