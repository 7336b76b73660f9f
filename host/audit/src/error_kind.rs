//! The kinds of errors, and their codes in the log and in every answer.

/// An enum with a code for each of its variants.
macro_rules! codes {
    ($(#[$enum_doc:meta])* $vis:vis $enum:ident { $($(#[$doc:meta])* $name:ident = $code:literal;)* }) => {
        $(#[$enum_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $enum {
            $($(#[$doc])* $name,)*
        }

        impl $enum {
            /// Every kind.
            $vis const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The kind's machine-readable code: the same in the log, over HTTP and on the command
            /// line.
            $vis const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
}
pub(crate) use codes;

codes! {
    /// The kind of an error, which says who can resolve it: the caller (fix the request), the
    /// operator of the secret manager (grant, reconnect), time alone (retry later), the author of
    /// the component, or the host.
    pub ErrorKind {
        /// The request breaks a rule; the same request will be refused again.
        Invalid = "VALIDATION_FAILED";
        /// A credential was not encrypted under the workspace's key.
        NotEncrypted = "NOT_ENCRYPTED";
        /// No valid API key.
        Unauthenticated = "UNAUTHENTICATED";
        /// The API key lacks a scope.
        Forbidden = "FORBIDDEN";
        /// No such thing in this workspace.
        NotFound = "NOT_FOUND";
        /// It exists already, or changed in the meantime.
        Conflict = "CONFLICT";
        /// The secret manager limits the rate, or the budget is spent.
        RateLimited = "RATE_LIMITED";
        /// No component of this provider type is installed.
        NotInstalled = "PROVIDER_NOT_INSTALLED";
        /// The secret manager does not accept the connection's credentials, or does not let them do
        /// this.
        ProviderRefused = "PROVIDER_REFUSED";
        /// The secret manager failed at the last attempts and is paused.
        ProviderPaused = "PROVIDER_PAUSED";
        /// The secret manager cannot be reached.
        ProviderUnavailable = "PROVIDER_UNAVAILABLE";
        /// The provider crashed, hit a limit, or gave an invalid answer.
        ProviderFault = "PROVIDER_FAULT";
        /// The provider cannot do this.
        Unsupported = "UNSUPPORTED";
        /// The audit log cannot be written, so nothing is released.
        AuditUnavailable = "AUDIT_UNAVAILABLE";
        /// The key service cannot be reached.
        KeysUnavailable = "KEYS_UNAVAILABLE";
        /// The host is closed or ending.
        Ending = "ENDING";
        /// The host is overloaded.
        Busy = "BUSY";
        /// A fault of the host or of its set-up.
        Internal = "INTERNAL_ERROR";
    }
}
