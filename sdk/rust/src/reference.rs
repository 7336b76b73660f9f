//! Parsing of references such as `op://<vaultId>/<itemId>`.
//!
//! Text pasted in place of a reference may be anything, even a password, so no message repeats it.

use crate::{Error, Result};

/// A parsed reference: `scheme://segment/segment/...`, optionally with `?query`.
///
/// ```
/// use keyway_sdk::reference::Reference;
///
/// let reference = Reference::parse("op://vault/item", "op", "op://<vaultId>/<itemId>")?;
/// let [vault, item] = reference.segments()?;
/// assert_eq!((vault, item), ("vault", "item"));
/// # Ok::<(), keyway_sdk::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference<'a> {
    path: &'a str,
    query: Option<&'a str>,
    format: &'a str,
}

/// The longest reference, in bytes. No secret manager's own references come near it.
const MAX_BYTES: usize = 4096;

impl<'a> Reference<'a> {
    /// Parses a reference of this scheme. `format` is the format to show in messages, as in
    /// [`Description::reference_format`](crate::Description::reference_format). The scheme may be
    /// in either case; the rest is kept as it is, without decoding.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidReference`](crate::ErrorCode::InvalidReference) if the scheme is a
    /// different one, a segment is empty or begins or ends with white space, or there is a control
    /// character.
    pub fn parse(text: &'a str, scheme: &str, format: &'a str) -> Result<Self> {
        let invalid = |what: &str| Err(Error::invalid_reference(format!("{what} A reference looks like {format}.")));
        if text.trim().is_empty() {
            return invalid("The reference is empty.");
        }
        if text.len() > MAX_BYTES {
            return invalid("The reference is too long.");
        }
        let rest = match text.split_once("://") {
            Some((start, rest)) if start.eq_ignore_ascii_case(scheme) => rest,
            Some(_) => return invalid("The reference has another scheme."),
            None => return invalid("This is not a reference."),
        };
        if text.chars().any(char::is_control) {
            return invalid("The reference has a line break or another control character in it.");
        }
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        if path.split('/').any(str::is_empty) {
            return invalid("A part of the reference is empty.");
        }
        if path.split('/').any(|segment| segment.trim() != segment) {
            return invalid("A part of the reference begins or ends with a space.");
        }
        Ok(Self { path, query, format })
    }

    /// The segments, if there are exactly `N`. None is empty.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidReference`](crate::ErrorCode::InvalidReference) if there are more or
    /// fewer.
    pub fn segments<const N: usize>(&self) -> Result<[&'a str; N]> {
        let segments: Vec<_> = self.iter().collect();
        let found = segments.len();
        segments.try_into().map_err(|_| {
            Error::invalid_reference(format!(
                "The reference has {found} {} where {N} {} needed. A reference looks like {}.",
                if found == 1 { "part" } else { "parts" },
                if N == 1 { "is" } else { "are" },
                self.format
            ))
        })
    }

    /// All segments in order; at least one.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.path.split('/')
    }

    /// The text after the first `?`, as it is.
    pub fn query(&self) -> Option<&'a str> {
        self.query
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;

    const FORMAT: &str = "op://<vaultId>/<itemId>";

    fn parse(text: &str) -> Result<Reference<'_>> {
        Reference::parse(text, "op", FORMAT)
    }

    #[test]
    fn a_reference_falls_into_its_segments() {
        assert_eq!(parse("op://v/i").unwrap().segments().unwrap(), ["v", "i"]);
        assert_eq!(parse("OP://My Vault/Größe?attribute=otp").unwrap().segments().unwrap(), ["My Vault", "Größe"]);
        assert_eq!(parse("op://v/i?attribute=otp").unwrap().query(), Some("attribute=otp"));
        assert_eq!(parse("op://v/i").unwrap().query(), None);
        assert_eq!(parse("op://v/i/section/field").unwrap().iter().count(), 4);
    }

    #[test]
    fn what_is_not_a_reference_says_why_and_how_one_looks() {
        for (text, why) in [
            ("", "empty"),
            ("  ", "empty"),
            ("hunter2", "not a reference"),
            ("https://v/i", "another scheme"),
            ("op:/v/i", "not a reference"),
            (" op://v/i", "another scheme"),
            ("op://", "part of the reference is empty"),
            ("op://v/", "part of the reference is empty"),
            ("op://v//i", "part of the reference is empty"),
            ("op://v/ i", "space"),
            ("op://v/i\n", "control character"),
        ] {
            let Err(Error { code: ErrorCode::InvalidReference, message, .. }) = parse(text) else {
                panic!("{text:?} was taken")
            };
            assert!(message.contains(why), "{text:?}: {message}");
            assert!(message.ends_with(&format!("A reference looks like {FORMAT}.")), "{message}");
        }
    }

    #[test]
    fn a_wrong_number_of_segments_is_counted() {
        let Err(Error { code: ErrorCode::InvalidReference, message, .. }) = parse("op://v").unwrap().segments::<2>()
        else {
            panic!()
        };
        assert_eq!(
            message,
            "The reference has 1 part where 2 are needed. A reference looks like op://<vaultId>/<itemId>."
        );
    }

    #[test]
    fn the_text_is_never_repeated() {
        for text in ["hunter2", "xx://hunter2/hunter2", "op://hunter2//", "op://hunter2"] {
            let error = parse(text).and_then(|reference| reference.segments::<2>()).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let long = format!("op://{}/i", "x".repeat(5000));
        assert!(parse(&long).unwrap_err().to_string().len() < 200);
    }
}
