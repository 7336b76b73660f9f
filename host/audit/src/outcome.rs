//! How an operation ended, as the log records it.
//!
//! The code of an error is the same as the one that the HTTP API answers with.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::InvalidQuery;
use crate::error_kind::{ErrorKind, codes};

/// How an operation ended, as it is recorded. A code that this version does not know comes from a
/// newer version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Outcome(Cow<'static, str>);

impl Outcome {
    /// It was done.
    pub const OK: Self = Self(Cow::Borrowed("ok"));
    /// It is about to be done. A change with this record and no outcome was interrupted: it may or
    /// may not have happened.
    pub const BEGUN: Self = Self(Cow::Borrowed("begun"));

    /// `ok`, `begun` or the code of an error, for example `FORBIDDEN`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<ErrorKind> for Outcome {
    fn from(kind: ErrorKind) -> Self {
        Self(Cow::Borrowed(kind.code()))
    }
}

/// Which outcomes match. Parsed case-insensitively.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutcomeFilter(Wanted);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Failed,
    Only(&'static str),
}

impl OutcomeFilter {
    /// Every error.
    pub const FAILED: Self = Self(Wanted::Failed);

    /// All words that parse: `ok`, `begun`, `failed`, and the codes of errors.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let errors = ErrorKind::ALL.iter().map(|kind| kind.code());
        ["ok", "begun", "failed"]
            .into_iter()
            .chain(errors)
            .chain(Shortfall::ALL.iter().map(|shortfall| shortfall.code()))
    }

    /// Whether this outcome matches.
    pub(super) fn matches(self, outcome: &Outcome) -> bool {
        match self.0 {
            Wanted::Failed => ![Outcome::OK, Outcome::BEGUN].contains(outcome),
            Wanted::Only(name) => outcome.as_str() == name,
        }
    }
}

impl FromStr for OutcomeFilter {
    type Err = InvalidQuery;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Self::names().find(|name| name.eq_ignore_ascii_case(text)) {
            Some("failed") => Ok(Self::FAILED),
            Some(name) => Ok(Self(Wanted::Only(name))),
            None => Err(InvalidQuery::Outcome),
        }
    }
}

impl fmt::Display for OutcomeFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Wanted::Failed => "failed",
            Wanted::Only(name) => name,
        })
    }
}

codes! {
    /// Why an operation that returned a result did not achieve its purpose.
    pub(crate) Shortfall {
        /// A rotation was not begun.
        Skipped = "SKIPPED";
        /// A password is not written yet; the write is retried.
        WriteBackPending = "WRITE_BACK_PENDING";
        /// A password cannot be written until a person has acted.
        WriteBackFailed = "WRITE_BACK_FAILED";
        /// The item has another password.
        WriteBackConflict = "WRITE_BACK_CONFLICT";
    }
}

impl From<Shortfall> for Outcome {
    fn from(shortfall: Shortfall) -> Self {
        Self(Cow::Borrowed(shortfall.code()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_stands_for_every_error_and_codes_are_known_in_either_case() {
        let forbidden = Outcome::from(ErrorKind::Forbidden);
        let wants = |text: &str, outcome: &Outcome| text.parse::<OutcomeFilter>().unwrap().matches(outcome);
        assert!(wants("failed", &forbidden) && wants("forbidden", &forbidden) && wants("FORBIDDEN", &forbidden));
        assert!(!wants("failed", &Outcome::OK) && !wants("failed", &Outcome::BEGUN) && !wants("CONFLICT", &forbidden));
        assert!(wants("OK", &Outcome::OK) && wants("begun", &Outcome::BEGUN));
        assert_eq!("FORBIDEN".parse::<OutcomeFilter>(), Err(InvalidQuery::Outcome));
    }

    #[test]
    fn every_word_is_read_as_it_is_written() {
        for name in OutcomeFilter::names() {
            assert_eq!(name.parse::<OutcomeFilter>().unwrap().to_string(), name);
        }
    }
}
