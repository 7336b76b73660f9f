//! The 1Password account of the demo: the emulator's, or a real one.

use std::collections::BTreeSet;
use std::path::Path;

use keyway::ErrorKind;
use keyway_runtime::egress::ConnectTo;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::cli::args::demo::DemoOptions;
use crate::cli::exit::CliError;
use crate::cli::secret_input;
use crate::process::DEMO_VARIABLE;
use crate::regular_file;

/// The account that the demo uses.
pub(super) struct Account {
    pub(super) token: SecretString,
    /// Where requests to 1Password are redirected.
    pub(super) connect_to: Option<ConnectTo>,
    /// The emulator's address.
    pub(super) emulator: Option<String>,
    /// The references of items that have everything: user name, password and a one-time code.
    /// Unknown for a real account.
    pub(super) complete: BTreeSet<String>,
}

impl Account {
    /// The account that flags and environment select.
    pub(super) fn find(options: &DemoOptions) -> Result<Self, CliError> {
        if let Some(file) = &options.emulator_info {
            return Self::emulated(file);
        }
        let token = match &options.token_file {
            Some(file) => Some(secret_input::from_file(file)?),
            None => secret_input::from_environment(DEMO_VARIABLE),
        };
        let token = token.ok_or_else(|| {
            CliError::usage("the demo needs a 1Password account: --token-file FILE, or --emulator-info FILE")
                .hint("`cargo xtask demo` builds and starts the emulator, and runs the demo with it")
        })?;
        Ok(Self { token, connect_to: None, emulator: None, complete: BTreeSet::new() })
    }

    fn emulated(file: &Path) -> Result<Self, CliError> {
        let wrong = |what: &str| CliError::new(ErrorKind::Invalid, format!("{} {what}", file.display()));
        let text = regular_file::read(file).map_err(|error| {
            CliError::unreadable(
                &error,
                format!("cannot read the emulator's information in {}: {error}", file.display()),
            )
        })?;
        // Without serde's message, which could repeat a token.
        let info: Info = serde_json::from_slice(&text).map_err(|_| wrong("does not describe an emulator"))?;
        let sees_items = |account: &AccountInfo| account.vaults.iter().any(|vault| !vault.items.is_empty());
        let account = info.accounts.into_iter().find(sees_items).ok_or_else(|| wrong("has no account with items"))?;
        let host = account.sign_in_address.as_deref().unwrap_or("my.1password.com");
        let rule = format!("{host}={}", info.url).parse();
        let items = account.vaults.into_iter().flat_map(|vault| vault.items);
        Ok(Self {
            token: account.token,
            connect_to: Some(rule.map_err(|_| wrong("has an invalid address"))?),
            emulator: Some(info.url),
            complete: items.filter(ItemInfo::is_complete).map(|item| item.reference).collect(),
        })
    }
}

#[derive(Deserialize)]
struct Info {
    url: String,
    accounts: Vec<AccountInfo>,
}

#[derive(Deserialize)]
struct AccountInfo {
    #[serde(deserialize_with = "secret")]
    token: SecretString,
    sign_in_address: Option<String>,
    vaults: Vec<VaultInfo>,
}

#[derive(Deserialize)]
struct VaultInfo {
    items: Vec<ItemInfo>,
}

#[derive(Deserialize)]
struct ItemInfo {
    reference: String,
    state: Option<String>,
    #[serde(default)]
    username: String,
    /// Only its presence matters.
    #[serde(default, deserialize_with = "secret")]
    password: SecretString,
    /// Likewise.
    #[serde(default, deserialize_with = "secret")]
    otpauth: SecretString,
}

impl ItemInfo {
    fn is_complete(&self) -> bool {
        let active = self.state.as_deref().is_none_or(|state| state == "active");
        // Counter-based codes are not resolved.
        let code = self.otpauth.expose_secret();
        let has_code = !code.is_empty() && !code.starts_with("otpauth://hotp");
        active && has_code && !self.username.is_empty() && !self.password.expose_secret().is_empty()
    }
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str) -> Result<Account, CliError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json).unwrap();
        Account::emulated(file.path())
    }

    #[test]
    fn the_first_account_with_items_is_taken_and_its_host_led_to_the_emulator() {
        let json = r#"{"url": "http://127.0.0.1:9", "control_url": "http://127.0.0.1:10", "accounts": [
            {"name": "empty", "token": "ops_a", "vaults": []},
            {"name": "full", "token": "ops_b", "sign_in_address": "acme.1password.com", "vaults": [{"id": "v", "items": [
                {"reference": "op://v/a", "username": "u", "password": "p"},
                {"reference": "op://v/b", "username": "u", "password": "p", "otpauth": "otpauth://hotp/x?secret=AA&counter=1"},
                {"reference": "op://v/c", "state": "archived", "username": "u", "password": "p", "otpauth": "AAAA"},
                {"reference": "op://v/d", "state": "active", "username": "u", "password": "p", "otpauth": "AAAA"}]}]}]}"#;
        let account = found(json).unwrap();
        assert_eq!(account.connect_to.unwrap().to_string(), "acme.1password.com=http://127.0.0.1:9");
        assert_eq!(account.complete, BTreeSet::from(["op://v/d".to_owned()]));
    }

    #[test]
    fn a_file_of_something_else_is_refused_without_its_contents() {
        let error = found(r#"{"url": "ops_secret"}"#).map(|_| ()).unwrap_err();
        assert!(!error.message.contains("ops_secret"));
    }
}
