//! A secret manager with content set by the test, and failures on demand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use keyway::clock::{Clock, ManualClock};
use keyway::keyway_runtime::contract::{
    Capabilities, Changes, Description, Item as ListedItem, ItemPage, NoCode, NoCodeReason, OneTimeCode, Resolved,
    Selection, SettingSpec, Verified, WriteAccess,
};
use keyway::keyway_runtime::{ErrorCode, NativeProvider, ProviderError, Settings};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};

/// How long an item's code is valid, in seconds.
const CODE_PERIOD: u64 = 30;

/// An item of the scripted secret manager.
#[derive(Debug, Clone, Default)]
pub struct Item {
    title: String,
    username: Option<SecretString>,
    password: Option<SecretString>,
    code: Option<SecretString>,
    read_only: bool,
    revision: u64,
}

impl Item {
    /// An item without any values.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Sets a user name.
    #[must_use]
    pub fn username(self, username: &str) -> Self {
        Self { username: Some(username.into()), ..self }
    }

    /// Sets a password.
    #[must_use]
    pub fn password(self, password: &str) -> Self {
        Self { password: Some(password.into()), ..self }
    }

    /// Sets a one-time code, always the same one.
    #[must_use]
    pub fn one_time_code(self, code: &str) -> Self {
        Self { code: Some(code.into()), ..self }
    }

    /// Makes the item read-only for the connection, so that its rotation is skipped.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    /// Its current password.
    pub fn current_password(&self) -> Option<&str> {
        self.password.as_ref().map(ExposeSecret::expose_secret)
    }
}

/// A call of the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// Verify the connection.
    Verify,
    /// List the items.
    ListItems,
    /// Read the values of the item of this reference.
    Resolve(String),
    /// Write the item of this reference.
    Write(String),
    /// Check whether the item of this reference can be written.
    CheckWriteAccess(String),
}

#[derive(Default)]
struct Script {
    items: BTreeMap<String, Item>,
    calls: Vec<Call>,
    next: VecDeque<ProviderError>,
    always: Option<ProviderError>,
}

/// A provider that does what a test says. Clones share their state.
#[derive(Clone)]
pub struct ScriptedProvider {
    script: Arc<Mutex<Script>>,
    clock: Arc<ManualClock>,
}

impl ScriptedProvider {
    /// The type of its connections, and the scheme of its references: `scripted://<anything>`.
    pub const TYPE: &str = "scripted";

    pub(crate) fn new(clock: Arc<ManualClock>) -> Self {
        Self { script: Arc::default(), clock }
    }

    /// Adds an item, or replaces it at a new revision.
    pub fn put(&self, reference: &str, item: Item) {
        let items = &mut self.script.lock().items;
        let revision = items.get(reference).map_or(1, |before| before.revision + 1);
        items.insert(reference.to_owned(), Item { revision, ..item });
    }

    /// Removes an item.
    pub fn remove(&self, reference: &str) {
        self.script.lock().items.remove(reference);
    }

    /// The current item, including what was written to it.
    pub fn item(&self, reference: &str) -> Option<Item> {
        self.script.lock().items.get(reference).cloned()
    }

    /// Makes the next call fail. Several of these apply to successive calls.
    pub fn fail_next(&self, error: ProviderError) {
        self.script.lock().next.push_back(error);
    }

    /// Makes every call fail until [`recover`](Self::recover).
    pub fn fail(&self, error: ProviderError) {
        self.script.lock().always = Some(error);
    }

    /// Makes calls succeed again.
    pub fn recover(&self) {
        let mut script = self.script.lock();
        script.always = None;
        script.next.clear();
    }

    /// The calls since the start or the last [`forget_calls`](Self::forget_calls).
    pub fn calls(&self) -> Vec<Call> {
        self.script.lock().calls.clone()
    }

    /// Clears the recorded calls.
    pub fn forget_calls(&self) {
        self.script.lock().calls.clear();
    }

    /// Records a call, and fails if a failure is due.
    fn begin(&self, call: Call) -> Result<(), ProviderError> {
        let mut script = self.script.lock();
        script.calls.push(call);
        script.next.pop_front().or_else(|| script.always.clone()).map_or(Ok(()), Err)
    }

    fn find(&self, reference: &str) -> Result<Item, ProviderError> {
        let missing = || ProviderError::new(ErrorCode::NotFound, "There is no such item.");
        self.item(reference).ok_or_else(missing)
    }
}

#[async_trait]
impl NativeProvider for ScriptedProvider {
    fn describe(&self) -> Description {
        let mut token = SettingSpec::default();
        (token.name, token.label, token.secret, token.required) = ("token".into(), "Token".into(), true, true);
        let mut capabilities = Capabilities::default();
        (capabilities.list_items, capabilities.write, capabilities.one_time_codes) = (true, true, true);
        let mut description = Description::default();
        description.provider_type = Self::TYPE.into();
        description.display_name = "Scripted".into();
        description.version = env!("CARGO_PKG_VERSION").into();
        description.reference_scheme = Self::TYPE.into();
        description.reference_format = "scripted://<anything>".into();
        description.settings = vec![token];
        description.capabilities = capabilities;
        description
    }

    async fn verify(&self, _: &Settings) -> Result<Verified, ProviderError> {
        self.begin(Call::Verify)?;
        let mut verified = Verified::default();
        verified.account = "scripted".into();
        verified.account_key = Some("scripted".into());
        Ok(verified)
    }

    async fn list_items(&self, _: &Settings, _: Option<&str>) -> Result<ItemPage, ProviderError> {
        self.begin(Call::ListItems)?;
        let listed = |(reference, item): (&String, &Item)| {
            let mut listed = ListedItem::default();
            listed.id.clone_from(reference);
            listed.reference.clone_from(reference);
            listed.title.clone_from(&item.title);
            listed.category = "login".into();
            listed
        };
        let mut page = ItemPage::default();
        page.items = self.script.lock().items.iter().map(listed).collect();
        Ok(page)
    }

    async fn resolve(&self, _: &Settings, reference: &str, selection: &Selection) -> Result<Resolved, ProviderError> {
        self.begin(Call::Resolve(reference.to_owned()))?;
        let item = self.find(reference)?;
        let fields = selection.standard;
        let mut resolved = Resolved::default();
        resolved.username = item.username.filter(|_| fields.username);
        resolved.password = item.password.filter(|_| fields.password);
        if fields.one_time_code {
            let now = u64::try_from(self.clock.now().timestamp().as_second()).unwrap_or_default();
            let expires_at = (now / CODE_PERIOD + 1) * CODE_PERIOD;
            resolved.one_time_code = Some(match item.code {
                Some(code) => Ok(OneTimeCode::new(code, expires_at, CODE_PERIOD as u32)),
                None => Err(NoCode::new(NoCodeReason::Absent, "The item has no one-time password.")),
            });
        }
        resolved.revision = item.revision.to_string();
        Ok(resolved)
    }

    async fn write(
        &self,
        _: &Settings,
        reference: &str,
        changes: &Changes,
        expected_revision: Option<&str>,
    ) -> Result<String, ProviderError> {
        self.begin(Call::Write(reference.to_owned()))?;
        let item = self.find(reference)?;
        if item.read_only {
            return Err(ProviderError::new(ErrorCode::PermissionDenied, "The item can only be read."));
        }
        if expected_revision.is_some_and(|expected| expected != item.revision.to_string()) {
            return Err(ProviderError::new(ErrorCode::Conflict, "The item is at another revision."));
        }
        let (username, password) = (changes.username.clone(), changes.password.clone());
        let (username, password) =
            (username.or_else(|| item.username.clone()), password.or_else(|| item.password.clone()));
        self.put(reference, Item { username, password, ..item.clone() });
        Ok((item.revision + 1).to_string())
    }

    async fn check_write_access(&self, _: &Settings, reference: &str) -> Result<WriteAccess, ProviderError> {
        self.begin(Call::CheckWriteAccess(reference.to_owned()))?;
        let denied = || WriteAccess::Denied("The item can only be read.".into());
        Ok(if self.find(reference)?.read_only { denied() } else { WriteAccess::Granted })
    }
}
