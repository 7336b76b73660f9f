//! What holds for every text that a person may paste, and for every answer of the server after its
//! envelope was opened. (No fuzzer can make the envelope.)

mod answers;
mod edits;

use keyway_sdk::{Error, ErrorCode, SecretProvider, encoding::BASE64URL_NOPAD};
use serde_json::Value;

pub use self::{answers::answer, edits::edit};
use crate::{
    OnePassword,
    model::is_id,
    reference::{FORMAT, ItemReference, SCHEME},
    token::{DOMAINS, SETTING, Token},
};

/// Shorter texts occur in messages by chance.
const TELLING: usize = 16;

/// A text that is a token names a server of 1Password, and prints nothing but that server. Another
/// text is refused in a sentence that does not repeat it.
pub fn token(text: &str) {
    match Token::parse(text) {
        Ok(token) => {
            let host = token.host();
            let belongs = |domain: &str| host.strip_suffix(domain).is_some_and(|below| below.ends_with('.'));
            assert!(DOMAINS.into_iter().any(belongs), "{host}");
            assert_eq!(token.server.as_str(), format!("https://{host}/"));
            assert!(!token.email.is_empty() && token.key_format.len() == 2 && token.key_id.len() == 6);
            assert!(token.device_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
            assert_eq!(format!("{token:?}"), format!("Token {{ server: {host:?}, .. }}"));
            let wrapped = Token::parse(&format!("\u{feff}{}\r\n", text.replace('_', "_\n")));
            let wrapped = wrapped.expect("line breaks are pasted along");
            assert_eq!((wrapped.server, wrapped.srp_x), (token.server, token.srp_x));
        }
        Err(error) => {
            assert!(matches!(error.code, ErrorCode::InvalidSettings) && error.setting.as_deref() == Some(SETTING));
            is_sentence(&error);
            if !text.contains(char::is_whitespace) {
                keeps_quiet(&error, text, "");
            }
        }
    }
}

/// As [`token`], of a text that carries this JSON. Of its secrets none is repeated.
pub fn token_of(json: &[u8]) {
    let text = format!("ops_{}", BASE64URL_NOPAD.encode(json));
    token(&text);
    let (Err(error), Ok(content)) = (Token::parse(&text), serde_json::from_slice::<Value>(json)) else { return };
    // The one member that a message may name.
    let address = content["signInAddress"].as_str().unwrap_or_default().to_lowercase();
    for secret in [&content["secretKey"], &content["srpX"], &content["muk"]["k"], &content["throttleSecret"]["seed"]] {
        let secret = secret.as_str().unwrap_or_default();
        if !secret.contains(' ') {
            keeps_quiet(&error, secret, &address);
        }
    }
}

/// A reference has one normal form, which consists of two ids. Another text is refused without
/// being repeated.
pub fn reference(text: &str) {
    match OnePassword::normalize_reference(text) {
        Ok(normal) => {
            assert!(normal.eq_ignore_ascii_case(text) && normal.starts_with("op://"), "only the scheme's case differs");
            assert_eq!(OnePassword::normalize_reference(&normal).as_deref(), Ok(normal.as_str()));
            let ItemReference { vault, item } = ItemReference::parse(text).expect("what has a normal form");
            assert!(is_id(vault) && is_id(item) && normal == format!("{SCHEME}://{vault}/{item}"));
        }
        Err(error) => {
            assert!(matches!(error.code, ErrorCode::InvalidReference));
            is_sentence(&error);
            assert!(error.message.contains(FORMAT), "the message shows a reference");
            if !text.contains(char::is_whitespace) {
                keeps_quiet(&error, text, &format!("{FORMAT}."));
            }
        }
    }
}

fn is_sentence(error: &Error) {
    let message = &error.message;
    assert!(message.ends_with('.') && message.len() < 1_000 && !message.contains(char::is_control), "{message}");
}

/// The message does not repeat this text, unless another part of the message happens to have it.
fn keeps_quiet(error: &Error, text: &str, allowed: &str) {
    let is_telling = text.len() >= TELLING && !allowed.to_lowercase().contains(&text.to_lowercase());
    assert!(!is_telling || !error.message.contains(text), "{}", error.message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_hold_for_texts_of_every_kind() {
        for text in ["", "ops_", "ops_eyJ", "eyJhbGciOiJIUzI1NiJ9.e30.x", "TOKEN=ops_eyJhIjoxfQ", "\"ops_eyJhIjoxfQ\""]
        {
            token(text);
        }
        let muk = r#""muk":{"kty":"oct","alg":"A256GCM","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;
        let rest = format!(r#""secretKey":"A3-ABCDEF-GHIJ","srpX":"{}",{muk},"deviceUuid":"d-1""#, "0f".repeat(32));
        for address in ["my.1password.com", "https://example.com", "1password.com", "a:b@my.1password.com"] {
            token_of(format!(r#"{{"signInAddress":"{address}","email":"a@example.com",{rest}}}"#).as_bytes());
        }
        let ids = "mhlxx5y45opqk7p7prulriztqq/ch4arxhoemrdclbxyixyesgyt4";
        for text in [format!("op://{ids}"), format!("OP://{ids}"), format!("op://{ids}/password"), String::new()] {
            reference(&text);
        }
    }
}
