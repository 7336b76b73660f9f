//! The trait that a provider implements, and what its calls may use.

use std::time::Duration;

use url::Url;

use crate::http::{Client, Transport};
use crate::session::SessionStore;
use crate::store::StateStore;
use crate::{
    Changes, Description, Error, FieldSpec, ItemPage, Lease, Resolved, Result, Selection, Settings, Verified,
    WriteAccess,
};

/// A secret provider: the functions that the contract requires a component to export.
///
/// Every call runs in its own instance, which is discarded afterwards. Nothing in memory survives,
/// so the functions take no `self`. State that must survive, such as a login session, goes through
/// [`Host::session`]. The host ends a call that exceeds its time: 30 seconds unless the operator
/// changed that.
///
/// [`export!`](crate::export) turns an implementation into a component.
pub trait SecretProvider {
    /// What the host must know before it can call anything else. The same every time.
    fn describe() -> Description;

    /// The normal form of a reference, under which the host stores what belongs to its item. Pure:
    /// no network, no settings, the same answer every time. A normal form is its own normal form.
    ///
    /// Every other function receives references in this form. The host has only checked the scheme,
    /// in either case. A typical implementation uses [`Reference`](crate::reference::Reference):
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

    /// Checks the connection before a host stores the settings: logs in and reads, but changes
    /// nothing. Credentials that work but can read no vault at all are
    /// [`ErrorCode::PermissionDenied`](crate::ErrorCode::PermissionDenied).
    fn verify(host: &Host<'_>, settings: &Settings) -> Result<Verified>;

    /// The items that `resolve` is for, over all readable vaults, a page at a time. `page` is
    /// `None` for the first page, then the `next` of the previous one. Items in the trash or the
    /// archive are omitted.
    ///
    /// The default returns [`ErrorCode::Unsupported`](crate::ErrorCode::Unsupported), to go with an
    /// unset capability `list_items`.
    fn list_items(host: &Host<'_>, settings: &Settings, page: Option<&str>) -> Result<ItemPage> {
        let _ = (host, settings, page);
        Err(Error::unsupported("This provider cannot list items. Enter the item's reference by hand."))
    }

    /// The current values of one item, read from the server now. `reference` came from `list_items`
    /// or from a person; see [`Reference`](crate::reference::Reference).
    fn resolve(host: &Host<'_>, settings: &Settings, reference: &str, selection: &Selection) -> Result<Resolved>;

    /// Changes the given fields, and no others, and returns the new revision. With
    /// `expected_revision`, an item at another revision stays unchanged
    /// ([`ErrorCode::Conflict`](crate::ErrorCode::Conflict)).
    ///
    /// The default returns [`ErrorCode::Unsupported`](crate::ErrorCode::Unsupported), to go with an
    /// unset capability `write`.
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

    /// Whether `write` may change this item. Asks the server; changes nothing.
    ///
    /// The default returns [`ErrorCode::Unsupported`](crate::ErrorCode::Unsupported), to go with an
    /// unset capability `write`.
    fn check_write_access(host: &Host<'_>, settings: &Settings, reference: &str) -> Result<WriteAccess> {
        let _ = (host, settings, reference);
        Err(Error::unsupported("This provider cannot change items."))
    }
}

/// **Optional**: items have named fields besides user name, password and one-time code, which
/// `resolve` returns when they are requested by name. Export it with `export!(MyProvider,
/// item_fields)`.
pub trait ItemFields: SecretProvider {
    /// The further fields of one item, without their values. Contains no secret.
    fn list_fields(host: &Host<'_>, settings: &Settings, reference: &str) -> Result<Vec<FieldSpec>>;
}

/// **Optional**: values are created for each call, under a lease. Export it with
/// `export!(MyProvider, leases)`.
pub trait Leases: SecretProvider {
    /// Asks the server to extend a lease, by `seconds` if it supports that. Returns the lease's new
    /// state.
    fn renew(host: &Host<'_>, settings: &Settings, lease_id: &str, seconds: Option<u32>) -> Result<Lease>;

    /// Ends a lease: the server stops accepting its values. A lease that has already ended is not
    /// an error.
    fn revoke(host: &Host<'_>, settings: &Settings, lease_id: &str) -> Result<()>;
}

/// **Optional**: durable state must be renewed from time to time. Export it with
/// `export!(MyProvider, refresh)`.
pub trait Refresh: SecretProvider {
    /// Renews the state in [`Host::store`]. Called by the time that the last
    /// [`put`](StateStore::put) named, even if nothing else uses the connection.
    fn refresh(host: &Host<'_>, settings: &Settings) -> Result<()>;
}

/// What the sandbox provides: a way out, two kinds of memory, a clock and a log. Native unit tests
/// [replace them](crate::testing).
///
/// Random numbers come from the `getrandom` crate, or anything built on it, which works in the
/// sandbox.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    /// The only way out, limited to the destinations of the description.
    pub http: &'a dyn Transport,
    /// The state kept in memory between calls.
    pub session: &'a dyn SessionStore,
    /// The state kept durably.
    pub store: &'a dyn StateStore,
    /// The current time, and the time left.
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

/// The current time, and the time left.
pub trait Clock {
    /// Seconds since 1970-01-01T00:00:00Z.
    fn now(&self) -> u64;

    /// How long until the host ends this call without notice.
    fn time_left(&self) -> Duration;
}

/// The operator's log. The host redacts the secrets that it knows. Text printed to standard output
/// or standard error is also logged, at [`Level::Debug`].
pub trait Log {
    /// Logs one line.
    fn write(&self, level: Level, message: &str);
}

/// The level of a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The provider could not do what was requested.
    Error,
    /// Something is wrong or soon will be; this call worked.
    Warn,
    /// Worth knowing in ordinary operation. Rare.
    Info,
    /// For the author of the provider.
    Debug,
}
