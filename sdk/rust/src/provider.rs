//! The trait that a provider implements and what a call of it may use.

use std::time::Duration;

use url::Url;

use crate::http::{Client, Transport};
use crate::session::SessionStore;
use crate::store::StateStore;
use crate::{
    Changes, Description, Error, FieldSpec, ItemPage, Lease, Resolved, Result, Selection, Settings, Verified,
    WriteAccess,
};

/// A secret provider: the functions that the contract asks a component to export.
///
/// Every call runs in an instance of its own, which is thrown away afterwards: nothing in memory
/// survives, so the functions take no `self`. What must survive, such as a login session, goes
/// through [`Host::session`]. The host ends a call that takes longer than it allows, 30 seconds
/// unless the operator changed that.
///
/// [`export!`](crate::export) turns an implementation into a component.
pub trait SecretProvider {
    /// What the host needs to know before it can call anything else. The same every time.
    fn describe() -> Description;

    /// The one spelling of a reference under which the host keeps what belongs to its item. Pure:
    /// no network, no settings, the same answer every time, and its own normal form.
    ///
    /// Every other function receives references in this form. The host has checked the scheme, in
    /// either case, and nothing else. See [`Reference`](crate::reference::Reference) for what it
    /// usually takes:
    ///
    /// ```
    /// # use keyway_sdk::{Result, reference::Reference};
    /// fn normalize_reference(reference: &str) -> Result<String> {
    ///     let [vault, item] = Reference::parse(reference, "acme", "acme://<vaultId>/<itemId>")?.segments()?;
    ///     Ok(format!("acme://{vault}/{item}"))
    /// }
    /// # assert_eq!(normalize_reference("ACME://v/i").unwrap(), "acme://v/i");
    /// ```
    fn normalize_reference(reference: &str) -> Result<String>;

    /// Does this connection work? Called before a host stores the settings: it logs in and looks
    /// around, and changes nothing. Credentials that work but can read no vault at all are
    /// [`ErrorCode::PermissionDenied`](crate::ErrorCode::PermissionDenied).
    fn verify(host: &Host<'_>, settings: &Settings) -> Result<Verified>;

    /// The items that `resolve` is made for, over all vaults that can be read, a page at a time:
    /// `None` for the first page and then the `next` of the page before. Items in the trash or the
    /// archive are left out.
    ///
    /// Without an implementation it is [`ErrorCode::Unsupported`](crate::ErrorCode::Unsupported),
    /// as the capability `list_items` left unset says.
    fn list_items(host: &Host<'_>, settings: &Settings, page: Option<&str>) -> Result<ItemPage> {
        let _ = (host, settings, page);
        Err(Error::unsupported("This provider cannot list items. Enter the item's reference by hand."))
    }

    /// The current values of one item, read from the server now. `reference` is one that
    /// `list_items` returned, or one that a person wrote; see
    /// [`Reference`](crate::reference::Reference).
    fn resolve(host: &Host<'_>, settings: &Settings, reference: &str, selection: &Selection) -> Result<Resolved>;

    /// Changes the fields that are given and nothing else, and returns the new revision. With
    /// `expected_revision`, an item that is at another revision is
    /// [`ErrorCode::Conflict`](crate::ErrorCode::Conflict) and stays as it is.
    ///
    /// Without an implementation it is [`ErrorCode::Unsupported`](crate::ErrorCode::Unsupported),
    /// as the capability `write` left unset says.
    fn write(
        host: &Host<'_>,
        settings: &Settings,
        reference: &str,
        changes: &Changes,
        expected_revision: Option<&str>,
    ) -> Result<String> {
        let _ = (host, settings, reference, changes, expected_revision);
        Err(Error::unsupported("This provider cannot change items."))
    }

    /// May `write` change this very item? It asks the server and changes nothing.
    ///
    /// Without an implementation it is [`ErrorCode::Unsupported`](crate::ErrorCode::Unsupported),
    /// as the capability `write` left unset says.
    fn check_write_access(host: &Host<'_>, settings: &Settings, reference: &str) -> Result<WriteAccess> {
        let _ = (host, settings, reference);
        Err(Error::unsupported("This provider cannot change items."))
    }
}

/// **Optional**: items have named fields beside user name, password and one-time code, which
/// `resolve` returns when they are asked for by name. Exported with `export!(MyProvider,
/// item_fields)`.
pub trait ItemFields: SecretProvider {
    /// The further fields of one item, without their values. No secret is in it.
    fn list_fields(host: &Host<'_>, settings: &Settings, reference: &str) -> Result<Vec<FieldSpec>>;
}

/// **Optional**: values are made for each call, under a lease. Exported with `export!(MyProvider,
/// leases)`.
pub trait Leases: SecretProvider {
    /// Asks the server to extend a lease, by so many seconds if it can. Returns it as it is now.
    fn renew(host: &Host<'_>, settings: &Settings, lease_id: &str, seconds: Option<u32>) -> Result<Lease>;

    /// Ends a lease: the server no longer accepts the values. A lease that is over is no error.
    fn revoke(host: &Host<'_>, settings: &Settings, lease_id: &str) -> Result<()>;
}

/// **Optional**: durable state has to be renewed from time to time. Exported with
/// `export!(MyProvider, refresh)`.
pub trait Refresh: SecretProvider {
    /// Renews what is in [`Host::store`]. Called at the time that the last
    /// [`put`](StateStore::put) named, also when nothing else uses the connection.
    fn refresh(host: &Host<'_>, settings: &Settings) -> Result<()>;
}

/// What the sandbox gives a provider: a way out, two memories, a clock and a log. Native unit tests
/// put [their own](crate::testing) in place.
///
/// Random numbers come from the `getrandom` crate or anything built on it, which work in the
/// sandbox.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    /// The only way out, to the destinations of the description only.
    pub http: &'a dyn Transport,
    /// What is kept in memory between calls.
    pub session: &'a dyn SessionStore,
    /// What is kept for good.
    pub store: &'a dyn StateStore,
    /// What time it is, and how much of it is left.
    pub clock: &'a dyn Clock,
    /// The operator's log.
    pub log: &'a dyn Log,
}

impl<'a> Host<'a> {
    /// An HTTP client for the server at this address.
    pub fn client(&self, base: Url) -> Client<'a> {
        Client::new(self, base)
    }
}

/// What time it is, and how much of it is left.
pub trait Clock {
    /// Seconds since 1970-01-01T00:00:00Z.
    fn now(&self) -> u64;

    /// How long until the host ends this call without notice.
    fn time_left(&self) -> Duration;
}

/// The operator's log. The host blots out what it knows to be secret. What is printed to standard
/// output and standard error is logged, too, at [`Level::Debug`].
pub trait Log {
    /// Logs one line.
    fn write(&self, level: Level, message: &str);
}

/// How serious a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The provider could not do what it was asked to.
    Error,
    /// Something is wrong or will be; this call worked.
    Warn,
    /// Worth knowing in ordinary operation. Rare.
    Info,
    /// For the author of the provider.
    Debug,
}
