//! What a rotation asks of a provider: may this item be written, what is its password, and: write
//! this one.
//!
//! Each goes through the one place for calls ([`Opened::call`]), so each is counted, and refused
//! while the budget is spent or the secret manager is given a rest.

use keyway_budget::ProviderOperation;
use keyway_runtime::{Changes, Fields, WriteAccess};
use secrecy::SecretString;

use crate::provider_call::{CallFailure, Opened};

/// Whether this very item can be written.
pub(super) async fn check_write_access(opened: &Opened, reference: &str) -> Result<WriteAccess, CallFailure> {
    let check = opened.call(ProviderOperation::CheckWriteAccess, reference.to_owned(), |provider, connection, item| {
        Box::pin(provider.check_write_access(connection, item))
    });
    check.await
}

/// The item's password and the revision it is at, live. `operation` says for what.
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

/// Writes the password, and nothing else, if the item is at the expected revision.
pub(super) async fn write_password(
    opened: &Opened,
    reference: &str,
    password: &SecretString,
    expected: Option<&str>,
) -> Result<(), CallFailure> {
    // Copies, because the call goes on also when nobody waits for it any more.
    let about = (reference.to_owned(), password.clone(), expected.map(str::to_owned));
    let write =
        opened.call(ProviderOperation::Write, about, |provider, connection, (reference, password, expected)| {
            let changes = Changes { password: Some(password.clone()), ..Changes::default() };
            Box::pin(provider.write(connection, reference, changes, expected.as_deref()))
        });
    write.await.map(drop)
}
