//! Re-encrypting clients' values from one client encryption key to the next.
//!
//! A client encryption key is derived from its workspace key, so it changes with it. The values
//! that clients encrypted are in sealed columns; this is the one place that knows which values of
//! which columns they are.

use keyway_keys::ClientKey;
use keyway_storage::SealedColumn;
use zeroize::Zeroizing;

use crate::codec::{self, CodecError};
use crate::entries::Attributes;

/// Re-encrypts clients' values in a plaintext of this column, from `old` to `new`.
pub(crate) fn under_new_client_key(
    column: SealedColumn,
    plaintext: Zeroizing<Vec<u8>>,
    old: &ClientKey,
    new: &ClientKey,
) -> Result<Zeroizing<Vec<u8>>, CodecError> {
    match column {
        SealedColumn::EntryCredentials => {
            let reencrypted = |field: Option<_>| field.map(|ciphertext| old.reencrypt(ciphertext, new)).transpose();
            let fields = codec::decode_texts(&plaintext)?.into_iter().map(reencrypted);
            let fields = fields.collect::<Result<Vec<_>, _>>().map_err(|_| CodecError)?;
            codec::encode(&fields.iter().map(|field| field.as_deref().map(str::as_bytes)).collect::<Vec<_>>())
        }
        SealedColumn::EntryAttributes => {
            let mut attributes = Attributes::decode(&plaintext)?;
            attributes.reencrypt(old, new)?;
            attributes.encode()
        }
        // Encrypted by the broker only.
        SealedColumn::ConnectionSettings | SealedColumn::ConnectionState | SealedColumn::RotationPassword => {
            Ok(plaintext)
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::entries::AttributeKind;

    fn keys() -> (ClientKey, ClientKey) {
        let key = |byte: &str| ClientKey::from_hex(&byte.repeat(32).into()).unwrap();
        (key("01"), key("02"))
    }

    fn translated(column: SealedColumn, plaintext: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, CodecError> {
        let (old, new) = keys();
        under_new_client_key(column, plaintext, &old, &new)
    }

    fn record(fields: &[Option<&str>]) -> Zeroizing<Vec<u8>> {
        codec::encode(&fields.iter().map(|field| field.map(str::as_bytes)).collect::<Vec<_>>()).unwrap()
    }

    fn opened(ciphertext: &str) -> String {
        keys().1.decrypt(ciphertext).unwrap().unwrap().expose_secret().to_owned()
    }

    #[test]
    fn credentials_are_under_the_new_key_and_missing_ones_stay_missing() {
        let ciphertext = keys().0.encrypt(&"s3cret".into()).unwrap();
        let plaintext = translated(SealedColumn::EntryCredentials, record(&[None, Some(&ciphertext), None])).unwrap();
        let fields = codec::decode_texts(&plaintext).unwrap();
        assert_eq!((fields[0], opened(fields[1].unwrap()).as_str(), &fields[2..]), (None, "s3cret", &[None][..]));
    }

    #[test]
    fn of_the_attributes_only_those_that_clients_encrypt_are_under_the_new_key_also_of_an_older_record() {
        let ciphertext = format!("{:?}", keys().0.encrypt(&"http://user:pass@proxy".into()).unwrap());
        let cookies = r#"[{"name": "proxy_value"}]"#;
        let custom = ["cookies", cookies, "proxy_setting", "\"custom\"", "proxy_value", &*ciphertext];
        let mut attributes = Attributes::default();
        attributes.set("cookies", AttributeKind::BrowserState, cookies).unwrap();
        attributes.set("proxy_setting", AttributeKind::Plain, "\"custom\"").unwrap();
        attributes.set("proxy_value", AttributeKind::Encrypted, &ciphertext).unwrap();
        for plaintext in [record(&custom.map(Some)), attributes.encode().unwrap()] {
            let new = Attributes::decode(&translated(SealedColumn::EntryAttributes, plaintext).unwrap()).unwrap();
            assert_eq!(
                new.iter().map(|(name, kind, _)| (name, kind)).collect::<Vec<_>>(),
                attributes.iter().map(|(name, kind, _)| (name, kind)).collect::<Vec<_>>()
            );
            assert_eq!((new.get("cookies"), new.get("proxy_setting")), (Some(cookies), Some("\"custom\"")));
            assert_eq!(
                opened(&serde_json::from_str::<String>(new.get("proxy_value").unwrap()).unwrap()),
                "http://user:pass@proxy"
            );
        }
        let fixed = ["proxy_setting", "\"static\"", "proxy_value", "\"203.0.113.7\""];
        let new = translated(SealedColumn::EntryAttributes, record(&fixed.map(Some))).unwrap();
        assert_eq!(Attributes::decode(&new).unwrap().get("proxy_value"), Some("\"203.0.113.7\""));
    }

    #[test]
    fn what_is_not_under_the_old_key_is_an_error_and_not_passed_on() {
        let other = keys().1.encrypt(&"s3cret".into()).unwrap();
        assert!(translated(SealedColumn::EntryCredentials, record(&[Some(&other), None, None])).is_err());
    }
}
