//! What holds for everything that a component says and that people enter: what passes the checks
//! keeps the contract's promises, and what does not is refused without a secret in the message.

#![allow(clippy::expect_used, reason = "a panic is a finding")]

use secrecy::ExposeSecret;

use crate::contract::{
    Attribute, Description, Field, FieldKind, FieldSpec, FieldValue, ItemPage, Lease, Resolved, Selection, Settings,
    Verified,
};
use crate::egress::{ApprovedDestination, DestinationTemplate, from_setting};
use crate::error::ProviderError;
use crate::redact::{Received, Redactor};
use crate::settings::Patterns;
use crate::validate;

/// Part of every secret value, and of nothing that is public.
pub const CANARY: &str = "hunter2hunter2";

/// Time in the calls, in seconds since 1970.
pub const NOW: u64 = 1_800_000_000;

/// A field as a component returns it.
pub fn field(name: String, kind: FieldKind, value: FieldValue, attributes: Vec<Attribute>) -> Field {
    Field { name, kind, value, attributes }
}

/// A lease as a component returns it.
pub fn lease(id: String, expires_at: u64, attributes: Vec<Attribute>) -> Lease {
    Lease { id, expires_at, renewable: true, attributes }
}

/// A description that is accepted survives being stored. Settings that it accepts lead only to
/// destinations that it declares; of those that it refuses no value is repeated.
pub fn description(description: &Description, settings: &Settings) {
    if let Err(reason) = validate::description(description) {
        assert!(!reason.is_empty());
        return;
    }
    let stored = serde_json::to_string(description).expect("texts and numbers");
    assert_eq!(serde_json::from_str::<Description>(&stored).ok().as_ref(), Some(description));
    let Ok(patterns) = Patterns::compile(description) else { return };
    if validate::defaults(description, &patterns).is_err() {
        return;
    }
    if let Err(error) = description.check_settings(settings, &patterns) {
        keeps_quiet(&error, settings);
        return;
    }
    let effective = description.effective_settings(settings);
    assert!(effective.iter().all(|(name, _)| description.settings.iter().any(|spec| spec.name == name)));
    match description.approved_destinations(settings) {
        Ok(approved) => {
            assert!(approved.len() <= description.destinations.len());
            approved.iter().for_each(is_stored_as_it_is);
            let again = description.approved_destinations(&effective);
            assert_eq!(again.as_deref(), Ok(approved.as_slice()), "as the provider receives the settings");
        }
        Err(error) => assert!(!error.to_string().contains(CANARY), "{error}"),
    }
}

/// A declared destination with a placeholder leads to no other domain, whatever the value.
pub fn template(template: &str, description: &Description, value: &str) {
    let Ok(parsed) = DestinationTemplate::parse(template, description) else { return };
    let all = |value: &str| {
        let names = description.settings.iter().map(|spec| &spec.name);
        parsed.with(&names.fold(Settings::new(), |settings, name| settings.with(name, value)))
    };
    let Ok(Some(approved)) = all(value) else { return };
    is_stored_as_it_is(&approved);
    if matches!(parsed, DestinationTemplate::Labels(_)) {
        let harmless = all("x").ok().flatten().expect("a value of one letter");
        let domain =
            |of: &ApprovedDestination| of.to_string().rsplit('.').take(2).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(domain(&approved), domain(&harmless), "{template}");
    }
}

/// A destination has one spelling, also when a setting names it, and covers itself.
pub fn destination(text: &str) {
    let approved = text.parse::<ApprovedDestination>().ok();
    approved.iter().chain(&from_setting(text)).for_each(is_stored_as_it_is);
}

fn is_stored_as_it_is(approved: &ApprovedDestination) {
    let shown = approved.to_string();
    assert_eq!(shown.parse::<ApprovedDestination>().as_ref(), Ok(approved), "{shown}");
}

fn keeps_quiet(error: &ProviderError, settings: &Settings) {
    let told = format!("{error} {error:?}");
    // A name may be told, so a value that is part of one may be, too.
    let is_named = settings.iter().any(|(name, _)| name.contains(CANARY));
    assert!(is_named || !told.contains(CANARY), "{told}");
}

/// A reference that is accepted has the scheme, and its normal form would be accepted, too.
pub fn reference(description: &Description, text: &str) {
    if validate::reference(description, text).is_ok() {
        assert!(!text.contains(char::is_control) && text.chars().count() <= validate::MAX_TEXT_CHARS);
    }
    if validate::normal_form(description, text).is_ok() {
        assert_eq!(validate::reference(description, text), Ok(()));
        assert!(text.starts_with(&description.reference_scheme));
    }
}

/// What is accepted as an answer has nothing that was not asked for, and prints no secret.
pub fn resolved(mut answer: Resolved, asked: &Selection) {
    let accepted = validate::resolved(&mut answer, asked, NOW);
    assert!(!format!("{answer:?}").contains(CANARY), "a value is printed");
    if let Err(reason) = accepted {
        assert!(!reason.contains(CANARY), "{reason}");
        return;
    }
    let standard = &asked.standard;
    assert!(standard.username || answer.username.is_none());
    assert!(standard.password || answer.password.is_none());
    assert!(standard.one_time_code || answer.one_time_code.is_none());
    let mut names: Vec<_> = answer.further.iter().map(|field| &field.name).collect();
    assert!(names.iter().all(|name| asked.further.contains(name)));
    names.sort();
    names.dedup();
    assert_eq!(names.len(), answer.further.len(), "each once");
    assert!(!answer.revision.is_empty() && answer.revision.len() <= validate::MAX_ID_BYTES);
    assert!(answer.valid_until.is_none_or(|until| until > NOW && until < u64::from(u32::MAX) * 4));
    if let Some(Ok(code)) = &answer.one_time_code {
        assert!(code.period_seconds > 0 && code.code.expose_secret().len() <= validate::MAX_CODE_CHARS);
    }
    assert_eq!(validate::resolved(&mut answer, asked, NOW), Ok(()), "the same again");
}

/// What is accepted of a connection and of its items is bounded, and survives being stored.
pub fn listed(description: &Description, page: &ItemPage, verified: &Verified, fields: &[FieldSpec]) {
    let short = |text: &String| text.chars().count() <= validate::MAX_TEXT_CHARS;
    if validate::item_page(description, page).is_ok() {
        assert!(page.items.len() <= validate::MAX_ITEMS);
        for item in &page.items {
            assert!(!item.id.is_empty() && short(&item.id) && short(&item.title) && item.urls.iter().all(short));
            assert_eq!(validate::reference(description, &item.reference), Ok(()));
        }
        let stored = serde_json::to_string(page).expect("texts");
        assert_eq!(serde_json::from_str::<ItemPage>(&stored).ok().as_ref(), Some(page));
    }
    if validate::verified(verified).is_ok() {
        assert!(short(&verified.account) && verified.vault_count != Some(0));
        assert!(verified.writable_vault_count <= verified.vault_count || verified.vault_count.is_none());
    }
    if validate::field_specs(fields).is_ok() {
        let mut names: Vec<_> = fields.iter().map(|field| &field.name).collect();
        names.sort();
        names.dedup();
        assert!(names.len() == fields.len() && fields.len() <= validate::MAX_FIELDS);
    }
}

/// A message has no secret in it, in whatever form and between whatever texts it was printed.
pub fn redaction(secret: &str, body: &[u8], before: &str, after: &str) {
    let received = Received::default();
    let number = received.begin();
    received.keep(number, body);
    let mut redactor = Redactor::new(received, "".into());
    redactor.add(&secret.into());
    let secret = secret.trim();
    let in_json = serde_json::to_string(secret).expect("a text");
    let in_url: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let in_debug = secret.escape_debug().to_string();
    for form in [secret, &secret.to_ascii_uppercase(), in_json.trim_matches('"'), &in_url, &in_debug] {
        let text = format!("{before}{form}{after}");
        let message = redactor.message(&text);
        assert!(message.chars().count() <= crate::redact::MAX_MESSAGE_CHARS + 1 && !message.contains(char::is_control));
        let Some(clean) = redactor.clean(&text) else { continue };
        // Values that are JSON are searched for their parts; short ones are none.
        let is_value = secret.chars().count() >= 4 && !secret.starts_with(['{', '[', '"']);
        let (rest, form) = (clean.to_ascii_lowercase(), form.to_ascii_lowercase());
        assert!(!is_value || !rest.split("[redacted]").any(|part| part.contains(&form)), "{clean:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Fields, Item, OneTimeCode, SettingKind, SettingSpec};

    #[test]
    fn they_hold_for_some_of_each_kind() {
        let spec =
            |name: &str, kind| SettingSpec { name: name.into(), label: "L".into(), kind, ..SettingSpec::default() };
        let said = Description {
            provider_type: "x".into(),
            display_name: "X".into(),
            version: "1".into(),
            reference_scheme: "x".into(),
            settings: vec![spec("region", SettingKind::Text), spec("address", SettingKind::Url)],
            destinations: vec!["https://a.{region}.example.com".into(), "{address}".into()],
            ..Description::default()
        };
        for value in ["eu", "a.b", CANARY, ""] {
            description(&said, &Settings::new().with("region", value).with("address", "example.com:8443/x"));
            description(&said, &Settings::new().with("regoin", value).with("address", value));
            template("https://a.{region}.example.com", &said, value);
            redaction(value, br#"{"a":"b"}"#, "x ", " y");
        }
        for text in ["x://a", "X://", "", "https://*.example.com", "http://[::1]:8080", "1.2.3.4"] {
            reference(&said, text);
            destination(text);
        }
        let code = OneTimeCode::new(CANARY, 1, 1);
        let value = || FieldValue::Text(CANARY.into());
        let answer = Resolved {
            password: Some(CANARY.into()),
            one_time_code: Some(Ok(code)),
            further: vec![field("a".into(), FieldKind::Text, value(), Vec::new())],
            revision: "1".into(),
            lease: Some(lease("l".into(), NOW, Vec::new())),
            ..Resolved::default()
        };
        resolved(answer, &Selection::from(Fields::ALL).further(vec!["a".into()]));
        let item = Item { id: "i".into(), reference: "x://i".into(), ..Item::default() };
        listed(&said, &ItemPage { items: vec![item], ..ItemPage::default() }, &Verified::default(), &[]);
    }
}
