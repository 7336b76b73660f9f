//! The throttling token (`op-throttling-token`): a PASETO `v4.public` that identifies the service
//! account, so that the server can count its requests before processing them.
//!
//! It is signed with a seed from the service account token. Without that seed no header is sent, as
//! in the official client.

use ed25519_dalek::{Signer, SigningKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{encoding::b64u, time::rfc3339};

const HEADER: &str = "v4.public.";
/// Signed, but not sent; a constant of the protocol.
const IMPLICIT_ASSERTION: &str = "B5_THROTTLING_TOKEN";
/// How long a token is valid, in seconds.
const LIFETIME: u64 = 3_600;
/// The age at which it is replaced: like the official client, five minutes early, for clocks that
/// differ.
pub(crate) const REPLACED_AFTER: u64 = LIFETIME - 300;

/// The key that signs throttling tokens.
pub(crate) struct ThrottleSecret {
    seed: Zeroizing<[u8; 32]>,
    id: String,
}

/// A token and its age. It protects no data of the account, but it is never printed.
#[derive(Deserialize, Serialize)]
pub(crate) struct ThrottleToken {
    issued_at: u64,
    value: Zeroizing<String>,
}

impl ThrottleSecret {
    pub(crate) fn new(seed: Zeroizing<[u8; 32]>, id: String) -> Self {
        Self { seed, id }
    }

    /// Issues a token for the next hour. `now` is in Unix seconds.
    pub(crate) fn issue(&self, now: u64) -> ThrottleToken {
        let claims = format!(r#"{{"iat":"{}","exp":"{}"}}"#, rfc3339(now), rfc3339(now + LIFETIME));
        let footer = serde_json::json!({ "kid": self.id }).to_string();
        let signed = pre_authentication_encoding(&[HEADER, &claims, &footer, IMPLICIT_ASSERTION]);
        let signature = SigningKey::from_bytes(&self.seed).sign(&signed);
        let mut payload = claims.into_bytes();
        payload.extend_from_slice(&signature.to_bytes());
        let value = Zeroizing::new(format!("{HEADER}{}.{}", b64u(&payload), b64u(footer.as_bytes())));
        ThrottleToken { issued_at: now, value }
    }
}

impl ThrottleToken {
    /// The header's value, if it is still fresh. A token from the future (the clock was set back)
    /// is not.
    pub(crate) fn value_at(&self, now: u64) -> Option<&str> {
        now.checked_sub(self.issued_at).filter(|age| *age < REPLACED_AFTER).map(|_| self.value.as_str())
    }

    /// The header's value, whatever its age.
    pub(crate) fn value(&self) -> &str {
        &self.value
    }
}

impl std::fmt::Debug for ThrottleToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThrottleToken").field("issued_at", &self.issued_at).finish_non_exhaustive()
    }
}

/// PAE of the PASETO specification, section 2.2.1.
fn pre_authentication_encoding(pieces: &[&str]) -> Vec<u8> {
    let mut encoded = (pieces.len() as u64).to_le_bytes().to_vec();
    for piece in pieces {
        encoded.extend_from_slice(&(piece.len() as u64).to_le_bytes());
        encoded.extend_from_slice(piece.as_bytes());
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{encoding::decode_hex, vectors::vectors};

    const NOW: u64 = 1_735_787_045; // 2025-01-02T03:04:05Z

    fn secret() -> ThrottleSecret {
        let v = &vectors()["throttle"];
        ThrottleSecret::new(decode_hex(v["seed"].as_str().unwrap()).unwrap(), v["uuid"].as_str().unwrap().to_owned())
    }

    #[test]
    fn the_vector_is_made_byte_for_byte() {
        let v = &vectors()["throttle"];
        let text = |name: &str| v[name].as_str().unwrap();
        let pae = pre_authentication_encoding(&[HEADER, text("claims"), text("footer"), text("implicitAssertion")]);
        assert_eq!(keyway_sdk::encoding::HEXLOWER.encode(&pae), text("pae"));
        assert_eq!(secret().issue(NOW).value(), text("token"));
    }

    #[test]
    fn a_token_serves_for_55_minutes_and_never_before_it_was_made() {
        let token = secret().issue(NOW);
        assert!(token.value_at(NOW).is_some());
        assert!(token.value_at(NOW + REPLACED_AFTER - 1).is_some());
        assert!(token.value_at(NOW + REPLACED_AFTER).is_none());
        assert!(token.value_at(NOW - 1).is_none());
    }
}
