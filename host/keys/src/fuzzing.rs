//! What holds for everything that is sealed, and for every text in the place of it.

use keyway_storage::WorkspaceId;
use secrecy::ExposeSecret;
use uuid::Uuid;

use crate::{ClientKey, ClientValueError, EnvelopeError, KeyBytes, MasterKey, Place, SealingKey, term_of};

/// The term of the key that seals. No byte of it is 0.
const TERM: u32 = 0x0102_0304;

/// One change of sealed data: the byte at `at` becomes another one.
fn changed(sealed: &[u8], at: usize, by: u8) -> Vec<u8> {
    let mut changed = sealed.to_vec();
    let length = changed.len();
    changed[at % length] ^= by.max(1);
    changed
}

/// An envelope opens as what was sealed, with the same associated data and no other; not after the
/// byte at `at` was changed, and not without its last bytes.
pub fn envelope(plain: &[u8], associated: &[u8], other: &[u8], at: usize, by: u8) {
    let key = SealingKey::new(&KeyBytes::new([7; 32]), TERM, 1);
    let open = |associated: &[u8], envelope: &[u8]| key.open(associated, envelope, || "t.c".to_owned());
    let sealed = key.seal(associated, plain).expect("within its allowance");
    assert_eq!(key.seal(associated, plain).err(), Some(EnvelopeError::Exhausted { term: TERM }));
    assert_eq!(term_of(&sealed), Ok(TERM));
    assert_eq!(open(associated, &sealed).as_ref().map(|opened| opened.as_slice()), Ok(plain));
    assert!(associated == other || open(other, &sealed).is_err(), "in another place");
    assert!(open(associated, &changed(&sealed, at, by)).is_err(), "changed");
    let shorter = sealed.get(..at % sealed.len()).expect("a part of it");
    assert!(open(associated, shorter).is_err(), "cut off");
    let another = SealingKey::new(&KeyBytes::new([8; 32]), TERM, 0);
    assert!(another.open(associated, &sealed, String::new).is_err(), "under another key");
}

/// Bytes that nobody sealed do not open, and only those that are shaped so name a term.
pub fn not_an_envelope(bytes: &[u8]) {
    let key = SealingKey::new(&KeyBytes::new([7; 32]), term_of(bytes).unwrap_or(TERM), 0);
    let error = key.open(b"", bytes, || "t.c".to_owned()).expect_err("nobody sealed this");
    let is_shaped = bytes.len() >= 33 && bytes.first() == Some(&1);
    assert_eq!(term_of(bytes).is_ok(), is_shaped);
    assert_eq!(matches!(error, EnvelopeError::NotAuthentic { .. }), is_shaped, "{error}");
}

/// Two places have the same encoding only if they are the same.
pub fn places(one: (u8, &str, &[u8], &str), other: (u8, &str, &[u8], &str)) {
    let encode = |(version, table, row, column): (u8, &str, &[u8], &str)| {
        let workspace = WorkspaceId::from(Uuid::from_u128(u128::from(version >> 4)));
        Place { workspace, table, row, column, version: u64::from(version & 0xf) }.encode()
    };
    assert_eq!(encode(one) == encode(other), one == other);
}

/// A client's value is decrypted as it was encrypted, under its key only, and not after a change.
pub fn client_value(text: &str, at: usize, by: u8) {
    let [key, other] = [1, 2].map(|byte| ClientKey::new(KeyBytes::new([byte; 32])));
    let decrypt =
        |key: &ClientKey, hex: &str| key.decrypt(hex).map(|value| value.map(|value| value.expose_secret().to_owned()));
    let hex = key.encrypt(&text.into()).expect("randomness");
    assert_eq!(decrypt(&key, &hex), Ok(Some(text.to_owned())));
    assert_eq!(decrypt(&key, &hex.to_uppercase()), Ok(Some(text.to_owned())));
    assert_eq!(decrypt(&other, &hex), Err(ClientValueError::NotEncrypted));
    let moved = key.reencrypt(&hex, &other).expect("what was just encrypted");
    assert_eq!(decrypt(&other, &moved), Ok(Some(text.to_owned())));
    assert_eq!(decrypt(&key, &moved), Err(ClientValueError::NotEncrypted));
    let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal digits");
    for bytes in [changed(&bytes, at, by), bytes.get(..at % bytes.len()).expect("a part of it").to_vec()] {
        let hex = data_encoding::HEXLOWER.encode(&bytes);
        assert_eq!(decrypt(&key, &hex), Err(ClientValueError::NotEncrypted));
        assert_eq!(key.reencrypt(&hex, &other), Err(ClientValueError::NotEncrypted));
    }
    // The text itself, in the place of its ciphertext.
    assert_eq!(decrypt(&key, text), Err(ClientValueError::NotEncrypted));
    of_json(&key, text);
}

/// What a client may encrypt in place of a text: any JSON, or none.
fn of_json(key: &ClientKey, json: &str) {
    let hex = key.encrypt_json(json.as_bytes().to_vec().into()).expect("randomness");
    let expected = match serde_json::from_str::<Option<String>>(json) {
        Ok(text) => Ok(text),
        Err(error) if error.is_data() => Err(ClientValueError::NotText),
        Err(_) => Err(ClientValueError::NotEncrypted),
    };
    let decrypted = key.decrypt(&hex).map(|value| value.map(|value| value.expose_secret().to_owned()));
    assert_eq!(decrypted, expected);
}

/// A master key is 64 hexadecimal digits and nothing else; what is refused is not repeated.
pub fn master_key(text: &str) {
    let digits = text.trim();
    let is_key = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    match MasterKey::from_hex(text) {
        Ok(key) => {
            assert!(is_key && key.to_hex().expose_secret() == digits.to_ascii_lowercase());
            assert_eq!(format!("{key:?}"), "MasterKey([REDACTED])");
        }
        Err(error) => {
            assert!(!is_key);
            assert_eq!(error.to_string(), "the key in the given text must be 64 hexadecimal digits (32 bytes)");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_hold_for_some_of_each_kind() {
        for (at, text) in ["", "null", "\"text\"", "{}", "é \u{1f511} \0", "7 7"].into_iter().enumerate() {
            envelope(text.as_bytes(), b"a", b"b", at * 7, 1);
            not_an_envelope(text.as_bytes());
            client_value(text, at * 7, 0x80);
            master_key(text);
        }
        master_key(&format!(" {}\n", "Ab".repeat(32)));
        not_an_envelope(&[1; 33]);
        places((0x11, "t", b"r", "c"), (0x11, "tr", b"", "c"));
        places((0x11, "t", b"r", "c"), (0x11, "t", b"r", "c"));
    }
}
