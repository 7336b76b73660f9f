//! The calls of a rotation to a provider: check that the item can be written, read its password,
//! and write the new one.
//!
//! Each goes through the one place for calls ([`Opened::call`]), so it is counted, and refused
//! while the budget is spent or calls are paused.

use keyway_budget::ProviderOperation;
use keyway_runtime::Fields;
use keyway_runtime::contract::{Changes, WriteAccess};
use secrecy::SecretString;

use crate::provider_call::{CallFailure, Opened};

/// Whether this very item can be written.
pub(super) async fn check_write_access(opened: &Opened, reference: &str) -> Result<WriteAccess, CallFailure> {
    let check = opened.call(ProviderOperation::CheckWriteAccess, reference.to_owned(), |provider, connection, item| {
        Box::pin(provider.check_write_access(connection, item))
    });
    check.await
}

/// Reads the item's password and its revision, live. `operation` says what for.
pub(super) async fn read_password(
    opened: &Opened,
    reference: &str,
    operation: ProviderOperation,
) -> Result<(Option<SecretString>, String), CallFailure> {
    let resolved = opened.call(operation, reference.to_owned(), |provider, connection, reference| {
        Box::pin(provider.resolve(connection, reference, Fields { password: true, ..Fields::default() }))
    });
    resolved.await.map(|resolved| (resolved.password, resolved.revision))
}

/// Writes the password, and nothing else, if the item is at the expected revision. Returns the
/// item's new revision.
pub(super) async fn write_password(
    opened: &Opened,
    reference: &str,
    password: &SecretString,
    expected: Option<&str>,
) -> Result<String, CallFailure> {
    // Copies, because the call continues even if its caller is cancelled.
    let about = (reference.to_owned(), password.clone(), expected.map(str::to_owned));
    let write =
        opened.call(ProviderOperation::Write, about, |provider, connection, (reference, password, expected)| {
            let changes = Changes::default().password(password.clone());
            Box::pin(provider.write(connection, reference, changes, expected.as_deref()))
        });
    write.await
}
