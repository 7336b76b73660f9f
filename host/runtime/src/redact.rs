//! Redacts secrets in text that comes out of a component: log lines and messages.
//!
//! Every secret that passed the boundary in this call counts: settings, new values, returned
//! values, every value in the body of a server's answer, and tokens in its headers. If a provider
//! was asked only for a code and prints the password beside it, a placeholder is printed. Where the
//! secrets cannot be determined (more bodies than are kept, an unrequested compressed one), the
//! text is withheld.
//!
//! This is the second line of defence. A component that wants to hide a secret in its output can
//! encode it, and a secret that only the component can decrypt is known here only once it is
//! returned.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use secrecy::{ExposeSecret, SecretString};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::{Zeroize, Zeroizing};

use crate::contract::Attribute;
use crate::validate::MAX_LIST;

/// Replaces a secret.
const PLACEHOLDER: &str = "[REDACTED]";

/// Replaces a message that cannot be searched.
const WITHHELD: &str = "The provider's message is withheld, because the host cannot tell whether a secret is in it.";

/// Shorter values stay: redacting them would destroy half of every message, and they are no secrets
/// to begin with.
const MIN_SECRET_CHARS: usize = 4;

/// The longest message that a component can show to a person, as the contract says.
pub(crate) const MAX_MESSAGE_CHARS: usize = 1_000;

/// How many bytes of one call's bodies are kept until the call ends. A page of 10,000 items is
/// about as large.
const MAX_RECEIVED_BYTES: usize = 4 << 20;

/// Values times bytes of text to search, over all texts of one call: about 0.1 s at most.
const MAX_WORK: usize = 256 << 20;

/// How many values one call may have. A page of 10,000 items has about as many.
const MAX_VALUES: usize = 100_000;

/// Values of a session are secret if they look like tokens. Its other texts, such as the names of
/// vaults, belong in messages.
const MIN_TOKEN_CHARS: usize = 16;

/// Values nested in values: a JSON document in the text of a member, base64 in its encoding.
const MAX_DEPTH: usize = 4;

/// The bodies of the servers' answers in one call, as far as they can hold values. Wiped when
/// dropped.
#[derive(Clone, Default)]
pub(crate) struct Received(Arc<Mutex<Bodies>>);

#[derive(Default)]
struct Bodies {
    /// Each body in the pieces in which it arrived, so that none is moved.
    bodies: Vec<Vec<Zeroizing<Vec<u8>>>>,
    bytes: usize,
    /// State kept between calls, and headers, as far as they are text.
    states: Vec<Zeroizing<String>>,
    /// Something arrived that cannot be searched.
    opaque: bool,
}

impl Received {
    /// Starts to keep a body and returns its number.
    pub(crate) fn begin(&self) -> usize {
        let mut bodies = self.lock();
        bodies.bodies.push(Vec::new());
        bodies.bodies.len() - 1
    }

    /// Keeps a piece of a body.
    pub(crate) fn keep(&self, body: usize, piece: &[u8]) {
        let mut bodies = self.lock();
        bodies.bytes += piece.len();
        if bodies.bytes > MAX_RECEIVED_BYTES {
            bodies.opaque = true;
            bodies.bodies.iter_mut().for_each(Vec::clear);
        } else if let Some(pieces) = bodies.bodies.get_mut(body) {
            pieces.push(Zeroizing::new(piece.to_vec()));
        }
    }

    /// Keeps a session, a durable state or a header if it is text. Other bytes cannot be printed as
    /// they are.
    pub(crate) fn keep_state(&self, state: &[u8]) {
        if let Ok(text) = std::str::from_utf8(state) {
            self.lock().states.push(Zeroizing::new(text.to_owned()));
        }
    }

    /// Records the arrival of something that cannot be searched for values.
    pub(crate) fn opaque(&self) {
        self.lock().opaque = true;
    }

    fn lock(&self) -> MutexGuard<'_, Bodies> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is secret in one call.
#[derive(Default)]
pub(crate) struct Redactor {
    secrets: Vec<SecretString>,
    received: Received,
    /// Public texts, in lower case: a value that is a word of one is not secret.
    public: Arc<str>,
    /// The values to search for, computed after the call; `None` if they cannot be determined.
    values: OnceLock<Option<Values>>,
    work: AtomicUsize,
}

impl Redactor {
    /// The answers that one call receives, and texts that are public.
    pub(crate) fn new(received: Received, public: Arc<str>) -> Self {
        Self { received, public, ..Self::default() }
    }

    /// Adds a secret. All secrets are added before the first text is searched.
    pub(crate) fn add(&mut self, secret: &SecretString) {
        // A copy, because the call returns its values before its log is written.
        self.secrets.push(secret.clone());
        self.values = OnceLock::new();
    }

    /// The text without the secrets, or `None` if they cannot be determined.
    pub(crate) fn clean(&self, text: &str) -> Option<String> {
        let values = self.values.get_or_init(|| self.all_values()).as_ref()?;
        let lower = Zeroizing::new(text.to_ascii_lowercase());
        let work = values.0.len().saturating_mul(lower.len().max(64));
        if self.work.fetch_add(work, Ordering::Relaxed).saturating_add(work) > MAX_WORK {
            return None;
        }
        let mut spans: Vec<(usize, usize)> = Vec::new();
        for value in &values.0 {
            spans.extend(lower.match_indices(value.0.as_str()).map(|(start, found)| (start, start + found.len())));
        }
        spans.sort_unstable();
        Some(blot(text, &spans))
    }

    fn all_values(&self) -> Option<Values> {
        let mut values = Values::default();
        {
            let bodies = self.received.lock();
            if bodies.opaque {
                return None;
            }
            for pieces in &bodies.bodies {
                let mut body = Zeroizing::new(Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum()));
                pieces.iter().for_each(|piece| body.extend_from_slice(piece));
                if !body.is_empty() {
                    values.add_body(std::str::from_utf8(&body).ok()?);
                }
            }
            let words: HashSet<&str> = self.public.split(|c: char| !c.is_alphanumeric()).collect();
            values.0.retain(|value| !words.contains(value.0.as_str()));
            for state in &bodies.states {
                values.add_tokens(state);
            }
        }
        for secret in &self.secrets {
            values.add_text(secret.expose_secret(), 0);
        }
        values.add_encoded();
        (values.0.len() <= MAX_VALUES).then_some(values)
    }

    /// Redacts attributes to show. Only the first [`MAX_LIST`] matter: longer lists are refused.
    pub(crate) fn attributes(&self, attributes: &mut [Attribute]) {
        for attribute in attributes.iter_mut().take(MAX_LIST) {
            attribute.name = self.message(&attribute.name);
            attribute.value = self.message(&attribute.value);
        }
    }

    /// A message for a person: without secrets or control characters, and bounded.
    pub(crate) fn message(&self, text: &str) -> String {
        let Some(clean) = self.clean(text) else { return WITHHELD.to_owned() };
        let mut message: String =
            clean.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE_CHARS).collect();
        if clean.chars().nth(MAX_MESSAGE_CHARS).is_some() {
            message.push('…');
        }
        message
    }
}

/// The text with placeholders for these spans, which are in ascending order and may overlap.
fn blot(text: &str, spans: &[(usize, usize)]) -> String {
    let (mut without, mut end) = (String::with_capacity(text.len()), 0);
    for (from, to) in spans.iter().copied() {
        if from >= end {
            without.push_str(text.get(end..from).unwrap_or_default());
            without.push_str(PLACEHOLDER);
        }
        end = end.max(to);
    }
    without.push_str(text.get(end..).unwrap_or_default());
    without
}

/// A value in lower case, because a host name, for example, is printed that way.
#[derive(PartialEq, Eq, Hash)]
struct Value(String);

impl Drop for Value {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The secret values.
#[derive(Default)]
struct Values(HashSet<Value>);

impl Values {
    fn insert(&mut self, value: &str) {
        if value.chars().count() >= MIN_SECRET_CHARS {
            self.0.insert(Value(value.to_ascii_lowercase()));
        }
    }

    /// Adds a body: the values of a JSON document, or every word of any other format.
    fn add_body(&mut self, body: &str) {
        if self.add_json(body.trim_start_matches('\u{feff}').trim(), 0) {
            return;
        }
        self.add_text(body, 0);
        let separates = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '&' | '=' | ';' | ',' | '"' | '\'');
        body.split(separates).for_each(|word| self.add_text(word, MAX_DEPTH - 1));
    }

    /// Adds the values of a JSON document, if the text is one.
    fn add_json(&mut self, text: &str, depth: usize) -> bool {
        if depth >= MAX_DEPTH || !text.starts_with(['{', '[', '"']) {
            return false;
        }
        let mut json = serde_json::Deserializer::from_str(text);
        let walked = (Leaves { values: self, depth: depth + 1 }).deserialize(&mut json).is_ok();
        walked && json.end().is_ok()
    }

    /// Adds a text and the values nested in it.
    fn add_text(&mut self, text: &str, depth: usize) {
        let text = text.trim();
        if self.add_json(text, depth) {
            return;
        }
        self.insert(text);
        if text.contains('\n') {
            text.lines().for_each(|line| self.insert(line.trim()));
        }
        if depth < MAX_DEPTH
            && let Some(decoded) = from_base64(text)
        {
            self.add_text(&decoded, depth + 1);
        }
    }

    /// Adds the values that look like tokens.
    fn add_tokens(&mut self, state: &str) {
        let mut found = Self::default();
        found.add_body(state);
        found.0.retain(|value| value.0.chars().count() >= MIN_TOKEN_CHARS && !value.0.contains(char::is_whitespace));
        self.0.extend(found.0);
    }

    /// Adds the forms of a value in JSON, in a URL and in debug output.
    fn add_encoded(&mut self) {
        let mut encoded = Self::default();
        for Value(value) in &self.0 {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            if value.bytes().all(is_plain) {
                continue;
            }
            if let Ok(json) = serde_json::to_string(value) {
                let json = Zeroizing::new(json);
                let json = json.trim_matches('"');
                encoded.insert(json);
                // The form of Go's encoder; many secret managers are written in Go.
                encoded.insert(&json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e"));
            }
            encoded.insert(&value.escape_debug().to_string());
            encoded.insert(&url::form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>());
        }
        self.0.extend(encoded.0);
    }
}

/// The text that this base64 encodes, in either alphabet.
fn from_base64(text: &str) -> Option<Zeroizing<String>> {
    use data_encoding::{BASE64, BASE64URL, BASE64URL_NOPAD};

    let decoded = [BASE64, BASE64URL, BASE64URL_NOPAD]
        .iter()
        .find_map(|encoding| encoding.decode(text.as_bytes()).ok())
        .map(Zeroizing::new)?;
    Some(Zeroizing::new(std::str::from_utf8(&decoded).ok()?.to_owned()))
}

/// Walks a JSON document and adds its texts and numbers. Names of members are not values.
struct Leaves<'a> {
    values: &'a mut Values,
    depth: usize,
}

impl Leaves<'_> {
    fn inner(&mut self) -> Leaves<'_> {
        Leaves { values: self.values, depth: self.depth }
    }
}

impl<'de> DeserializeSeed<'de> for Leaves<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Leaves<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.values.insert(&Zeroizing::new(number.to_string()));
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.values.insert(&Zeroizing::new(number.to_string()));
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.values.insert(&Zeroizing::new(number.to_string()));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.values.add_text(text, self.depth);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut sequence: A) -> Result<(), A::Error> {
        while sequence.next_element_seed(self.inner())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(self.inner())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(redactor: &Redactor, text: &str) -> String {
        redactor.clean(text).unwrap()
    }

    fn received(bodies: &[&str]) -> Redactor {
        let received = Received::default();
        for body in bodies {
            let number = received.begin();
            let (start, end) = body.split_at(body.len() / 2);
            received.keep(number, start.as_bytes());
            received.keep(number, end.as_bytes());
        }
        Redactor::new(received, "the vault of acme".into())
    }

    #[test]
    fn secrets_are_blotted_out_wherever_they_stand() {
        let mut redactor = Redactor::default();
        redactor.add(&"ops_abc".into());
        redactor.add(&"s3cret".into());
        assert_eq!(clean(&redactor, "ops_abc and s3crets3cret"), "[REDACTED] and [REDACTED][REDACTED]");
        assert_eq!(clean(&redactor, "nothing here"), "nothing here");
    }

    #[test]
    fn a_secret_inside_of_another_and_in_another_case_leaves_nothing_behind() {
        let mut redactor = Redactor::default();
        redactor.add(&"alice".into());
        redactor.add(&"alice-Secret-99".into());
        assert_eq!(
            clean(&redactor, "alice-Secret-99 is Alice's at https://ALICE-secret-99.x"),
            "[REDACTED] is [REDACTED]'s at https://[REDACTED].x"
        );
    }

    #[test]
    fn secrets_that_overlap_leave_nothing_behind() {
        let mut redactor = Redactor::default();
        redactor.add(&"abcdef".into());
        redactor.add(&"defghi".into());
        assert_eq!(clean(&redactor, "x abcdefghi y"), "x [REDACTED] y");
    }

    #[test]
    fn every_value_of_a_body_is_secret_and_names_are_not() {
        let redactor =
            received(&[r#"{"data":{"password":"hunter2","pin":48151623,"nested":[{"note":"line one\nline two"}]}}"#]);
        assert_eq!(
            clean(&redactor, "password hunter2, pin 48151623, line two"),
            "password [REDACTED], pin [REDACTED], [REDACTED]"
        );
    }

    #[test]
    fn values_are_found_in_json_as_text_in_base64_and_in_plain_bodies() {
        // The shapes of answers of AWS and GCP.
        let redactor = received(&[
            r#"{"SecretString":"{\"username\":\"ada\",\"password\":\"correct horse\"}"}"#,
            r#"{"payload":{"data":"YmF0dGVyeSBzdGFwbGU="}}"#,
            "plain-text-secret\n",
        ]);
        assert_eq!(
            clean(&redactor, "correct horse, battery staple, plain-text-secret"),
            "[REDACTED], [REDACTED], [REDACTED]"
        );
    }

    #[test]
    fn what_everyone_may_see_anyway_is_no_secret() {
        let redactor = received(&[r#"{"path":"acme","password":"hunter2"}"#]);
        assert_eq!(clean(&redactor, "acme has hunter2"), "acme has [REDACTED]");
    }

    #[test]
    fn a_secret_is_found_in_every_form_that_it_takes() {
        let mut redactor =
            received(&[r#"{"password":"Tr0ub4dor&3 \"x\""}"#, "access_token=form-secret&x=1", "<K>xml-secret</K>"]);
        redactor.add(&" padded-token\n".into());
        redactor.add(&r#"{"private_key":"line-one\nline-two"}"#.into());
        let text = r#"Tr0ub4dor&3 "x", Tr0ub4dor\u00263 \"x\", tr0ub4dor%263+%22x%22, form-secret, xml-secret, padded-token, line-two"#;
        let clean = clean(&redactor, text);
        for secret in ["ub4dor", "form-secret", "xml-secret", "padded-token", "line-two"] {
            assert!(!clean.to_lowercase().contains(secret), "{secret}: {clean}");
        }
    }

    #[test]
    fn tokens_of_a_session_are_secret_and_names_in_it_are_not() {
        let redactor = received(&[]);
        redactor.received.keep_state(br#"{"token":"hvs.CAESIJlongtoken","vault":"Automation"}"#);
        assert_eq!(clean(&redactor, "hvs.CAESIJlongtoken of Automation"), "[REDACTED] of Automation");
    }

    #[test]
    fn many_texts_of_one_call_are_searched_within_one_budget() {
        let numbers: Vec<String> = (0..50_000).map(|n| format!("\"value-{n}\"")).collect();
        let redactor = received(&[&format!("[{}]", numbers.join(","))]);
        let cleaned = (0..1_000).filter(|_| redactor.clean("x").is_some()).count();
        assert!((1..1_000).contains(&cleaned), "{cleaned}");
    }

    #[test]
    fn what_cannot_be_searched_is_withheld() {
        let redactor = received(&[]);
        redactor.received.opaque();
        assert!(redactor.clean("x").is_none());
        assert_eq!(redactor.message("hunter2"), WITHHELD);

        let redactor = received(&[&"x".repeat(MAX_RECEIVED_BYTES), "more"]);
        assert!(redactor.clean("x").is_none());
    }

    #[test]
    fn a_message_is_one_bounded_line() {
        let message = Redactor::default().message(&format!("a\nb\u{1b}[31m{}", "x".repeat(5_000)));
        assert!(message.starts_with("a b [31mx"));
        assert_eq!(message.chars().count(), 1_001);
    }
}
