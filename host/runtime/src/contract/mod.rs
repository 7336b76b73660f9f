//! The contract in Rust: what goes into a call and what comes out of it.
//!
//! These types mirror the WIT, whose documentation is the authority on formats and units, but stay
//! the same for every version of the contract. Secrets are
//! [`SecretString`](secrecy::SecretString)s: wiped when dropped, `[REDACTED]` when printed.

mod attribute;
mod changes;
mod description;
mod items;
mod rate_limits;
mod settings;
mod values;

pub use attribute::Attribute;
pub use changes::{Changes, WriteAccess};
pub use description::{Capabilities, Description, Interfaces};
pub use items::{Item, ItemPage, Verified};
pub use rate_limits::{CountedRequests, LimitScope, RateLimit, RateLimitTier};
pub use settings::{Alternative, ChoiceOption, SettingGroup, SettingKind, SettingSpec, Settings};
pub use values::{
    Field, FieldKind, FieldSpec, FieldValue, Fields, Lease, NoCode, NoCodeReason, OneTimeCode, Resolved, Selection,
};
