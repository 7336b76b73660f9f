//! Leases: a secret manager's promise to accept values that it made for one call.
//!
//! **Invariant:** leased values are made only on request: a leased item is resolved when a caller
//! asks for its values and they are not cached. Background work ([`crate::cache`]) and checking
//! that an item exists
//! ([`Connections::check_item`](crate::connections::Connections::check_item)) make none. Values
//! whose lease was revoked are never served from the cache: before it is revoked, the item's cached
//! values are outdated on all hosts.

use keyway_audit::{Operation, Trail};
use keyway_budget::ProviderOperation;
use keyway_runtime::{ErrorCode, ProviderError};
use keyway_storage::EntrySelector;

use super::Entries;
use crate::access::Access;
use crate::error::{BrokerError, InvalidInput};
use crate::lease::EntryLease;
use crate::text::required;

/// The longest id of a lease, by the contract.
const LEASE_LIMIT: usize = 1_024;

impl Entries {
    /// Extends a lease under which an entry was resolved
    /// ([`Resolution::lease`](crate::Resolution::lease)), by this many seconds if the secret
    /// manager allows, and returns it as it is now. Needs
    /// [`Scope::Resolve`](crate::Scope::Resolve).
    ///
    /// Cached values are used until the end that the lease had when they were resolved.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`]; [`BrokerError::Invalid`] for an entry that is not bound;
    /// [`BrokerError::Provider`] with the provider's reason, for example that there is no such
    /// lease, or that it does not support leases
    /// ([`ErrorCode::Unsupported`](keyway_runtime::ErrorCode::Unsupported)); and the errors that
    /// prevent a call.
    pub async fn renew_lease(
        &self,
        access: &Access,
        entry: &EntrySelector,
        lease: &str,
        seconds: Option<u32>,
    ) -> Result<EntryLease, BrokerError> {
        let trail = Trail::selected(entry);
        let renew = async {
            required("lease", lease, LEASE_LIMIT)?;
            let (_, opened) = self.resolver.bound_item(access, entry, &trail).await?.ok_or(InvalidInput::NoLease)?;
            let renew = ProviderOperation::RenewLease;
            let opened = opened.changing(&trail);
            let renewed = opened.call(renew, lease.to_owned(), move |provider, connection, id| {
                Box::pin(provider.renew_lease(connection, id, seconds))
            });
            let renewed = EntryLease::from(renewed.await?);
            // Recorded only once it is known to be a lease: other text may be anything.
            trail.note(|subject| subject.lease = Some(renewed.id.clone()));
            Ok(renewed)
        };
        self.core.audited(access, Operation::RenewLease, &trail, renew).await
    }

    /// Revokes a lease under which an entry was resolved: its values are no longer valid for any
    /// caller. The item's cached values are dropped. Revoking an ended lease succeeds. Needs
    /// [`Scope::Resolve`](crate::Scope::Resolve).
    ///
    /// # Errors
    /// As [`renew_lease`](Self::renew_lease).
    pub async fn revoke_lease(&self, access: &Access, entry: &EntrySelector, lease: &str) -> Result<(), BrokerError> {
        let trail = Trail::selected(entry);
        let revoke = async {
            required("lease", lease, LEASE_LIMIT)?;
            let (item, opened) = self.resolver.bound_item(access, entry, &trail).await?.ok_or(InvalidInput::NoLease)?;
            if !opened.description().interfaces.leases {
                let message = "this provider has no values under a lease, so there is none to renew or revoke";
                return Err(BrokerError::Provider(ProviderError::new(ErrorCode::Unsupported, message)));
            }
            if let Some(why) = opened.guard().refusal_now(ProviderOperation::RevokeLease) {
                return Err(BrokerError::NotCalled(why));
            }
            trail.begin().await?;
            // First, so that the cache never serves revoked values.
            self.core.storage.outdate_item(access.workspace(), &item).await?;
            self.items.forget(access.workspace(), &item);
            self.items.wipe(access.workspace(), &item).await?;
            let revoked = opened.call(ProviderOperation::RevokeLease, lease.to_owned(), |provider, connection, id| {
                Box::pin(provider.revoke_lease(connection, id))
            });
            revoked.await?;
            trail.note(|subject| subject.lease = Some(lease.to_owned()));
            Ok(())
        };
        self.core.audited(access, Operation::RevokeLease, &trail, revoke).await
    }
}
