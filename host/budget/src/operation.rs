//! The operations of a provider, as far as its budget is concerned.

/// An operation of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProviderOperation {
    /// Check settings that have just been entered.
    Verify,
    /// List the items.
    ListItems,
    /// List the fields of an item.
    ListFields,
    /// Get the values of an item.
    Resolve,
    /// Read what the item holds, for a write-back that must complete.
    ReadBack,
    /// Write a password.
    Write,
    /// Check whether it could be written.
    CheckWriteAccess,
    /// Extend a lease.
    RenewLease,
    /// End a lease.
    RevokeLease,
    /// Renew the durable state.
    Refresh,
}

impl ProviderOperation {
    pub(crate) const COUNT: usize = 10;

    /// The name of the contract's function, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::ListItems => "list-items",
            Self::ListFields => "list-fields",
            Self::Resolve | Self::ReadBack => "resolve",
            Self::Write => "write",
            Self::CheckWriteAccess => "check-write-access",
            Self::RenewLease => "renew-lease",
            Self::RevokeLease => "revoke-lease",
            Self::Refresh => "refresh",
        }
    }

    /// Whether a failure may be retried at once. Changes are not retried here; they have pauses of
    /// their own.
    pub fn is_retried(self) -> bool {
        !matches!(self, Self::Write | Self::Refresh)
    }

    /// Whether it may use the reserve of each limit. A lost rotation password or an expired refresh
    /// token can only be repaired by a person.
    pub(crate) fn may_use_what_is_kept(self) -> bool {
        matches!(self, Self::Write | Self::ReadBack | Self::Refresh)
    }
}
