//! Header fields whose values are wiped when dropped and never printed.

use std::fmt;

use zeroize::Zeroizing;

/// Header fields in order. Names are compared case-insensitively (RFC 9110, section 5.1).
#[derive(Default)]
pub struct Headers(Vec<(String, Zeroizing<Vec<u8>>)>);

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first value of this name; also `None` if it is not UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// Sets the only value of this name and removes earlier ones.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        let name = name.into();
        self.0.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
        self.0.push((name, Zeroizing::new(value.into())));
    }

    /// Adds a value to those of the same name.
    pub fn append(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.0.push((name.into(), Zeroizing::new(value.into())));
    }

    /// The same headers plus this one; see [`Headers::set`].
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.set(name, value);
        self
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}

/// Prints the names only.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_regard_to_case() {
        let headers = Headers::new().with("Content-Type", "text/plain");
        assert_eq!(headers.get("content-type"), Some("text/plain"));
    }

    #[test]
    fn setting_replaces_and_appending_keeps() {
        let mut headers = Headers::new().with("a", "1").with("A", "2");
        headers.append("a", "3");
        assert_eq!(headers.iter().map(|(_, value)| value).collect::<Vec<_>>(), [b"2", b"3"]);
    }

    #[test]
    fn values_are_not_printed() {
        let headers = Headers::new().with("authorization", "Bearer hunter2");
        assert_eq!(format!("{headers:?}"), r#"["authorization"]"#);
    }
}
