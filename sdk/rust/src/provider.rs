//! The trait that a provider implements and what a call of it may use.

use url::Url;

use crate::http::{Client, Transport};
use crate::session::SessionStore;
use crate::{Changes, Description, Error, Fields, ItemPage, Resolved, Result, Settings, Verified, WriteAccess};

/// A secret provider: the functions that the contract asks a component to export.
///
/// Every call runs in an instance of its own, which is thrown away afterwards: nothing in memory survives, so the
/// functions take no `self`. What must survive, such as a login session, goes through [`Host::session`]. The host ends
/// a call that takes longer than it allows, 30 seconds unless the operator changed that.
///
/// [`export!`](crate::export) turns an implementation into a component.
pub trait SecretProvider {
    /// What the host needs to know before it can call anything else. The same every time.
    fn describe() -> Description;

    /// Does this connection work? Called before a host stores the settings: it logs in and looks around, and changes
    /// nothing. Credentials that work but can read no vault at all are [`Error::PermissionDenied`].
    fn verify(host: &Host<'_>, settings: &Settings) -> Result<Verified>;

    /// The items that `resolve` is made for, over all vaults that can be read, a page at a time: `None` for the first
    /// page and then the `next` of the page before. Items in the trash or the archive are left out.
    ///
    /// Without an implementation it is [`Error::Unsupported`], as the capability `list_items` left unset says.
    fn list_items(host: &Host<'_>, settings: &Settings, page: Option<&str>) -> Result<ItemPage> {
        let _ = (host, settings, page);
        Err(Error::Unsupported("This provider cannot list items. Enter the item's reference by hand.".into()))
    }

    /// The current values of one item, read from the server now. `reference` is one that `list_items` returned, or one
    /// that a person wrote; see [`Reference`](crate::reference::Reference).
    fn resolve(host: &Host<'_>, settings: &Settings, reference: &str, fields: Fields) -> Result<Resolved>;

    /// Changes the fields that are given and nothing else, and returns the new revision. With `expected_revision`, an
    /// item that is at another revision is [`Error::Conflict`] and stays as it is.
    ///
    /// Without an implementation it is [`Error::Unsupported`], as the capability `write` left unset says.
    fn write(
        host: &Host<'_>,
        settings: &Settings,
        reference: &str,
        changes: &Changes,
        expected_revision: Option<&str>,
    ) -> Result<String> {
        let _ = (host, settings, reference, changes, expected_revision);
        Err(Error::Unsupported("This provider cannot change items.".into()))
    }

    /// May `write` change this very item? It asks the server and changes nothing.
    ///
    /// Without an implementation it is [`Error::Unsupported`], as the capability `write` left unset says.
    fn check_write_access(host: &Host<'_>, settings: &Settings, reference: &str) -> Result<WriteAccess> {
        let _ = (host, settings, reference);
        Err(Error::Unsupported("This provider cannot change items.".into()))
    }
}

/// What the sandbox gives a provider: a way out, a memory and a clock. Native unit tests put
/// [their own](crate::testing) in place.
///
/// Random numbers come from the `getrandom` crate or anything built on it, which work in the sandbox.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    /// The only way out, to the destinations of the description only.
    pub http: &'a dyn Transport,
    /// What is kept between calls.
    pub session: &'a dyn SessionStore,
    /// What time it is.
    pub clock: &'a dyn Clock,
}

impl<'a> Host<'a> {
    /// An HTTP client for the server at this address.
    pub fn client(&self, base: Url) -> Client<'a> {
        Client::new(self, base)
    }
}

/// What time it is.
pub trait Clock {
    /// Seconds since 1970-01-01T00:00:00Z.
    fn now(&self) -> u64;
}
