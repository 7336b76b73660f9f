//! What a rotation asks of a provider: may this item be written, what is its password, and: write
//! this one.
//!
//! Each goes through the one place for calls ([`Opened::call`]), so each is counted, and refused
//! while the budget is spent or the secret manager is given a rest.

use keyway_budget::ProviderOperation;
use keyway_runtime::{Changes, Fields, Provider, WriteAccess};
use secrecy::SecretString;

use crate::provider_call::{CallFailure, Opened};

/// Whether this very item can be written.
pub(super) async fn check_write_access(opened: &Opened, reference: &str) -> Result<WriteAccess, CallFailure> {
    let call = |provider: Provider, connection, reference: String| async move {
        provider.check_write_access(&connection, &reference).await
    };
    opened.call(ProviderOperation::CheckWriteAccess, reference.to_owned(), call).await
}

/// The item's password and the revision it is at, live. `operation` says for what.
pub(super) async fn read_password(
    opened: &Opened,
    reference: &str,
    operation: ProviderOperation,
) -> Result<(Option<SecretString>, String), CallFailure> {
    let call = |provider: Provider, connection, reference: String| async move {
        provider.resolve(&connection, &reference, Fields { password: true, ..Fields::default() }).await
    };
    let resolved = opened.call(operation, reference.to_owned(), call).await?;
    Ok((resolved.password, resolved.revision))
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
    let call = |provider: Provider, connection, about: (String, SecretString, Option<String>)| async move {
        let (reference, password, expected) = about;
        let changes = Changes { password: Some(password), ..Changes::default() };
        provider.write(&connection, &reference, changes, expected.as_deref()).await
    };
    opened.call(ProviderOperation::Write, about, call).await.map(drop)
}
