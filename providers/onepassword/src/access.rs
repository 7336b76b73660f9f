//! `verify` and `check-write-access`: what the service account may do. Neither changes anything.

use keyway_sdk::{Attribute, Error, Verified, WriteAccess};

use crate::{
    client::Client, edit::unsupported_category, errors::read_only_sentence, reference::ItemReference,
    resolve::fetch_item, vaults,
};

/// Signs in again, even if there is a session, and opens every vault. Six requests.
pub(crate) fn verify(client: &mut Client<'_>) -> Result<Verified, Error> {
    client.renew()?;
    let vaults = vaults::fetch_all(client)?;
    if vaults.readable.is_empty() {
        return Err(if vaults.unopened > 0 {
            vaults::cannot_open()
        } else {
            Error::permission_denied(
                "This service account can't read any vault. Grant Read Items on at least one vault.",
            )
        });
    }
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let account = client.session()?.account.take();
    let token = client.token();
    Ok(Verified {
        account: token.host().to_owned(),
        account_key: if names_one_account(token.host()) { Some(token.host().to_owned()) } else { account },
        vault_count: Some(count(vaults.readable.len())),
        writable_vault_count: Some(count(vaults.readable.iter().filter(|vault| vault.is_writable()).count())),
        attributes: vec![Attribute::new("service-account", token.email.as_str())],
    })
}

/// Whether a sign-in address belongs to a single account. Individual accounts share theirs.
fn names_one_account(address: &str) -> bool {
    !matches!(address, "my.1password.com" | "my.1password.eu" | "my.1password.ca")
}

/// Reports the server's access rights for the vault of this item, and checks that the item exists.
/// Two requests.
pub(crate) fn check(client: &mut Client<'_>, reference: ItemReference<'_>) -> Result<WriteAccess, Error> {
    let vault = vaults::fetch(client, reference.vault)?;
    let item = fetch_item(client, reference)?;
    Ok(match unsupported_category(&item.template_uuid) {
        Some(reason) => WriteAccess::Denied(reason.to_owned()),
        None if vault.is_writable() => WriteAccess::Granted,
        None => WriteAccess::Denied(read_only_sentence(Some(&vault.name))),
    })
}

#[cfg(test)]
mod tests {
    use super::names_one_account;

    #[test]
    fn an_address_that_many_accounts_share_names_none_of_them() {
        assert!(names_one_account("acme.1password.com"));
        assert!(!names_one_account("my.1password.com"));
        assert!(!names_one_account("my.1password.eu"));
    }
}
