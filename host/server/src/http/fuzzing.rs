//! What holds for every body of a request.

use std::collections::BTreeMap;

use axum::response::IntoResponse;
use serde_json::Value;
use serde_json::value::RawValue;

use super::body::{Fields, FromBody};
use super::error::ApiError;
use super::leases::{ToRenew, ToRevoke};
use super::resolve::{ToResolve, request};
use super::rotations::{AbandonRotation, NewRotation, RetryRotation, to_begin};
use super::secret_providers::{NewSecretProvider, SecretProviderChanges};
use super::vault::changes::{EntryChangesBody, NewEntryBody};
use super::vault::name::EntryName;

type Read = fn(&[u8]) -> Result<(), ApiError>;

fn read<B: FromBody>(json: &[u8]) -> Result<B, ApiError> {
    B::read(Fields::parse(json)?)
}

/// Bodies that refuse what they do not know.
const STRICT: [Read; 10] = [
    |json| read::<NewSecretProvider>(json).map(drop),
    |json| read::<SecretProviderChanges>(json).map(drop),
    |json| to_begin(read::<NewRotation>(json)?).map(drop),
    |json| read::<AbandonRotation>(json).map(drop),
    |json| read::<RetryRotation>(json).map(drop),
    |json| request(read::<ToResolve>(json)?).map(drop),
    |json| read::<ToRenew>(json).map(drop),
    |json| read::<ToRevoke>(json).map(drop),
    |json| read::<EntryChangesBody>(json).map(drop),
    new_entry,
];

/// The one that ignores it.
const LENIENT: Read = |json| read::<EntryName>(json).map(drop);

/// A shorter text of the body, or one without a digit, may be a word of the error.
const TELLING: usize = 16;

/// How many kinds of bodies there are.
pub const KINDS: usize = STRICT.len() + 1;

/// A body that is accepted is accepted with its fields in another order, but not with one of them
/// twice or with an unknown one. A refusal is the client's to correct, and repeats no value.
pub fn body(kind: usize, json: &[u8]) {
    let read = STRICT.get(kind).unwrap_or(&LENIENT);
    match read(json) {
        Ok(()) => accepted(*read, json, kind < STRICT.len()),
        Err(error) => refused(error, json),
    }
}

/// An entry, changed twice in the same way.
fn new_entry(json: &[u8]) -> Result<(), ApiError> {
    let changes = || read::<NewEntryBody>(json).map(|body| body.0);
    let mut entry = changes()?.into_entry()?;
    let once = entry.clone();
    assert!(changes()?.apply(&mut entry).is_ok() && entry == once, "the same change again");
    Ok(())
}

fn accepted(read: Read, json: &[u8], is_strict: bool) {
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(json).expect("an object that was read");
    let field =
        |name: &str, value: &RawValue| format!("{}:{}", serde_json::to_string(name).expect("a text"), value.get());
    let mut fields: Vec<String> = fields.iter().map(|(name, value)| field(name, value)).collect();
    let reads = |fields: &[String]| read(format!(" {{{}}}\n", fields.join(", ")).as_bytes());
    assert!(reads(&fields).is_ok(), "in the order of their names");
    fields.reverse();
    assert!(reads(&fields).is_ok(), "in the opposite order");
    if let Some(first) = fields.first().cloned() {
        fields.push(first);
        assert!(reads(&fields).is_err(), "a field twice");
        fields.pop();
    }
    // A body that ignores unknown fields may have this one already, and would have it twice.
    let unknown = "no_such_field".repeat(json.len() / 13 + 1);
    fields.push(format!("\"{unknown}\":null"));
    assert_eq!(reads(&fields).is_err(), is_strict, "an unknown field");
}

fn refused(error: ApiError, json: &[u8]) {
    let told = format!("{error:?}");
    assert!(told.len() < 2_000, "{told}");
    let (mut names, mut texts) = (String::new(), Vec::new());
    let mut rest: Vec<Value> = serde_json::from_slice(json).into_iter().collect();
    while let Some(value) = rest.pop() {
        match value {
            Value::String(text) => texts.push(text),
            Value::Array(elements) => rest.extend(elements),
            Value::Object(members) => rest.extend(members.into_iter().map(|(name, value)| {
                names.extend(name.chars().filter(|char| !char.is_control()));
                value
            })),
            _ => {}
        }
    }
    // Names are told, without control characters, so that they can be corrected.
    let is_telling = |text: &&String| {
        let has_digit = text.contains(|char: char| char.is_ascii_digit());
        text.len() >= TELLING && has_digit && !text.contains(' ') && !names.contains(*text)
    };
    for text in texts.iter().filter(is_telling) {
        assert!(!told.contains(text), "{told}");
    }
    let status = error.into_response().status();
    assert!(status.is_client_error(), "{status}: {told}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_hold_for_bodies_of_every_kind() {
        let bound = r#""secret_provider_id":"25290e80-bbd5-41b3-861e-dea30cc26e27","secret_ref":"x://i""#;
        for json in [
            String::new(),
            "{}".to_owned(),
            r#"{"id":"25290e80-bbd5-41b3-861e-dea30cc26e27"}"#.to_owned(),
            r#"{"permissioned_user_id":"a","domain":"https://example.com","cookies":[{}],"max_concurrency":2}"#
                .to_owned(),
            format!(r#"{{"permissioned_user_id":"a","domain":"https://example.com",{bound}}}"#),
            r#"{"name":"n","provider_type":"p","settings":{"token":"a-token-that-is-secret-1"}}"#.to_owned(),
            r#"{"overwrite":true,"overwrite":false}"#.to_owned(),
            r#"{"discard_password":"a-text-in-the-wrong-place-1"}"#.to_owned(),
            r#"{"a-name\u0000-that-is-told-1":"name-that-is-told-1"}"#.to_owned(),
            r#"{"tfa_method":"permissioned_user_id"}"#.to_owned(),
            r#"{"permissioned_user_id":"a","domain":"https://example.com","no_such_field":1}"#.to_owned(),
        ] {
            (0..KINDS).for_each(|kind| body(kind, json.as_bytes()));
        }
    }
}
