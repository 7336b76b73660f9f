//! What an API key allows.

use std::fmt;
use std::str::FromStr;

use crate::UnknownName;
use crate::names::names;

names! {
    /// What an API key allows.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum Scope or UnknownName::Scope {
        /// List connections and items; read and write vault entries. No secret values.
        Api = "api",
        /// Manage connections and API keys.
        Admin = "admin",
        /// Resolve secret values.
        Resolve = "resolve",
        /// Rotate passwords: get new ones, and have them written to the items. Separate from
        /// [`Resolve`](Self::Resolve), so that a client that only logs in cannot lock users out.
        Rotate = "rotate",
    }
}

/// A set of scopes. Its text form is their names separated by spaces.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// No scope.
    pub const NONE: Self = Self(0);
    /// Every scope.
    pub const ALL: Self = Self(0b1111);

    /// Whether `scope` is in the set.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// Adds `scope` to the set.
    #[must_use]
    pub fn with(self, scope: Scope) -> Self {
        Self(self.0 | (1 << scope as u8))
    }

    /// The scopes in the set.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }
}

impl From<Scope> for Scopes {
    fn from(scope: Scope) -> Self {
        Self::NONE.with(scope)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, Self::with)
    }
}

impl FromStr for Scopes {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_ascii_whitespace().map(Scope::from_str).collect()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Scope::name).collect();
        f.write_str(&names.join(" "))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_written_as_they_are_read() {
        let scopes = Scopes::from(Scope::Api).with(Scope::Resolve);
        assert_eq!(scopes.to_string(), "api resolve");
        assert_eq!("resolve api".parse(), Ok(scopes));
        assert!(!scopes.contains(Scope::Admin));
        assert_eq!("api root".parse::<Scopes>(), Err(UnknownName::Scope));
        assert_eq!(Scopes::ALL, Scope::ALL.into_iter().collect());
    }
}
