//! What a provider is asked to do, as far as its budget is concerned.

/// What a provider is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProviderOperation {
    /// Somebody has entered settings.
    Verify,
    /// List the items.
    ListItems,
    /// List the fields of an item.
    ListFields,
    /// Get the values of an item.
    Resolve,
    /// What the item has, for a write-back that must get to its end.
    ReadBack,
    /// Write a password.
    Write,
    /// See whether it could be written.
    CheckWriteAccess,
    /// Prolong a lease.
    RenewLease,
    /// End a lease.
    RevokeLease,
    /// To renew the durable state.
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

    /// Whether a failure may be tried once more at once. What changes something is not, and has its
    /// own pauses.
    pub fn is_retried(self) -> bool {
        !matches!(self, Self::Write | Self::Refresh)
    }

    /// Whether it may use what is kept of each limit: what is lost with the passwords of rotations,
    /// and with tokens that nobody renews, only a person can mend.
    pub(crate) fn may_use_what_is_kept(self) -> bool {
        matches!(self, Self::Write | Self::ReadBack | Self::Refresh)
    }
}
