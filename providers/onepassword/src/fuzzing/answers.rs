//! Answers of the server, and what its envelopes hold.

use keyway_sdk::http::{Headers, Response};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{TELLING, is_sentence};
use crate::{
    envelope::{Envelope, SymmetricKey},
    errors::{Asked, Failure, Refusal},
    items::{Listed, to_item},
    keys::{KeyChain, RsaKey},
    model::{ItemAnswer, Keysets, MAX_TEXT_CHARS, Overview, Overviews, PatchAnswer, Vault, VaultAttributes, cut},
    vaults::OpenVault,
    wire,
};

/// A server's name that no message has by chance.
const SERVER: &str = "a.example";

/// Whatever the server answers, nothing of it is in a message, no envelope opens that was not made
/// with the key, and what a list shows of an item is short and not secret.
pub fn answer(status: u16, json: &[u8]) {
    refused(status, json);
    misread(json, wire::read::<ItemAnswer>(json).map(|answer| opens_not(&answer.item.enc_details)));
    misread(json, wire::read::<Keysets>(json).map(|answer| locked(&answer)));
    misread(json, wire::read::<PatchAnswer>(json).map(drop));
    misread(json, wire::read::<Overviews<'_>>(json).map(|answer| listed(&answer)));
    misread(json, wire::read::<Envelope>(json).map(|envelope| opens_not(&envelope)));
    misread(json, wire::read::<Vault>(json).map(|vault| opens_not(&vault.enc_attrs)));
    if let Ok(overview) = serde_json::from_slice::<Overview>(json) {
        shown(overview);
    }
    if let Ok(attributes) = serde_json::from_slice::<VaultAttributes>(json) {
        assert!(cut(attributes.name.unwrap_or_default()).chars().count() <= MAX_TEXT_CHARS);
    }
    if let Ok(key) = SymmetricKey::from_jwk(json) {
        assert_eq!(format!("{key:?}"), format!("SymmetricKey {{ id: {:?}, .. }}", key.id()));
    }
    // A key of these numbers, if they are one.
    let _ = RsaKey::from_jwk(json);
}

/// A refusal of this status.
fn refused(status: u16, body: &[u8]) {
    let response = Response { status, headers: Headers::new(), body: Zeroizing::new(body.to_vec()) };
    let Some(refusal) = Refusal::of(&response, 0) else { return };
    for asked in [Asked::SignIn, Asked::Account, Asked::Vault(None), Asked::Item(Some("v")), Asked::Change(None)] {
        keeps_quiet(Failure::Refused(refusal), asked, body);
    }
}

/// The error of an answer that could not be read.
fn misread(json: &[u8], read: Result<(), Failure>) {
    if let Err(failure) = read {
        keeps_quiet(failure, Asked::Account, json);
    }
}

/// No text of the answer is in the message.
fn keeps_quiet(failure: Failure, asked: Asked<'_>, json: &[u8]) {
    let error = failure.into_error(SERVER, asked);
    is_sentence(&error);
    let mut rest: Vec<Value> = serde_json::from_slice(json).into_iter().collect();
    while let Some(value) = rest.pop() {
        match value {
            Value::String(text) if text.len() >= TELLING && !text.contains(' ') => {
                assert!(!error.message.contains(&text), "{}", error.message);
            }
            Value::Array(elements) => rest.extend(elements),
            Value::Object(members) => rest.extend(members.into_iter().flat_map(|(name, value)| [name.into(), value])),
            _ => {}
        }
    }
}

fn key() -> SymmetricKey {
    SymmetricKey::new("k", &[7; 32])
}

fn opens_not(envelope: &Envelope) {
    let named = Envelope { kid: key().id().to_owned(), ..envelope.clone() };
    assert!(key().open(&named).is_err(), "an envelope that nobody sealed");
    assert_eq!(wire::read::<Envelope>(&envelope.to_json()).ok().map(|read| read.to_json()), Some(envelope.to_json()));
}

fn locked(answer: &Keysets) {
    let master = key();
    for keyset in &answer.keysets {
        let mut chain = KeyChain::new(&answer.keysets, &master);
        let kid = serde_json::to_value(keyset).unwrap_or_default()["uuid"].as_str().unwrap_or_default().to_owned();
        let envelope = Envelope { cty: String::new(), kid, enc: "RSA-OAEP".into(), iv: None, data: String::new() };
        assert!(chain.open_vault_key(&envelope).is_err(), "a keyset that nobody sealed");
    }
}

fn listed(answer: &Overviews<'_>) {
    let mut listed = Listed::default();
    listed.read(&answer.items);
    assert_eq!(listed.items.len() + listed.unreadable, answer.items.len(), "every item is counted");
    listed.items.iter().filter_map(|item| item.enc_overview.as_ref()).for_each(opens_not);
}

fn shown(overview: Overview) {
    let envelope = r#"{"cty":"","kid":"k","enc":"","data":""}"#;
    let vault = format!(
        r#"{{"uuid":"v","contentVersion":1,"encAttrs":{envelope},"combinedAccess":{{"acl":1,"encVaultKey":{envelope}}}}}"#
    );
    let vault = OpenVault::new(wire::read(vault.as_bytes()).expect("a vault"), "name".into());
    let login = serde_json::from_str(r#"{"uuid":"i","templateUuid":"001"}"#).expect("an item");
    let item = to_item(&vault, &login, overview);
    assert!(item.title.chars().count() <= MAX_TEXT_CHARS);
    for url in &item.urls {
        assert!(url.chars().count() <= MAX_TEXT_CHARS);
        let url = keyway_sdk::url::Url::parse(url).expect("an address");
        assert!(url.username().is_empty() && url.password().is_none());
        assert!(url.query().is_none() && url.fragment().is_none() && ["http", "https"].contains(&url.scheme()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_hold_for_answers_of_every_kind() {
        let envelope = r#"{"cty":"b5+jwk+json","kid":"k","enc":"A256GCM","iv":"AAAAAAAAAAAAAAAA","data":"AAAAAAAAAAAAAAAAAAAAAAAA"}"#;
        let keyset = |uuid: &str, by: &str| {
            format!(r#"{{"uuid":"{uuid}","encryptedBy":"{by}","sn":1,"encSymKey":{envelope},"encPriKey":{envelope}}}"#)
        };
        for json in [
            envelope.to_owned(),
            format!(r#"{{"keysets":[{},{},{}]}}"#, keyset("a", "mp"), keyset("b", "a"), keyset("c", "c")),
            format!(
                r#"{{"contentVersion":1,"items":[7,{{"uuid":"i","templateUuid":"001","encOverview":{envelope}}}]}}"#
            ),
            r#"{"title":"t","url":"https://user:secret-secret-secret@example.com/a?b#c"}"#.to_owned(),
            r#"{"errorCode":102,"reason":"a-text-that-nobody-should-see"}"#.to_owned(),
            r#"{"kty":"RSA","alg":"RSA-OAEP","n":"","e":"","d":"","p":"","q":""}"#.to_owned(),
            "<html>".to_owned(),
            String::new(),
        ] {
            for status in [200, 302, 400, 401, 403, 404, 409, 429, 500] {
                answer(status, json.as_bytes());
            }
        }
    }
}
