//! OpenBao and HashiCorp Vault as a Keyway provider: reads and changes secrets of the KV engines,
//! version 1 and 2, and gets codes of the TOTP engine.
//!
//! | what | requests, warm |
//! | --- | --- |
//! | `verify` | 2 |
//! | `list_items` | 1, and 1 for each mount, or for each folder |
//! | `resolve` | 1 |
//! | `write` | 2 |
//! | `check_write_access` | 2 |
//!
//! The first call asks once more for each mount, and logs in if there is no token among the
//! settings. Both are kept in the session.
//!
//! The modules, bottom-up: input in `config`, `reference` and `engine`; errors in `errors`;
//! requests in `client`, with `login` and `durable`, and the mounts in `mounts`; the content of
//! secrets in `content`, and codes in `one_time`; the provider's functions in `kv`, `list`,
//! `access` and `renewal`.
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod access;
mod client;
mod config;
mod content;
mod durable;
mod engine;
mod errors;
mod kv;
mod list;
mod login;
mod mounts;
mod one_time;
mod reference;
mod renewal;
#[cfg(test)]
mod tests;

use keyway_sdk::{
    Alternative, Capabilities, Changes, Description, FieldSpec, Host, ItemFields, ItemPage, Refresh, Resolved, Result,
    SecretProvider, Selection, SettingSpec, Settings, Verified, WriteAccess,
};

use crate::{client::Client, config::Config, reference::SecretPath};

/// The provider.
pub struct OpenBao;

keyway_sdk::export!(OpenBao, item_fields, refresh);

impl SecretProvider for OpenBao {
    fn describe() -> Description {
        Description::new("openbao", "OpenBao / HashiCorp Vault", env!("CARGO_PKG_VERSION"))
            .reference(reference::SCHEME, reference::FORMAT)
            .documentation("https://openbao.org/docs/")
            .setting(SettingSpec::url(config::ADDRESS, "Address").help(
                "The address of the server, for example https://vault.example.com:8200. In a cluster, that of the \
                 load balancer.",
            ))
            .setting(
                SettingSpec::text(config::NAMESPACE, "Namespace")
                    .optional()
                    .help("The namespace of the mounts, for example team-a. Leave it empty for the root namespace."),
            )
            .setting(SettingSpec::secret(config::TOKEN, "Token").optional().help(
                "A token whose policies allow reading the secrets. Make it periodic, so that it can be renewed without \
                 end.",
            ))
            .setting(SettingSpec::text(config::ROLE_ID, "Role id").optional())
            .setting(SettingSpec::secret(config::SECRET_ID, "Secret id").optional())
            .setting(
                SettingSpec::text(config::APPROLE_MOUNT, "Mount of the AppRole method")
                    .optional()
                    .help("Where the auth method is mounted. Empty means approle."),
            )
            .setting(SettingSpec::secret(config::JWT, "JWT").optional().help("A token of your identity provider."))
            .setting(
                SettingSpec::text(config::JWT_ROLE, "Role")
                    .optional()
                    .help("The role of the auth method to log in with. Empty means its default role."),
            )
            .setting(
                SettingSpec::text(config::JWT_MOUNT, "Mount of the JWT method")
                    .optional()
                    .help("Where the auth method is mounted. Empty means jwt."),
            )
            .one_of(
                "How to log in",
                [
                    Alternative::new("Token").required([config::TOKEN]),
                    Alternative::new("AppRole")
                        .required([config::ROLE_ID, config::SECRET_ID])
                        .optional([config::APPROLE_MOUNT]),
                    Alternative::new("JWT").required([config::JWT]).optional([config::JWT_ROLE, config::JWT_MOUNT]),
                ],
            )
            .setting(SettingSpec::text(config::FOLDERS, "Folders to list").optional().help(
                "Mounts or folders, separated by commas, for example secret/web. Empty means all KV mounts that the \
                 credentials can see.",
            ))
            .setting(key_names(config::USERNAME_KEYS, "Keys of user names", "username"))
            .setting(key_names(config::PASSWORD_KEYS, "Keys of passwords", "password"))
            .setting(key_names(config::OTP_KEYS, "Keys of one-time passwords", "otp,totp,otpauth"))
            .destination_from_setting(config::ADDRESS)
            // Not `conditional_writes`: version 1 of the engine has none.
            .capabilities(Capabilities {
                list_items: true,
                write: true,
                one_time_codes: true,
                conditional_writes: false,
            })
    }

    fn normalize_reference(reference: &str) -> Result<String> {
        Ok(SecretPath::parse(reference)?.to_reference())
    }

    fn verify(host: &Host<'_>, settings: &Settings) -> Result<Verified> {
        access::verify(&mut Client::new(host, Config::read(settings)?))
    }

    fn list_items(host: &Host<'_>, settings: &Settings, page: Option<&str>) -> Result<ItemPage> {
        list::list(&mut Client::new(host, Config::read(settings)?), page)
    }

    fn resolve(host: &Host<'_>, settings: &Settings, reference: &str, selection: &Selection) -> Result<Resolved> {
        let path = SecretPath::parse(reference)?;
        kv::resolve(&mut Client::new(host, Config::read(settings)?), &path, selection)
    }

    fn write(
        host: &Host<'_>,
        settings: &Settings,
        reference: &str,
        changes: &Changes,
        expected_revision: Option<&str>,
    ) -> Result<String> {
        let path = SecretPath::parse(reference)?;
        kv::write(&mut Client::new(host, Config::read(settings)?), &path, changes, expected_revision)
    }

    fn check_write_access(host: &Host<'_>, settings: &Settings, reference: &str) -> Result<WriteAccess> {
        let path = SecretPath::parse(reference)?;
        access::check_write(&mut Client::new(host, Config::read(settings)?), &path)
    }
}

impl ItemFields for OpenBao {
    fn list_fields(host: &Host<'_>, settings: &Settings, reference: &str) -> Result<Vec<FieldSpec>> {
        let path = SecretPath::parse(reference)?;
        kv::list_fields(&mut Client::new(host, Config::read(settings)?), &path)
    }
}

impl Refresh for OpenBao {
    fn refresh(host: &Host<'_>, settings: &Settings) -> Result<()> {
        renewal::refresh(&mut Client::new(host, Config::read(settings)?))
    }
}

fn key_names(name: &str, label: &str, names: &str) -> SettingSpec {
    SettingSpec::text(name, label).default_value(names).help(
        "Separated by commas. Of these keys, the first that a secret has is read and changed. A write to a secret that \
         has none adds the first.",
    )
}
