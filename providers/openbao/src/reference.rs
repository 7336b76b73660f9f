//! References: `vault://<mount>/<path>`, the path that `bao kv get` and `vault kv get` take.
//!
//! Where the mount ends is not written down: a mount may contain slashes, and only the server knows
//! its mounts. The normal form encodes each part as a segment of a URL's path (RFC 3986, `pchar`),
//! so `%2F` and `/` are the same.

use keyway_sdk::{Error, Result, reference::Reference};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The scheme, without `://`.
pub(crate) const SCHEME: &str = "vault";
/// The format, for messages.
pub(crate) const FORMAT: &str = "vault://<mount>/<path>";

/// What `pchar` allows as it is, besides letters and digits.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// The longest reference that a host accepts, in characters; all are ASCII here.
const MAX_LENGTH: usize = 2_000;

/// The path of a secret with its mount, decoded: at least two parts, none of them empty, `.` or
/// `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretPath(String);

impl SecretPath {
    /// Parses a reference. No message repeats it, because the pasted text may be a secret.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let reference = Reference::parse(text, SCHEME, FORMAT)?;
        if reference.query().is_some() || text.contains('#') {
            return Err(invalid(
                "This reference names more than a secret. Leave out what follows '?' or '#', or write \
                                these characters as %3F and %23.",
            ));
        }
        let mut parts = Vec::new();
        for part in reference.iter() {
            parts.push(decoded(part).ok_or_else(|| invalid("A '%' in the reference must be written as %25."))?);
        }
        Self::new(parts.join("/"))
            .ok_or_else(|| invalid("A reference needs a mount and a path, and no part may be empty, '.' or '..'."))
    }

    /// A path that the server named. `None` if no reference can name it.
    pub(crate) fn new(path: String) -> Option<Self> {
        let good = |part: &str| !matches!(part, "" | "." | "..");
        let path = Self(path);
        let named = path.0.contains('/') && path.parts().all(good) && !path.0.chars().any(char::is_control);
        (named && path.to_reference().len() <= MAX_LENGTH).then_some(path)
    }

    /// The normal form of its reference.
    pub(crate) fn to_reference(&self) -> String {
        let parts: Vec<_> = self.parts().map(|part| utf8_percent_encode(part, ENCODED).to_string()).collect();
        format!("{SCHEME}://{}", parts.join("/"))
    }

    fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The path, without a leading slash.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows this mount, which ends with a slash. `None` if it is in another one.
    pub(crate) fn below(&self, mount: &str) -> Option<&str> {
        self.0.strip_prefix(mount).filter(|path| !path.is_empty())
    }
}

fn decoded(part: &str) -> Option<String> {
    // The crate leaves what is no escape as it is.
    let well_formed = part.split('%').skip(1).all(|rest| {
        let bytes = rest.as_bytes();
        bytes.len() >= 2 && bytes.iter().take(2).all(u8::is_ascii_hexdigit)
    });
    let text = percent_decode_str(part).decode_utf8().ok()?;
    well_formed.then(|| text.into_owned())
}

fn invalid(what: &str) -> Error {
    Error::invalid_reference(format!("{what} A reference looks like {FORMAT}."))
}

#[cfg(test)]
mod tests {
    use keyway_sdk::ErrorCode;

    use super::*;

    fn normal(text: &str) -> Result<String> {
        SecretPath::parse(text).map(|path| path.to_reference())
    }

    #[test]
    fn all_spellings_of_a_path_have_one_normal_form_which_is_its_own() {
        for (text, form) in [
            ("vault://secret/web/acme", "vault://secret/web/acme"),
            ("VAULT://secret/web%2Facme", "vault://secret/web/acme"),
            ("vault://secret/%61cme", "vault://secret/acme"),
            ("vault://secret/x y/\u{fc}", "vault://secret/x%20y/%C3%BC"),
            ("vault://secret/x%20y/%c3%bc", "vault://secret/x%20y/%C3%BC"),
            ("vault://secret/100%25%3F%23%20", "vault://secret/100%25%3F%23%20"),
            ("vault://secret/a@b:c,d=e", "vault://secret/a@b:c,d=e"),
        ] {
            assert_eq!(normal(text).unwrap(), form, "{text}");
            assert_eq!(normal(form).unwrap(), form, "{text}");
        }
    }

    #[test]
    fn what_names_no_secret_is_refused_without_repeating_it() {
        for text in [
            "vault://hunter2",
            "vault://hunter2/",
            "vault://hunter2//x",
            "vault://hunter2/../x",
            "vault://hunter2/%2E%2e/x",
            "vault://hunter2/a%2F",
            "vault://hunter2/100%",
            "vault://hunter2/%ff",
            "vault://hunter2/%0a",
            "vault://hunter2/x?version=1",
            "vault://hunter2/x#password",
            "op://hunter2/x",
        ] {
            let error = normal(text).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidReference, "{text}");
            assert!(!error.message.contains("hunter2") && error.message.ends_with("<mount>/<path>."), "{error}");
        }
        assert!(normal(&format!("vault://secret/{}", "\u{fc}".repeat(400))).is_err(), "its normal form is too long");
    }

    #[test]
    fn a_mount_may_have_slashes() {
        let path = SecretPath::parse("vault://team/kv/a/b").unwrap();
        assert_eq!(path.below("team/kv/"), Some("a/b"));
        assert_eq!(path.below("team/k/"), None);
        assert_eq!(path.below("team/kv/a/b/"), None);
    }
}
