//! Blots out secrets in text that comes out of a component: log lines and error messages.
//!
//! It knows the secrets of the call at hand. It is the second line of defence: a component that wants to hide a secret in its output
//! can encode it, and the log stays inside of the house in any case.

use std::borrow::Cow;

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// What takes a secret's place.
const PLACEHOLDER: &str = "[REDACTED]";

/// Shorter values are left alone: they would blot out half of every message and are no secrets to begin with.
const MIN_SECRET_CHARS: usize = 4;

/// Longest message that a component can put before a person.
const MAX_MESSAGE_CHARS: usize = 1_000;

/// The secrets of one call.
#[derive(Default)]
pub(crate) struct Redactor(Vec<SecretString>);

impl Redactor {
    pub(crate) fn add(&mut self, secret: &SecretString) {
        // A copy, because the call gives its values away before its log is written.
        if secret.expose_secret().chars().count() >= MIN_SECRET_CHARS {
            self.0.push(secret.clone());
            // The longest first: a secret may contain another one.
            self.0.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
        }
    }

    /// The text without the secrets.
    pub(crate) fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut clean = Cow::Borrowed(text);
        for secret in &self.0 {
            if let Some(without) = replace(&clean, secret.expose_secret()) {
                clean = Cow::Owned(without);
            }
        }
        clean
    }

    /// A message for a person: without secrets, without control characters, not endless.
    pub(crate) fn message(&self, text: &str) -> String {
        let clean = self.clean(text);
        let mut message: String =
            clean.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE_CHARS).collect();
        if clean.chars().nth(MAX_MESSAGE_CHARS).is_some() {
            message.push('…');
        }
        message
    }
}

/// The text without the secret in any case of its ASCII letters: a host name, for one, arrives in lower case.
fn replace(text: &str, secret: &str) -> Option<String> {
    let secret = Zeroizing::new(secret.to_ascii_lowercase());
    // Changes no length, so that what is found here is at the same place there.
    let lower = Zeroizing::new(text.to_ascii_lowercase());
    let mut found = lower.match_indices(secret.as_str()).peekable();
    found.peek()?;
    let (mut without, mut end) = (String::with_capacity(text.len()), 0);
    for (start, matched) in found {
        without.push_str(text.get(end..start).unwrap_or_default());
        without.push_str(PLACEHOLDER);
        end = start + matched.len();
    }
    without.push_str(text.get(end..).unwrap_or_default());
    Some(without)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_blotted_out_wherever_they_stand() {
        let mut redactor = Redactor::default();
        redactor.add(&"ops_abc".into());
        redactor.add(&"s3cret".into());
        assert_eq!(redactor.clean("ops_abc and s3crets3cret"), "[REDACTED] and [REDACTED][REDACTED]");
        assert_eq!(redactor.clean("nothing here"), "nothing here");
    }

    #[test]
    fn a_secret_inside_of_another_and_in_another_case_leaves_nothing_behind() {
        let mut redactor = Redactor::default();
        redactor.add(&"alice".into());
        redactor.add(&"alice-Secret-99".into());
        assert_eq!(
            redactor.clean("alice-Secret-99 is Alice's at https://ALICE-secret-99.x"),
            "[REDACTED] is [REDACTED]'s at https://[REDACTED].x"
        );
    }

    #[test]
    fn a_message_is_one_bounded_line() {
        let message = Redactor::default().message(&format!("a\nb\u{1b}[31m{}", "x".repeat(5_000)));
        assert!(message.starts_with("a b [31mx"));
        assert_eq!(message.chars().count(), 1_001);
    }
}
