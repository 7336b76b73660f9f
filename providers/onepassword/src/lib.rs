//! 1Password as a Keyway provider: reads and changes login and password items with a service
//! account token (`ops_...`).
//!
//! It speaks the protocol of 1Password's own clients, so no other program is needed: four requests
//! sign in (SRP, `srp`), one fetches an item, and the item is decrypted here, in the sandbox.
//! 1Password's server never sees a key, and the host never sees one in the clear.
//!
//! | what | warm | after a sign-in (4 requests) |
//! | --- | --- | --- |
//! | `verify` | always signs in | 2: vaults, keysets |
//! | `list_items` | 1 + 1 for each vault | + 1: keysets |
//! | `resolve` | 1: item | 3: vault, keysets, item |
//! | `write` | 3: vault, item, change | + 1: keysets |
//! | `check_write_access` | 2: vault, item | + 1: keysets |
//!
//! The modules, bottom-up: `encoding`, `random`, `time`; the cryptography in `envelope`, `mac`,
//! `srp`, `throttle` and `keys`, pure functions checked against test vectors; input in `token` and
//! `model`; requests in `wire`, `sign_in`, `session` and `client`; the provider's functions in
//! `vaults`, `items`, `resolve`, `write` and `access`; the structure of an item in `category`,
//! `login_fields`, `splice` and `edit`; error messages in `errors`.
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod access;
mod category;
mod client;
mod edit;
mod encoding;
mod envelope;
mod errors;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod items;
mod keys;
mod login_fields;
mod mac;
mod model;
mod random;
mod reference;
#[cfg(test)]
mod replay_tests;
mod resolve;
mod session;
mod sign_in;
mod splice;
mod srp;
mod throttle;
mod time;
mod token;
mod vaults;
#[cfg(test)]
mod vectors;
mod wire;
mod write;

use keyway_sdk::{
    Capabilities, Changes, Description, Host, ItemPage, LimitScope, RateLimitTier, RequestKind, Resolved, Result,
    SecretProvider, Selection, SettingSpec, Settings, Verified, WriteAccess,
};

use crate::{
    client::{Client, Machine},
    random::SystemRandom,
    reference::ItemReference,
    token::Token,
};

/// The provider.
pub struct OnePassword;

keyway_sdk::export!(OnePassword);

impl SecretProvider for OnePassword {
    fn describe() -> Description {
        // No pattern: this provider's own check gives better messages for a text that is not a
        // token.
        let token = SettingSpec::secret(token::SETTING, "Service account token").help(
            "In 1Password, open Developer, Directory, Service Account. Create one with Read Items (and Write \
                 Items, to let passwords be rotated) on the vaults to automate, and copy its token. It starts with \
                 ops_ and is shown only once.",
        );
        let mut description = Description::new("1password", "1Password", env!("CARGO_PKG_VERSION"))
            .reference(reference::SCHEME, reference::FORMAT)
            .setting(token)
            .documentation("https://developer.1password.com/docs/service-accounts/")
            .rate_limits(limits("business", "1Password Business", [10_000, 1_000, 50_000]))
            .rate_limits(limits("teams", "1Password Teams", [1_000, 100, 5_000]))
            .rate_limits(limits("families", "1Password Families or individual", [1_000, 100, 1_000]))
            .capabilities(Capabilities {
                list_items: true,
                write: true,
                one_time_codes: true,
                conditional_writes: true,
            });
        for domain in token::DOMAINS {
            description = description.destination(format!("https://*.{domain}"));
        }
        description
    }

    fn normalize_reference(reference: &str) -> Result<String> {
        let ItemReference { vault, item } = ItemReference::parse(reference)?;
        Ok(reference::reference_to(vault, item))
    }

    fn verify(host: &Host<'_>, settings: &Settings) -> Result<Verified> {
        with_client(host, settings, access::verify)
    }

    fn list_items(host: &Host<'_>, settings: &Settings, page: Option<&str>) -> Result<ItemPage> {
        with_client(host, settings, |client| items::list(client, page))
    }

    fn resolve(host: &Host<'_>, settings: &Settings, reference: &str, selection: &Selection) -> Result<Resolved> {
        let reference = ItemReference::parse(reference)?;
        with_client(host, settings, |client| resolve::resolve(client, reference, selection))
    }

    fn write(
        host: &Host<'_>,
        settings: &Settings,
        reference: &str,
        changes: &Changes,
        expected_revision: Option<&str>,
    ) -> Result<String> {
        let reference = ItemReference::parse(reference)?;
        with_client(host, settings, |client| write::write(client, reference, changes, expected_revision))
    }

    fn check_write_access(host: &Host<'_>, settings: &Settings, reference: &str) -> Result<WriteAccess> {
        let reference = ItemReference::parse(reference)?;
        with_client(host, settings, |client| access::check(client, reference))
    }
}

/// The limits of a plan: reads and writes per token and hour, and requests per account and day.
/// Source: 1Password's documentation, "Service account rate limits". Each *request* counts; a
/// sign-in or an item takes several.
fn limits(name: &str, label: &str, [reads, writes, a_day]: [u32; 3]) -> RateLimitTier {
    const HOUR: u32 = 3_600;
    RateLimitTier::new(name, label)
        .limit(reads, HOUR, RequestKind::Reads, LimitScope::Credential)
        .limit(writes, HOUR, RequestKind::Writes, LimitScope::Credential)
        .limit(a_day, 24 * HOUR, RequestKind::All, LimitScope::Account)
}

fn with_client<T>(host: &Host<'_>, settings: &Settings, call: impl FnOnce(&mut Client<'_>) -> Result<T>) -> Result<T> {
    let token = Token::from_settings(settings)?;
    let machine = Machine { random: &SystemRandom, pause: &std::thread::sleep };
    let mut client = Client::new(host, &token, &machine);
    let result = call(&mut client);
    let finished = client.finish();
    let result = result?;
    finished.map(|()| result)
}
