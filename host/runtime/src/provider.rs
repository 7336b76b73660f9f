//! A loaded component and the calls one can make to it.

use std::sync::Arc;

use crate::adapter::Adapter;
use crate::call::{Call, Turns};
use crate::connection::Connection;
use crate::contract::{Changes, Description, Fields, ItemPage, Resolved, Settings, Verified, WriteAccess};
use crate::error::{CallError, SandboxError};
use crate::limits::Limits;
use crate::redact::Redactor;
use crate::runtime::Shared;
use crate::session::CallSession;
use crate::state::{CallState, WayOut};
use crate::validate;

/// A secret provider: a component that was checked, compiled and described. Cheap to clone; calls may run concurrently.
///
/// Every call runs in a brand-new instance that is thrown away afterwards. A trap, a time-out or an oversized answer is an
/// error of that one call. Dropping the future of a call ends it at once.
#[derive(Clone)]
pub struct Provider(Arc<Loaded>);

struct Loaded {
    shared: Arc<Shared>,
    adapter: Box<dyn Adapter>,
    description: Description,
    /// SHA-256 of the component file in lower-case hex.
    digest: Arc<str>,
    name: Arc<str>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider").field("type", &self.0.name).field("digest", &self.0.digest).finish_non_exhaustive()
    }
}

/// Runs `describe`, which happens once, before there is a [`Provider`].
pub(crate) async fn describe(shared: &Arc<Shared>, adapter: &dyn Adapter) -> Result<Description, CallError> {
    let call_time = shared.limits.call_time.min(shared.limits.describe_time);
    let limits = Arc::new(Limits { call_time, ..Limits::clone(&shared.limits) });
    let state = CallState::new(&limits, shared.clock.clone(), None, None);
    let label = (Arc::from("new component"), "describe");
    let turns = Turns { of_connection: None, of_host: &shared.turns };
    let mut call = Call::begin(&shared.engine, &limits, turns, adapter, state, Redactor::default(), label).await?;
    let deadline = call.deadline();
    let outcome = tokio::time::timeout_at(deadline, call.instance.describe(&mut call.store)).await;
    call.finish(outcome.map(|answer| answer.map(Ok)))
}

impl Provider {
    pub(crate) fn new(
        shared: Arc<Shared>,
        adapter: Box<dyn Adapter>,
        description: Description,
        digest: Arc<str>,
    ) -> Self {
        let name = Arc::from(description.provider_type.as_str());
        Self(Arc::new(Loaded { shared, adapter, description, digest, name }))
    }

    /// The provider in its own words.
    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// The SHA-256 of the component file in lower-case hex: which build this is.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// Does this connection work, and what can it do? Logs in and looks around; changes nothing.
    pub async fn verify(&self, connection: &Connection) -> Result<Verified, CallError> {
        let settings = self.settings(connection)?;
        let mut call = self.begin(connection, "verify", &[]).await?;
        let outcome = tokio::time::timeout_at(call.deadline(), call.instance.verify(&mut call.store, &settings)).await;
        let verified = call.finish(outcome)?;
        validate::verified(&verified).map_err(SandboxError::InvalidAnswer)?;
        Ok(verified)
    }

    /// A page of the items that the connection can read; `page` is `None` for the first and then the [`ItemPage::next`] of the page before.
    pub async fn list_items(&self, connection: &Connection, page: Option<&str>) -> Result<ItemPage, CallError> {
        let settings = self.settings(connection)?;
        let mut call = self.begin(connection, "list-items", &[]).await?;
        let outcome =
            tokio::time::timeout_at(call.deadline(), call.instance.list_items(&mut call.store, &settings, page)).await;
        let page = call.finish(outcome)?;
        validate::item_page(&page).map_err(SandboxError::InvalidAnswer)?;
        Ok(page)
    }

    /// The current values of an item, read from the secret manager now. Fields that were not asked for are `None`.
    pub async fn resolve(
        &self,
        connection: &Connection,
        reference: &str,
        fields: Fields,
    ) -> Result<Resolved, CallError> {
        let settings = self.settings(connection)?;
        let mut call = self.begin(connection, "resolve", &[]).await?;
        let deadline = call.deadline();
        let running = call.instance.resolve(&mut call.store, &settings, reference, fields);
        let mut outcome = tokio::time::timeout_at(deadline, running).await;
        if let Ok(Ok(Ok(resolved))) = &mut outcome {
            // What the component printed must not show what it has just resolved.
            let code = resolved.one_time_code.as_ref().map(|code| &code.code);
            for secret in [resolved.username.as_ref(), resolved.password.as_ref(), code].into_iter().flatten() {
                call.redactor().add(secret);
            }
        }
        let mut resolved = call.finish(outcome)?;
        validate::resolved(&mut resolved, fields).map_err(SandboxError::InvalidAnswer)?;
        Ok(resolved)
    }

    /// Changes the given fields of an item and nothing else; returns the new revision. With `expected_revision` an item that is at another one stays
    /// as it is ([`crate::ProviderError::Conflict`]).
    pub async fn write(
        &self,
        connection: &Connection,
        reference: &str,
        changes: Changes,
        expected_revision: Option<&str>,
    ) -> Result<String, CallError> {
        let settings = self.settings(connection)?;
        let secrets: Vec<_> = [&changes.username, &changes.password].into_iter().flatten().collect();
        let mut call = self.begin(connection, "write", &secrets).await?;
        let deadline = call.deadline();
        let running = call.instance.write(&mut call.store, &settings, reference, &changes, expected_revision);
        let outcome = tokio::time::timeout_at(deadline, running).await;
        let revision = call.finish(outcome)?;
        validate::revision(&revision).map_err(SandboxError::InvalidAnswer)?;
        Ok(revision)
    }

    /// May [`write`](Self::write) change this very item? Asks the secret manager and changes nothing.
    pub async fn check_write_access(&self, connection: &Connection, reference: &str) -> Result<WriteAccess, CallError> {
        let settings = self.settings(connection)?;
        let mut call = self.begin(connection, "check-write-access", &[]).await?;
        let deadline = call.deadline();
        let running = call.instance.check_write_access(&mut call.store, &settings, reference);
        let mut outcome = tokio::time::timeout_at(deadline, running).await;
        if let Ok(Ok(Ok(WriteAccess::Denied(reason)))) = &mut outcome {
            *reason = call.redactor().message(reason);
        }
        call.finish(outcome)
    }

    fn settings(&self, connection: &Connection) -> Result<Settings, CallError> {
        self.0.description.check_settings(connection.settings())?;
        Ok(self.0.description.effective_settings(connection.settings()))
    }

    async fn begin(
        &self,
        connection: &Connection,
        operation: &'static str,
        secrets: &[&secrecy::SecretString],
    ) -> Result<Call, SandboxError> {
        let shared = &self.0.shared;
        let mut redactor = Redactor::default();
        for (name, value) in connection.settings().iter() {
            if self.0.description.is_secret(name) {
                redactor.add(value);
            }
        }
        for secret in secrets {
            redactor.add(secret);
        }
        let session = CallSession::new(connection.slot().clone(), self.0.digest.clone());
        let way_out = WayOut { egress: connection.egress().clone(), gate: connection.gate().cloned() };
        let state = CallState::new(&shared.limits, shared.clock.clone(), Some(way_out), Some(session));
        let label = (self.0.name.clone(), operation);
        let turns = Turns { of_connection: Some(connection.turns()), of_host: &shared.turns };
        Call::begin(&shared.engine, &shared.limits, turns, &*self.0.adapter, state, redactor, label).await
    }
}
