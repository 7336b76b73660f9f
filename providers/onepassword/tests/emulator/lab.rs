//! An emulator, a host and a connection, with short names for what the tests do with them.

use keyway_emulator_onepassword::{Calls, Emulator, ItemInfo, Options, VaultInfo};
use keyway_native_host::NativeHost;
use keyway_provider_onepassword::OnePassword;
use keyway_sdk::{
    Changes, Error, Item, ItemPage, Resolved, Result, SecretProvider, Selection, Settings, Verified, WriteAccess,
    secrecy::ExposeSecret,
};

pub(crate) const VAULT: &str = "Automation";
pub(crate) const READ_ONLY_VAULT: &str = "Finance (read-only)";
/// An item with all three fields.
pub(crate) const ITEM: &str = "Northwind Supplier Portal";

pub(crate) struct Lab {
    pub(crate) emulator: Emulator,
    pub(crate) native: NativeHost,
    settings: Settings,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(Options::default(), "automation")
    }

    pub(crate) fn with(options: Options, account: &str) -> Self {
        let emulator = Emulator::start_with(options).unwrap();
        let token = emulator.account(account).unwrap().token;
        let address = emulator.address().to_string();
        let native = NativeHost::new([(emulator.host(), address.as_str())]).unwrap();
        Self { emulator, native, settings: Settings::new().with("token", token) }
    }

    /// The same server with another token.
    pub(crate) fn use_token(&mut self, token: &str) {
        self.settings = Settings::new().with("token", token.to_owned());
    }

    pub(crate) fn verify(&self) -> Result<Verified> {
        self.native.call(|host| OnePassword::verify(host, &self.settings))
    }

    pub(crate) fn list(&self, page: Option<&str>) -> Result<ItemPage> {
        self.native.call(|host| OnePassword::list_items(host, &self.settings, page))
    }

    pub(crate) fn list_all(&self) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        let mut next = None;
        loop {
            let page = self.list(next.as_deref())?;
            items.extend(page.items);
            next = page.next;
            if next.is_none() {
                return Ok(items);
            }
        }
    }

    pub(crate) fn resolve(&self, reference: &str, fields: &Selection) -> Result<Resolved> {
        self.native.call(|host| OnePassword::resolve(host, &self.settings, reference, fields))
    }

    pub(crate) fn write(&self, reference: &str, changes: &Changes, expected: Option<&str>) -> Result<String> {
        self.native.call(|host| OnePassword::write(host, &self.settings, reference, changes, expected))
    }

    pub(crate) fn check(&self, reference: &str) -> Result<WriteAccess> {
        self.native.call(|host| OnePassword::check_write_access(host, &self.settings, reference))
    }

    /// The item as seen by the first test account with access to it.
    pub(crate) fn item(&self, vault: &str, title: &str) -> ItemInfo {
        let account = self.emulator.account("automation").unwrap();
        account.vault(vault).unwrap().item(title).unwrap().clone()
    }

    pub(crate) fn reference(&self, vault: &str, title: &str) -> String {
        self.item(vault, title).reference
    }

    pub(crate) fn vaults(&self) -> Vec<VaultInfo> {
        self.emulator.account("automation").unwrap().vaults
    }

    /// The requests made while this ran.
    pub(crate) fn calls_of<T>(&self, run: impl FnOnce() -> T) -> (T, Calls) {
        self.emulator.reset_calls();
        let result = run();
        (result, self.emulator.calls())
    }

    /// Signs in, opens the keys of all vaults and resets the counts.
    pub(crate) fn warm(self) -> Self {
        self.verify().unwrap();
        self.emulator.reset_calls();
        self
    }
}

pub(crate) fn text(secret: Option<&keyway_sdk::secrecy::SecretString>) -> Option<&str> {
    secret.map(|secret| secret.expose_secret())
}

pub(crate) fn password(new: &str) -> Changes {
    Changes { username: None, password: Some(new.into()) }
}

pub(crate) fn username(new: &str) -> Changes {
    Changes { username: Some(new.into()), password: None }
}

/// The error of a call that must fail.
pub(crate) fn error<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => error,
    }
}
