//! The content of a secret: its keys and values, and what of it is user name, password and so on.
//!
//! The values stay in the text of the answer, which is wiped, and in the form in which the server
//! wrote them: what is not understood is written back as it was.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use keyway_sdk::{
    Attribute, Error, Field, FieldKind, FieldSpec, FieldValue, Resolved, Result, Selection,
    encoding::HEXLOWER,
    secrecy::{ExposeSecret, SecretString},
    totp,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::Sha256;

use crate::{config::Keys, engine::Engine};

/// The longest name of a field, and the most fields of an item, by the contract.
const MAX_NAME_BYTES: usize = 256;
const MAX_FIELDS: usize = 1_000;

/// Why an item has no login fields: the name of an attribute.
pub(crate) const NOT_A_LOGIN: &str = "not-a-login";

/// A secret.
pub(crate) struct Content<'b> {
    values: BTreeMap<String, &'b RawValue>,
    pub(crate) revision: String,
    /// The version, with an engine that has versions.
    pub(crate) version: Option<u64>,
    valid_until: Option<u64>,
}

#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
}

#[derive(Deserialize)]
struct Versioned<'b> {
    #[serde(borrow)]
    data: Option<BTreeMap<String, &'b RawValue>>,
    metadata: Version,
}

/// A version of a secret, as reading and writing describe it.
#[derive(Deserialize)]
pub(crate) struct Version {
    version: u64,
    created_time: String,
    /// Empty, or in the future for a secret that deletes itself.
    deletion_time: String,
}

impl Version {
    /// The number alone would not do: it starts again after the secret is deleted with its history.
    pub(crate) fn revision(&self) -> String {
        format!("{}@{}", self.version, self.created_time)
    }
}

/// The version that a write made.
pub(crate) fn written(body: &[u8]) -> Option<Version> {
    serde_json::from_slice::<Envelope<Version>>(body).ok().map(|written| written.data)
}

impl<'b> Content<'b> {
    /// Reads the body of an answer. `None` in version 2 if the latest version was deleted.
    /// `secret` keys the revision in version 1.
    pub(crate) fn read(body: &'b [u8], engine: Engine, secret: &[u8]) -> serde_json::Result<Option<Self>> {
        Ok(match engine {
            // `one_time` reads it.
            Engine::Totp => None,
            Engine::Kv1 => {
                let values = serde_json::from_slice::<Envelope<BTreeMap<String, &'b RawValue>>>(body)?.data;
                let revision = fingerprint(secret, values.iter().map(|(key, value)| (key.as_str(), text(value))));
                Some(Self { values, revision, version: None, valid_until: None })
            }
            Engine::Kv2 => {
                let Versioned { data, metadata } = serde_json::from_slice::<Envelope<Versioned<'b>>>(body)?.data;
                data.map(|values| Self {
                    values,
                    revision: metadata.revision(),
                    version: Some(metadata.version),
                    valid_until: seconds(&metadata.deletion_time),
                })
            }
        })
    }

    /// The values that this selection asks for.
    pub(crate) fn resolve(&self, keys: &Keys<'_>, selection: &Selection, now: u64) -> Resolved {
        let found = |names: &[&str]| self.first(names).and_then(|name| self.get(name));
        let otp = |wanted: bool| wanted.then(|| totp_of(found(&keys.otp).as_ref(), now));
        let further = selection.further.iter().filter(|name| !keys.includes(name));
        let is_login = [&keys.username, &keys.password, &keys.otp].iter().any(|names| self.first(names).is_some());
        let reason = "None of its keys is a user name, a password or a one-time password. The connection's settings \
                      say which keys are.";
        Resolved {
            username: found(&keys.username).filter(|_| selection.username),
            password: found(&keys.password).filter(|_| selection.password),
            one_time_code: otp(selection.one_time_code),
            further: further.filter_map(|name| self.field(name, now)).collect(),
            revision: self.revision.clone(),
            valid_until: self.valid_until,
            attributes: (!is_login).then(|| Attribute::new(NOT_A_LOGIN, reason)).into_iter().collect(),
            ..Resolved::default()
        }
    }

    /// The fields besides user name, password and one-time password.
    pub(crate) fn fields(&self, keys: &Keys<'_>) -> Vec<FieldSpec> {
        let names = self.values.keys().filter(|name| !keys.includes(name) && self.get(name).is_some());
        let named = names.filter(|name| (1..=MAX_NAME_BYTES).contains(&name.len()));
        let specs = named.map(|name| FieldSpec {
            name: name.clone(),
            label: name.clone(),
            kind: self.get(name).map_or(FieldKind::Secret, |value| kind(value.expose_secret())),
            attributes: Vec::new(),
        });
        specs.take(MAX_FIELDS).collect()
    }

    /// The names of the keys that a change of the user name and of the password concerns. A secret
    /// that lacks them gets the first of the names.
    pub(crate) fn key_to_write<'k>(&self, names: &[&'k str]) -> Result<&'k str> {
        self.first(names)
            .or(names.first().copied())
            .ok_or_else(|| Error::invalid_settings("The settings name no key for this field. Enter one."))
    }

    /// All values after these changes.
    pub(crate) fn merged<'m>(&'m self, changes: &'m BTreeMap<&str, &str>) -> BTreeMap<&'m str, Value<'m>> {
        let mut all: BTreeMap<_, _> =
            self.values.iter().map(|(key, value)| (key.as_str(), Value::Kept(value))).collect();
        all.extend(changes.iter().map(|(key, value)| (*key, Value::New(value))));
        all
    }

    fn first<'k>(&self, names: &[&'k str]) -> Option<&'k str> {
        names.iter().copied().find(|name| self.get(name).is_some())
    }

    fn get(&self, name: &str) -> Option<SecretString> {
        self.values.get(name).and_then(|value| text(value))
    }

    fn field(&self, name: &str, now: u64) -> Option<Field> {
        let value = self.get(name)?;
        let kind = kind(value.expose_secret());
        let value = match kind {
            FieldKind::OneTimePassword => FieldValue::OneTimeCode(totp_of(Some(&value), now)),
            _ => FieldValue::Text(value),
        };
        Some(Field::new(name, kind, value))
    }
}

/// A value to write.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub(crate) enum Value<'m> {
    /// As the server wrote it.
    Kept(&'m RawValue),
    New(&'m str),
}

/// The revision of a secret without versions. It is made with a secret key: a plain hash would let
/// its readers try passwords.
pub(crate) fn fingerprint<'v>(secret: &[u8], values: impl Iterator<Item = (&'v str, Option<SecretString>)>) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return "0".to_owned() };
    let mut add = |part: &[u8]| {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    };
    for (key, value) in values {
        add(key.as_bytes());
        // Absent is not empty.
        add(if value.is_some() { b"1" } else { b"0" });
        add(value.as_ref().map_or("", |value| value.expose_secret()).as_bytes());
    }
    HEXLOWER.encode(mac.finalize().into_bytes().as_slice())
}

impl Value<'_> {
    pub(crate) fn text(&self) -> Option<SecretString> {
        match self {
            Self::Kept(value) => text(value),
            Self::New(value) => Some((*value).into()),
        }
    }
}

/// A text as it is, `null` as absent, and anything else as its JSON.
fn text(value: &RawValue) -> Option<SecretString> {
    match value.get() {
        "null" => None,
        json if json.starts_with('"') => serde_json::from_str::<String>(json).ok().map(Into::into),
        json => Some(json.into()),
    }
}

fn kind(value: &str) -> FieldKind {
    let starts = |with: &str| value.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    if starts("otpauth://") {
        FieldKind::OneTimePassword
    } else if starts("https://") || starts("http://") {
        FieldKind::Url
    } else {
        FieldKind::Secret
    }
}

fn totp_of(
    stored: Option<&SecretString>,
    now: u64,
) -> std::result::Result<keyway_sdk::OneTimeCode, keyway_sdk::NoCode> {
    totp::code_of(stored.map(|text| text.expose_secret()), now)
}

/// The seconds of a time as the server writes it, `2026-01-02T03:04:05.678Z`; `None` for an empty
/// text. A library for times makes the component a quarter larger.
fn seconds(time: &str) -> Option<u64> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let mut numbers = date.split('-').chain(clock.split('.').next()?.split(':')).map(|number| number.parse::<u32>());
    let mut next = || numbers.next()?.ok().map(u64::from);
    let (year, month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?, next()?);
    // Days since 1970-01-01 in the Gregorian calendar, with years that begin in March.
    let year = if month > 2 { year } else { year.checked_sub(1)? };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * ((month + 9) % 12) + 2) / 5 + day;
    Some(days.checked_sub(719_469)? * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_server_is_read() {
        for (time, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T23:59:59.999999999Z", Some(951_868_799)),
            ("2000-03-01T00:00:00Z", Some(951_868_800)),
            ("2026-12-31T12:00:00.5Z", Some(1_798_718_400)),
            ("", None),
            ("2026-12-31", None),
            ("9999999999-12-31T12:00:00Z", None),
        ] {
            assert_eq!(seconds(time), expected, "{time}");
        }
    }
}
