//! What a rotation asks of a provider: may this item be written, what is its password, and: write
//! this one.
//!
//! Each goes through the one place for calls ([`Opened::call`]), so each is counted, and refused
//! while the budget is spent or the secret manager is given a rest.

use std::sync::Arc;

use keyway_budget::ProviderOperation;
use keyway_runtime::{Changes, Connection, Fields, Provider, WriteAccess};
use secrecy::SecretString;

use crate::provider_call::{CallFailure, Opened};

/// Whether this very item can be written.
pub(super) async fn check_write_access(opened: &Opened, reference: &str) -> Result<WriteAccess, CallFailure> {
    let reference: Arc<str> = reference.into();
    let call = move |provider: Provider, connection: Connection| {
        let reference = reference.clone();
        async move { provider.check_write_access(&connection, &reference).await }
    };
    opened.call(ProviderOperation::CheckWriteAccess, call).await
}

/// The item's password and the revision it is at, live. `operation` says for what.
pub(super) async fn read_password(
    opened: &Opened,
    reference: &str,
    operation: ProviderOperation,
) -> Result<(Option<SecretString>, String), CallFailure> {
    let reference: Arc<str> = reference.into();
    let call = move |provider: Provider, connection: Connection| {
        let reference = reference.clone();
        let only_password = Fields { password: true, ..Fields::default() };
        async move { provider.resolve(&connection, &reference, only_password).await }
    };
    let resolved = opened.call(operation, call).await?;
    Ok((resolved.password, resolved.revision))
}

/// Writes the password, and nothing else, if the item is at the expected revision.
pub(super) async fn write_password(
    opened: &Opened,
    reference: &str,
    password: &SecretString,
    expected: Option<&str>,
) -> Result<(), CallFailure> {
    let (reference, expected): (Arc<str>, Option<Arc<str>>) = (reference.into(), expected.map(Into::into));
    // A copy, because the call goes on also when nobody waits for it any more.
    let password = password.clone();
    let call = move |provider: Provider, connection: Connection| {
        let (reference, expected) = (reference.clone(), expected.clone());
        let changes = Changes { password: Some(password.clone()), ..Changes::default() };
        async move { provider.write(&connection, &reference, changes, expected.as_deref()).await }
    };
    opened.call(ProviderOperation::Write, call).await.map(drop)
}
