//! The sealed part of a connection: its settings, where they may be sent to, and the certificate
//! authorities that it trusts in addition.

use std::collections::BTreeMap;

use keyway_runtime::Settings;
use keyway_runtime::contract::Description;
use keyway_runtime::egress::ApprovedDestination;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::codec::{self, CodecError};

/// Identifies the format of the record, so that it can change.
const FORM: &str = "settings.1";

/// How many characters of a secret setting are kept for display.
const HINT: usize = 4;
/// A secret must be this long for its last characters to be kept: at least two thirds of it stay
/// unknown.
pub(super) const HINTED_FROM: usize = 12;

/// The sealed part of a connection.
pub(super) struct SealedPart {
    /// As the person entered them.
    pub(super) settings: Settings,
    /// Where they may be sent to.
    pub(super) approved: Vec<ApprovedDestination>,
    /// Further certificate authorities that it trusts, in PEM.
    pub(super) authorities: Option<String>,
}

impl SealedPart {
    /// The plaintext to seal: the format, the provider's type, names and values, an absent field,
    /// the destinations, and if there are authorities, another absent field and their text.
    pub(super) fn encode(&self, provider_type: &str) -> Result<Zeroizing<Vec<u8>>, CodecError> {
        let approved: Vec<String> = self.approved.iter().map(ToString::to_string).collect();
        let mut fields = vec![Some(FORM.as_bytes()), Some(provider_type.as_bytes())];
        for (name, value) in self.settings.iter() {
            fields.push(Some(name.as_bytes()));
            fields.push(Some(value.expose_secret().as_bytes()));
        }
        fields.push(None);
        fields.extend(approved.iter().map(|destination| Some(destination.as_bytes())));
        if let Some(authorities) = &self.authorities {
            fields.extend([None, Some(authorities.as_bytes())]);
        }
        codec::encode(&fields)
    }

    /// Reads the plaintext. The provider's type must be the one that it was sealed with: settings
    /// of one provider are never passed to another.
    pub(super) fn decode(plaintext: &[u8], provider_type: &str) -> Result<Self, CodecError> {
        let mut fields = codec::decode_texts(plaintext)?.into_iter();
        if [fields.next(), fields.next()] != [Some(Some(FORM)), Some(Some(provider_type))] {
            return Err(CodecError);
        }
        let mut settings = Settings::new();
        while let Some(name) = fields.next().ok_or(CodecError)? {
            settings.set(name, fields.next().flatten().ok_or(CodecError)?);
        }
        let approved = fields.by_ref().map_while(|field| field.map(|text| text.parse().map_err(|_| CodecError)));
        let approved = approved.collect::<Result<_, _>>()?;
        let authorities = fields.next().map(|text| text.map(str::to_owned).ok_or(CodecError)).transpose()?;
        if fields.next().is_some() {
            return Err(CodecError);
        }
        Ok(Self { settings, approved, authorities })
    }
}

/// The last characters of each secret setting that is long enough, as JSON.
pub(super) fn hints(description: &Description, settings: &Settings) -> Result<String, serde_json::Error> {
    let hints: BTreeMap<&str, String> = description
        .settings
        .iter()
        .filter(|spec| spec.secret)
        .filter_map(|spec| {
            let value = settings.get(&spec.name)?.expose_secret().trim_end();
            let length = value.chars().count();
            (length >= HINTED_FROM).then(|| (spec.name.as_str(), value.chars().skip(length - HINT).collect()))
        })
        .collect();
    serde_json::to_string(&hints)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> SealedPart {
        SealedPart {
            settings: Settings::new().with("token", "ops_secret").with("empty", ""),
            approved: vec!["https://*.1password.com".parse().unwrap(), "https://vault.example:8200".parse().unwrap()],
            authorities: None,
        }
    }

    #[test]
    fn settings_destinations_and_authorities_come_back_as_they_were() {
        let plaintext = part().encode("1password").unwrap();
        let read = SealedPart::decode(&plaintext, "1password").unwrap();
        let values: Vec<_> =
            read.settings.iter().map(|(name, value)| (name.to_owned(), value.expose_secret().to_owned())).collect();
        assert_eq!(values, [("empty".into(), String::new()), ("token".into(), "ops_secret".into())]);
        assert_eq!((read.approved, read.authorities), (part().approved, None));
        let trusting = SealedPart { authorities: Some("a certificate".into()), ..part() };
        let read = SealedPart::decode(&trusting.encode("1password").unwrap(), "1password").unwrap();
        assert_eq!((read.approved, read.authorities.as_deref()), (part().approved, Some("a certificate")));
    }

    #[test]
    fn settings_of_one_provider_are_not_given_to_another() {
        let plaintext = part().encode("1password").unwrap();
        assert!(SealedPart::decode(&plaintext, "other").is_err());
    }

    fn description() -> Description {
        serde_json::from_value(serde_json::json!({
            "provider_type": "1password", "display_name": "1Password", "version": "1.0.0",
            "reference_scheme": "op", "reference_format": "op://<vaultId>/<itemId>",
            "settings": [
                {"name": "token", "label": "Token", "help": "", "secret": true, "required": true, "pattern": null, "default": null},
                {"name": "address", "label": "Address", "help": "", "secret": false, "required": false, "pattern": null, "default": null},
            ],
            "destinations": [], "attributes": [],
            "capabilities": {"list_items": true, "write": true, "one_time_codes": true},
        }))
        .unwrap()
    }

    #[test]
    fn only_the_last_four_characters_of_secrets_are_kept() {
        let settings = Settings::new().with("token", "ops_0123456789wxyz").with("address", "https://public.example");
        assert_eq!(hints(&description(), &settings).unwrap(), r#"{"token":"wxyz"}"#);
    }

    #[test]
    fn of_a_short_secret_nothing_is_kept() {
        let settings = Settings::new().with("token", "0123456wxyz");
        assert_eq!(hints(&description(), &settings).unwrap(), "{}");
    }
}
