//! Service account tokens (`ops_...`, protocol notes section 1), and faulty variants of them.

use std::fmt;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::encoding::{b64u, hex};
use crate::random::Seed;
use crate::wire::UserAuth;

/// A made-up service account token. Its secrets protect nothing. It still prints as a placeholder
/// and is wiped on drop, so that tests that search logs for tokens find no false positives.
pub struct Token(Zeroizing<String>);

impl Token {
    /// The token's text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its last four characters, for display.
    #[must_use]
    pub fn last4(&self) -> &str {
        self.0.get(self.0.len().saturating_sub(4)..).unwrap_or_default()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A well-formed token with one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WrongToken {
    /// Another SRP private value: the server refuses the client's proof.
    SrpX,
    /// Another master unlock key: signing in works, but no key can be opened.
    Muk,
    /// An account that does not exist.
    Account,
    /// The id of another secret key.
    SecretKey,
    /// Another throttling key.
    ThrottleSecret,
    /// A sign-in address outside 1Password.
    SignInAddress,
    /// The second half is missing.
    CutOff,
}

/// The parts of a token.
pub(crate) struct TokenParts {
    pub(crate) sign_in_address: String,
    pub(crate) email: String,
    /// `A3-XXXXXX-XXXXXX-XXXXX-XXXXX-XXXXX-XXXXX`.
    pub(crate) secret_key: Zeroizing<String>,
    pub(crate) salt: [u8; 16],
    pub(crate) srp_x: Zeroizing<[u8; 32]>,
    pub(crate) muk: Zeroizing<[u8; 32]>,
    pub(crate) throttle: Option<(Zeroizing<[u8; 32]>, String)>,
    pub(crate) device_uuid: String,
}

impl TokenParts {
    /// Makes up a token for the account of that name.
    pub(crate) fn made_up(seed: Seed, account: &str, sign_in_address: &str, throttled: bool) -> Self {
        let label = |what: &str| format!("account/{account}/{what}");
        let text = |what: &str, length| seed.secret_key_text(&label(what), length);
        let tail = text("secret-key", 26);
        let group = |range: std::ops::Range<usize>| tail.get(range).unwrap_or_default();
        let secret_key =
            ["A3", &text("secret-key-id", 6), group(0..6), group(6..11), group(11..16), group(16..21), group(21..26)]
                .join("-");
        Self {
            sign_in_address: sign_in_address.to_owned(),
            email: format!("{}@1passwordserviceaccounts.com", text("email", 13).to_lowercase()),
            secret_key: Zeroizing::new(secret_key),
            salt: seed.bytes(&label("salt")),
            srp_x: Zeroizing::new(seed.bytes(&label("srp-x"))),
            muk: Zeroizing::new(seed.bytes(&label("muk"))),
            throttle: throttled
                .then(|| (Zeroizing::new(seed.bytes(&label("throttle-seed"))), seed.upper_id(&label("throttle-id")))),
            device_uuid: seed.lower_id(&label("device")),
        }
    }

    /// The six characters that identify the secret key to the server.
    pub(crate) fn secret_key_id(&self) -> &str {
        self.secret_key.get(3..9).unwrap_or_default()
    }

    pub(crate) fn token(&self) -> Token {
        let k = Zeroizing::new(b64u(*self.muk));
        let srp_x = Zeroizing::new(hex(*self.srp_x));
        let seed = self.throttle.as_ref().map(|(seed, _)| Zeroizing::new(hex(**seed)));
        encode(&TokenJson {
            sign_in_address: &self.sign_in_address,
            user_auth: UserAuth {
                method: "SRPg-4096",
                alg: "PBES2g-HS256",
                iterations: ITERATIONS,
                salt: b64u(self.salt),
            },
            email: &self.email,
            srp_x: &srp_x,
            muk: Muk { alg: "A256GCM", ext: true, k: &k, key_ops: ["encrypt", "decrypt"], kid: "mp", kty: "oct" },
            secret_key: &self.secret_key,
            throttle_secret: seed
                .as_deref()
                .zip(self.throttle.as_ref())
                .map(|(seed, (_, uuid))| ThrottleSecret { seed, uuid }),
            device_uuid: &self.device_uuid,
        })
    }

    pub(crate) fn wrong_token(&self, wrong: WrongToken) -> Token {
        let token = self.token();
        if wrong == WrongToken::CutOff {
            let half = token.expose().len() / 2;
            return Token(Zeroizing::new(token.expose().get(..half).unwrap_or_default().to_owned()));
        }
        let other = |label: &str| Seed(0).bytes::<32>(label);
        let changed = Self {
            sign_in_address: match wrong {
                WrongToken::SignInAddress => "vault.example.com".to_owned(),
                _ => self.sign_in_address.clone(),
            },
            email: match wrong {
                WrongToken::Account => format!("no{}", self.email),
                _ => self.email.clone(),
            },
            secret_key: match wrong {
                WrongToken::SecretKey => Zeroizing::new(self.secret_key.replacen(self.secret_key_id(), "ZZZZZZ", 1)),
                _ => self.secret_key.clone(),
            },
            salt: self.salt,
            srp_x: match wrong {
                WrongToken::SrpX => Zeroizing::new(other("srp-x")),
                _ => self.srp_x.clone(),
            },
            muk: match wrong {
                WrongToken::Muk => Zeroizing::new(other("muk")),
                _ => self.muk.clone(),
            },
            throttle: match (&self.throttle, wrong) {
                (Some((_, uuid)), WrongToken::ThrottleSecret) => {
                    Some((Zeroizing::new(other("throttle")), uuid.clone()))
                }
                (throttle, _) => throttle.clone(),
            },
            device_uuid: self.device_uuid.clone(),
        };
        changed.token()
    }
}

/// The iteration count in the token and in the answer to `auth/start`; the key was derived when the
/// token was made.
pub(crate) const ITERATIONS: u32 = 650_000;

/// The token's JSON, with members in the order of a real one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TokenJson<'a> {
    sign_in_address: &'a str,
    user_auth: UserAuth,
    email: &'a str,
    srp_x: &'a str,
    muk: Muk<'a>,
    secret_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle_secret: Option<ThrottleSecret<'a>>,
    device_uuid: &'a str,
}

#[derive(Serialize)]
struct Muk<'a> {
    alg: &'static str,
    ext: bool,
    k: &'a str,
    key_ops: [&'static str; 2],
    kid: &'static str,
    kty: &'static str,
}

#[derive(Serialize)]
struct ThrottleSecret<'a> {
    seed: &'a str,
    uuid: &'a str,
}

fn encode(json: &TokenJson<'_>) -> Token {
    // Serialising strings and numbers cannot fail.
    let text = Zeroizing::new(serde_json::to_vec(json).unwrap_or_default());
    Token(Zeroizing::new(format!("ops_{}", *Zeroizing::new(b64u(&*text)))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::from_b64u;
    use crate::vectors::VECTORS;
    use serde_json::Value;

    fn decoded(token: &Token) -> Value {
        serde_json::from_slice(&from_b64u(token.expose().strip_prefix("ops_").unwrap()).unwrap()).unwrap()
    }

    fn parts() -> TokenParts {
        TokenParts::made_up(Seed(1), "automation", "my.1password.com", true)
    }

    #[test]
    fn a_token_has_the_members_of_a_real_one() {
        let members =
            |value: &Value| value.as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(members(&decoded(&parts().token())), members(&VECTORS["tokenJson"]));
    }

    #[test]
    fn a_token_starts_like_a_real_one() {
        assert_eq!(parts().token().expose().get(..32), VECTORS["token"].as_str().unwrap().get(..32));
    }

    #[test]
    fn a_secret_key_has_the_shape_of_a_real_one() {
        let key = parts().secret_key;
        let lengths: Vec<_> = key.split('-').map(str::len).collect();
        assert_eq!(lengths, [2, 6, 6, 5, 5, 5, 5]);
    }

    #[test]
    fn each_wrong_token_differs_in_one_member() {
        let right = decoded(&parts().token());
        for (wrong, member) in [
            (WrongToken::SrpX, "srpX"),
            (WrongToken::Muk, "muk"),
            (WrongToken::Account, "email"),
            (WrongToken::SecretKey, "secretKey"),
            (WrongToken::ThrottleSecret, "throttleSecret"),
            (WrongToken::SignInAddress, "signInAddress"),
        ] {
            let wrong = decoded(&parts().wrong_token(wrong));
            let differing: Vec<_> =
                right.as_object().unwrap().iter().filter(|(key, value)| wrong[*key] != **value).collect();
            assert!(matches!(differing.as_slice(), [(key, _)] if *key == member), "{member}");
        }
    }

    #[test]
    fn a_token_does_not_print_its_text() {
        assert_eq!(format!("{:?}", parts().token()), "Token(..)");
    }
}
