//! The throttling token (`op-throttling-token`, protocol notes section 4): a PASETO `v4.public`
//! with an implicit assertion.
//!
//! A token is valid if it is signed with the account's throttling key, names that key, and is valid
//! for one hour that includes now. How the real service treats an invalid one is not public; here
//! it is refused, so that a faulty client notices.

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::encoding::from_b64u;
use crate::rules::ThrottlingRule;

const HEADER: &str = "v4.public.";
const IMPLICIT_ASSERTION: &str = "B5_THROTTLING_TOKEN";
const SIGNATURE_BYTES: usize = 64;
/// How long clients make them valid.
const LIFETIME: SignedDuration = SignedDuration::from_secs(3600);
/// The allowed difference between the clocks of client and server.
const SKEW: SignedDuration = SignedDuration::from_secs(300);

/// The public half of an account's throttling key.
pub(crate) struct ThrottlingKey {
    uuid: String,
    key: VerifyingKey,
}

/// Why a throttling token is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ThrottlingError {
    #[error("the throttling token is missing")]
    Missing,
    #[error("the throttling token is not a v4.public token")]
    Malformed,
    #[error("the throttling token names another key")]
    Key,
    #[error("the throttling token's signature is wrong")]
    Signature,
    #[error("the throttling token is not valid for one hour around now")]
    Time,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Footer {
    kid: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iat: Timestamp,
    exp: Timestamp,
}

impl ThrottlingKey {
    /// Derives it from the secret in a service account token.
    pub(crate) fn from_secret(seed: &[u8; 32], uuid: impl Into<String>) -> Self {
        Self { uuid: uuid.into(), key: SigningKey::from_bytes(seed).verifying_key() }
    }

    /// Checks a token at the time `now`.
    pub(crate) fn verify(
        &self,
        token: Option<&str>,
        now: Timestamp,
        rule: ThrottlingRule,
    ) -> Result<(), ThrottlingError> {
        if rule == ThrottlingRule::Ignored {
            return Ok(());
        }
        let token = token.ok_or(ThrottlingError::Missing)?;
        let (signed, footer) = token
            .strip_prefix(HEADER)
            .and_then(|rest| rest.split_once('.'))
            .and_then(|(signed, footer)| Some((from_b64u(signed)?, from_b64u(footer)?)))
            .ok_or(ThrottlingError::Malformed)?;
        let (claims, signature) = signed
            .len()
            .checked_sub(SIGNATURE_BYTES)
            .and_then(|at| signed.split_at_checked(at))
            .ok_or(ThrottlingError::Malformed)?;
        let signature = Signature::from_slice(signature).map_err(|_| ThrottlingError::Malformed)?;
        let named: Footer = serde_json::from_slice(&footer).map_err(|_| ThrottlingError::Malformed)?;
        if named.kid != self.uuid {
            return Err(ThrottlingError::Key);
        }
        let message = pae(&[HEADER.as_bytes(), claims, &footer, IMPLICIT_ASSERTION.as_bytes()]);
        self.key.verify_strict(&message, &signature).map_err(|_| ThrottlingError::Signature)?;
        let claims: Claims = serde_json::from_slice(claims).map_err(|_| ThrottlingError::Malformed)?;
        if rule == ThrottlingRule::Untimed {
            return Ok(());
        }
        let lasts_an_hour = claims.exp.duration_since(claims.iat) == LIFETIME;
        if !lasts_an_hour
            || claims.iat.duration_since(now) > SKEW
            || now.duration_since(claims.exp) >= SignedDuration::ZERO
        {
            return Err(ThrottlingError::Time);
        }
        Ok(())
    }
}

/// PASETO's pre-authentication encoding.
fn pae(parts: &[&[u8]]) -> Vec<u8> {
    let length = |n: usize| (n as u64).to_le_bytes();
    let mut encoded = length(parts.len()).to_vec();
    for part in parts {
        encoded.extend_from_slice(&length(part.len()));
        encoded.extend_from_slice(part);
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::{b64u, hex};
    use crate::vectors::{VECTORS, bytes, text};
    use ed25519_dalek::Signer;

    const ISSUED: &str = "2025-01-02T03:04:05Z";

    fn vector() -> (ThrottlingKey, &'static str) {
        let case = &VECTORS["throttle"];
        (ThrottlingKey::from_secret(&bytes(&case["seed"]), text(&case["uuid"])), text(&case["token"]))
    }

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    #[test]
    fn the_token_of_the_vectors_is_accepted_within_its_hour() {
        let (key, token) = vector();
        for now in [ISSUED, "2025-01-02T04:04:04Z", "2025-01-02T03:00:00Z"] {
            assert_eq!(key.verify(Some(token), at(now), ThrottlingRule::Required), Ok(()), "{now}");
        }
    }

    #[test]
    fn an_hour_later_or_long_before_it_is_refused_unless_times_do_not_matter() {
        let (key, token) = vector();
        for now in ["2025-01-02T04:04:05Z", "2025-01-02T02:59:04Z"] {
            assert_eq!(key.verify(Some(token), at(now), ThrottlingRule::Required), Err(ThrottlingError::Time), "{now}");
            assert_eq!(key.verify(Some(token), at(now), ThrottlingRule::Untimed), Ok(()));
        }
    }

    #[test]
    fn what_is_signed_is_the_pre_authentication_encoding_of_the_vectors() {
        let case = &VECTORS["throttle"];
        let parts = [HEADER, text(&case["claims"]), text(&case["footer"]), IMPLICIT_ASSERTION];
        assert_eq!(hex(pae(&parts.map(str::as_bytes))), text(&case["pae"]));
    }

    #[test]
    fn a_token_signed_without_the_implicit_assertion_or_with_another_key_is_refused() {
        let (key, _) = vector();
        let case = &VECTORS["throttle"];
        let (claims, footer) = (text(&case["claims"]), text(&case["footer"]));
        let token = |seed: [u8; 32], assertion: &str| {
            let message = pae(&[HEADER, claims, footer, assertion].map(str::as_bytes));
            let signature = SigningKey::from_bytes(&seed).sign(&message).to_bytes();
            format!("{HEADER}{}.{}", b64u([claims.as_bytes(), &signature].concat()), b64u(footer))
        };
        let right = bytes(&case["seed"]);
        let check = |token: String| key.verify(Some(&token), at(ISSUED), ThrottlingRule::Required);
        assert_eq!(check(token(right, IMPLICIT_ASSERTION)), Ok(()));
        assert_eq!(check(token(right, "")), Err(ThrottlingError::Signature));
        assert_eq!(check(token([1; 32], IMPLICIT_ASSERTION)), Err(ThrottlingError::Signature));
    }

    #[test]
    fn a_missing_or_misshapen_token_is_refused_and_an_ignored_one_is_not_looked_at() {
        let (key, _) = vector();
        assert_eq!(key.verify(None, at(ISSUED), ThrottlingRule::Required), Err(ThrottlingError::Missing));
        for token in ["", "v4.public.", "v4.public.AAAA.AAAA", "v4.local.AAAA.AAAA"] {
            assert_eq!(key.verify(Some(token), at(ISSUED), ThrottlingRule::Untimed), Err(ThrottlingError::Malformed));
        }
        assert_eq!(key.verify(None, at(ISSUED), ThrottlingRule::Ignored), Ok(()));
    }
}
