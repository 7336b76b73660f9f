//! What clients have encrypted, from one client encryption key to the next.
//!
//! A client encryption key follows from its workspace key, so it changes with it. The values that clients have encrypted
//! are in sealed columns; this is the one place that knows which values of which columns they are.

use std::borrow::Cow;

use keyway_keys::ClientKey;
use keyway_storage::SealedColumn;
use zeroize::Zeroizing;

use crate::codec::{self, CodecError, Decoder};
use crate::entry::{PROXY_SETTING, PROXY_VALUE};

/// The proxy setting whose value clients encrypt, as it is in the HTTP API.
const CUSTOM: &str = "custom";

/// A plaintext of this column, with what clients have encrypted in it under `new` instead of `old`.
pub(crate) fn under_new_client_key(
    column: SealedColumn,
    plaintext: Zeroizing<Vec<u8>>,
    old: &ClientKey,
    new: &ClientKey,
) -> Result<Zeroizing<Vec<u8>>, CodecError> {
    match column {
        SealedColumn::EntryCredentials => {
            let mut fields = Vec::new();
            for field in texts(&plaintext)? {
                fields.push(field.map(|ciphertext| reencrypted(ciphertext, old, new)).transpose()?.map(Cow::Owned));
            }
            encode(&fields)
        }
        SealedColumn::EntryAttributes => {
            let texts = texts(&plaintext)?;
            let mut fields: Vec<_> = texts.iter().map(|text| text.map(Cow::Borrowed)).collect();
            // Names and values by turns; a value is JSON. The address of a custom proxy is encrypted like a credential.
            let is_custom = |pair: &&[Option<&str>]| matches!(pair, [Some(PROXY_SETTING), Some(json)] if text(json).is_ok_and(|setting| setting == CUSTOM));
            if texts.chunks(2).any(|pair| is_custom(&pair)) {
                for (pair, fields) in texts.chunks(2).zip(fields.chunks_mut(2)) {
                    if let ([Some(PROXY_VALUE), Some(json)], [_, value]) = (pair, fields) {
                        let ciphertext = reencrypted(&text(json)?, old, new)?;
                        *value = Some(Cow::Owned(serde_json::to_string(&ciphertext).map_err(|_| CodecError)?));
                    }
                }
            }
            encode(&fields)
        }
        // Encrypted by the broker only.
        SealedColumn::ConnectionSettings | SealedColumn::ConnectionState | SealedColumn::RotationPassword => {
            Ok(plaintext)
        }
    }
}

/// The string that a JSON text is.
fn text(json: &str) -> Result<String, CodecError> {
    serde_json::from_str(json).map_err(|_| CodecError)
}

fn reencrypted(ciphertext: &str, old: &ClientKey, new: &ClientKey) -> Result<String, CodecError> {
    old.reencrypt(ciphertext, new).map_err(|_| CodecError)
}

fn texts(plaintext: &[u8]) -> Result<Vec<Option<&str>>, CodecError> {
    let mut decoder = Decoder::new(plaintext)?;
    let mut fields = Vec::new();
    while decoder.remaining() > 0 {
        fields.push(decoder.optional_text()?);
    }
    decoder.finish()?;
    Ok(fields)
}

fn encode(fields: &[Option<Cow<'_, str>>]) -> Result<Zeroizing<Vec<u8>>, CodecError> {
    let fields: Vec<_> = fields.iter().map(|field| field.as_deref().map(str::as_bytes)).collect();
    codec::encode(&fields)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn keys() -> (ClientKey, ClientKey) {
        let key = |byte: &str| ClientKey::from_hex(&byte.repeat(32).into()).unwrap();
        (key("01"), key("02"))
    }

    fn translated(column: SealedColumn, fields: &[Option<&str>]) -> Result<Vec<Option<String>>, CodecError> {
        let (old, new) = keys();
        let fields: Vec<_> = fields.iter().map(|field| field.map(str::as_bytes)).collect();
        let plaintext = under_new_client_key(column, codec::encode(&fields)?, &old, &new)?;
        Ok(texts(&plaintext)?.into_iter().map(|text| text.map(str::to_owned)).collect())
    }

    fn opened(ciphertext: &str) -> String {
        keys().1.decrypt(ciphertext).unwrap().unwrap().expose_secret().to_owned()
    }

    #[test]
    fn credentials_are_under_the_new_key_and_missing_ones_stay_missing() {
        let ciphertext = keys().0.encrypt(&"s3cret".into()).unwrap();
        let fields = translated(SealedColumn::EntryCredentials, &[None, Some(&ciphertext), None]).unwrap();
        assert_eq!((fields.len(), &fields[0], &fields[2]), (3, &None, &None));
        assert_eq!(opened(fields[1].as_ref().unwrap()), "s3cret");
    }

    #[test]
    fn of_the_attributes_only_a_custom_proxys_address_is_the_clients() {
        let ciphertext = format!("{:?}", keys().0.encrypt(&"http://user:pass@proxy".into()).unwrap());
        let cookies = Some(r#"[{"name": "proxy_value"}]"#);
        let custom = [
            Some("cookies"),
            cookies,
            Some("proxy_setting"),
            Some("\"custom\""),
            Some("proxy_value"),
            Some(&*ciphertext),
        ];
        let fields = translated(SealedColumn::EntryAttributes, &custom).unwrap();
        assert_eq!(fields[..5], custom[..5].iter().map(|field| field.map(str::to_owned)).collect::<Vec<_>>());
        assert_eq!(opened(&text(fields[5].as_ref().unwrap()).unwrap()), "http://user:pass@proxy");
        let fixed = [Some("proxy_setting"), Some("\"static\""), Some("proxy_value"), Some("\"203.0.113.7\"")];
        assert_eq!(
            translated(SealedColumn::EntryAttributes, &fixed).unwrap(),
            fixed.map(|field| field.map(str::to_owned))
        );
    }

    #[test]
    fn what_is_not_under_the_old_key_is_an_error_and_not_passed_on() {
        let other = keys().1.encrypt(&"s3cret".into()).unwrap();
        assert!(translated(SealedColumn::EntryCredentials, &[Some(&other), None, None]).is_err());
    }
}
