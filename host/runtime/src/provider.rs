//! A loaded component and its calls.

use std::sync::Arc;

use secrecy::SecretString;

use crate::adapter::Adapter;
use crate::call::{Call, Turns};
use crate::connection::OpenConnection;
use crate::contract::{
    Attribute, Changes, Description, FieldSpec, FieldValue, ItemPage, Lease, NoCode, OneTimeCode, Resolved, Selection,
    Settings, Verified, WriteAccess,
};
use crate::error::{CallError, ProviderError, SandboxError};
use crate::limits::Limits;
use crate::redact::{Received, Redactor};
use crate::runtime::{Runtime, Shared};
use crate::session::CallSession;
use crate::settings::Patterns;
use crate::state::{CallState, Reach, WayOut};
use crate::validate;

/// A secret provider: a component that was checked, compiled and described. Cheap to clone; calls
/// may run concurrently.
///
/// Every call runs in a new instance that is discarded afterwards. A trap, a time-out or an
/// oversized answer is an error of that call only. Dropping the future of a call cancels it at
/// once.
#[derive(Clone)]
pub struct Provider(Arc<Loaded>);

struct Loaded {
    shared: Arc<Shared>,
    adapter: Box<dyn Adapter>,
    description: Description,
    patterns: Patterns,
    /// The public texts of its description, in lower case; see [`Redactor`].
    public: Arc<str>,
    /// SHA-256 of the component file in lower-case hex.
    digest: Arc<str>,
    name: Arc<str>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider").field("type", &self.0.name).field("digest", &self.0.digest).finish_non_exhaustive()
    }
}

/// Begins a call without a connection: no network, no session, and little time.
async fn begin_alone(
    shared: &Arc<Shared>,
    adapter: &dyn Adapter,
    provider: Arc<str>,
    operation: &'static str,
    redactor: Redactor,
) -> Result<Call, SandboxError> {
    let call_time = shared.limits.call_time.min(shared.limits.describe_time);
    let limits = Arc::new(Limits { call_time, ..Limits::clone(&shared.limits) });
    let state = CallState::new(&limits, shared.clock.clone(), None, Received::default());
    let turns = Turns { of_connection: None, of_host: &shared.turns };
    let label = (provider, operation);
    Call::begin(&shared.engine, &limits, turns, adapter, state, redactor, label).await
}

/// Runs `describe`, once, before there is a [`Provider`].
pub(crate) async fn describe(shared: &Arc<Shared>, adapter: &dyn Adapter) -> Result<Description, CallError> {
    let mut call = begin_alone(shared, adapter, Arc::from("new component"), "describe", Redactor::default()).await?;
    let deadline = call.deadline();
    let outcome = tokio::time::timeout_at(deadline, call.instance.describe(&mut call.store)).await;
    let description = call.finish(outcome.map(|answer| answer.map(Ok)))?;
    Ok(Description { interfaces: adapter.interfaces(), ..description })
}

impl Provider {
    pub(crate) fn new(
        shared: Arc<Shared>,
        adapter: Box<dyn Adapter>,
        description: Description,
        patterns: Patterns,
        digest: Arc<str>,
    ) -> Self {
        let name = Arc::from(description.provider_type.as_str());
        let public = description.public_text().to_ascii_lowercase().into();
        Self(Arc::new(Loaded { shared, adapter, description, patterns, public, digest, name }))
    }

    /// How the provider describes itself.
    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// The runtime that loaded it, which runs its calls.
    pub fn runtime(&self) -> Runtime {
        Runtime(self.0.shared.clone())
    }

    /// The SHA-256 of the component file in lower-case hex, which identifies the build.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// The normal form of a reference, under which everything that belongs to its item is stored.
    /// Makes no request. A text that is not a reference of this provider is
    /// [`ErrorCode::InvalidReference`](crate::ErrorCode::InvalidReference).
    pub async fn normalize_reference(&self, reference: &str) -> Result<String, CallError> {
        let description = &self.0.description;
        validate::reference(description, reference).map_err(CallError::from)?;
        let shared = &self.0.shared;
        // Text pasted as a reference, or into one, may be a password.
        let mut redactor = Redactor::default();
        let pasted = reference.split_once("://").map_or(reference, |(_, rest)| rest);
        for text in [reference, pasted].into_iter().chain(pasted.split('/')) {
            if !self.0.public.contains(&text.to_ascii_lowercase()) {
                redactor.add(&SecretString::from(text));
            }
        }
        let (name, operation) = (self.0.name.clone(), "normalize-reference");
        let mut call = begin_alone(shared, &*self.0.adapter, name, operation, redactor).await?;
        let deadline = call.deadline();
        let running = async {
            let normal = match call.instance.normalize_reference(&mut call.store, reference).await? {
                Ok(normal) if normal != reference => normal,
                answer => return Ok(answer.map(|normal| (normal, None))),
            };
            let again = call.instance.normalize_reference(&mut call.store, &normal).await?;
            Ok(Ok((normal, Some(again))))
        };
        let outcome = tokio::time::timeout_at(deadline, running).await;
        let (normal, again) = call.finish(outcome)?;
        if let Some(again) = again
            && again.as_ref() != Ok(&normal)
        {
            let what = "the normal form of a reference is not its own normal form (`normalize-reference`)";
            return Err(SandboxError::InvalidAnswer(what.into()).into());
        }
        validate::normal_form(description, &normal).map_err(SandboxError::InvalidAnswer)?;
        Ok(normal)
    }

    /// Checks that the connection works and reports what it can do. Logs in and reads; changes
    /// nothing.
    pub async fn verify(&self, connection: &OpenConnection) -> Result<Verified, CallError> {
        let settings = self.settings(connection)?;
        let mut call = self.begin(connection, "verify", &[]).await?;
        let outcome = tokio::time::timeout_at(call.deadline(), call.instance.verify(&mut call.store, &settings)).await;
        let verified = call.finish(outcome)?;
        validate::verified(&verified).map_err(SandboxError::InvalidAnswer)?;
        Ok(verified)
    }

    /// A page of the items that the connection can read. `page` is `None` for the first page, then
    /// the [`ItemPage::next`] of the previous one.
    pub async fn list_items(&self, connection: &OpenConnection, page: Option<&str>) -> Result<ItemPage, CallError> {
        let settings = self.settings(connection)?;
        let mut call = self.begin(connection, "list-items", &[]).await?;
        let outcome =
            tokio::time::timeout_at(call.deadline(), call.instance.list_items(&mut call.store, &settings, page)).await;
        let page = call.finish(outcome)?;
        validate::item_page(&self.0.description, &page).map_err(SandboxError::InvalidAnswer)?;
        Ok(page)
    }

    /// The further fields of an item, without their values. Needs
    /// [`Interfaces::item_fields`](crate::contract::Interfaces::item_fields).
    pub async fn list_fields(&self, connection: &OpenConnection, reference: &str) -> Result<Vec<FieldSpec>, CallError> {
        let settings = self.settings(connection)?;
        let mut call = self.begin(connection, "list-fields", &[]).await?;
        let deadline = call.deadline();
        let running = call.instance.list_fields(&mut call.store, &settings, reference);
        let outcome = tokio::time::timeout_at(deadline, running).await;
        let fields = call.finish(outcome)?;
        validate::field_specs(&fields).map_err(SandboxError::InvalidAnswer)?;
        Ok(fields)
    }

    /// The current values of an item, read from the secret manager now. Fields that were not
    /// requested are `None`.
    pub async fn resolve(
        &self,
        connection: &OpenConnection,
        reference: &str,
        selection: impl Into<Selection>,
    ) -> Result<Resolved, CallError> {
        let selection = selection.into();
        validate::selection(&self.0.description, &selection)?;
        let settings = self.settings(connection)?;
        let mut call = self.begin(connection, "resolve", &[]).await?;
        let deadline = call.deadline();
        let running = call.instance.resolve(&mut call.store, &settings, reference, &selection);
        let mut outcome = tokio::time::timeout_at(deadline, running).await;
        if let Ok(Ok(Ok(resolved))) = &mut outcome {
            // The component's output must not show what the call has just resolved.
            secrets_of(resolved).for_each(|secret| call.redactor().add(secret));
            let redactor = call.redactor();
            for none in no_codes_of(resolved) {
                none.message = redactor.message(&none.message);
            }
            attributes_of(resolved).for_each(|attributes| redactor.attributes(attributes));
        }
        let mut resolved = call.finish(outcome)?;
        let now = self.0.shared.clock.now().timestamp().as_second();
        let now = u64::try_from(now).unwrap_or_default();
        validate::resolved(&mut resolved, &selection, now).map_err(SandboxError::InvalidAnswer)?;
        Ok(resolved)
    }

    /// Changes the given fields of an item, and no others, and returns the new revision. With
    /// `expected_revision`, an item at another revision stays unchanged
    /// ([`ErrorCode::Conflict`](crate::ErrorCode::Conflict)).
    pub async fn write(
        &self,
        connection: &OpenConnection,
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

    /// Whether [`write`](Self::write) may change this item. Asks the secret manager; changes
    /// nothing.
    pub async fn check_write_access(
        &self,
        connection: &OpenConnection,
        reference: &str,
    ) -> Result<WriteAccess, CallError> {
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

    /// Extends a lease, by `seconds` if the server supports that. Needs
    /// [`Interfaces::leases`](crate::contract::Interfaces::leases).
    pub async fn renew_lease(
        &self,
        connection: &OpenConnection,
        lease: &str,
        seconds: Option<u32>,
    ) -> Result<Lease, CallError> {
        let settings = self.settings(connection)?;
        let mut call = self.begin(connection, "renew-lease", &[]).await?;
        let deadline = call.deadline();
        let running = call.instance.renew_lease(&mut call.store, &settings, lease, seconds);
        let mut outcome = tokio::time::timeout_at(deadline, running).await;
        if let Ok(Ok(Ok(lease))) = &mut outcome {
            call.redactor().attributes(&mut lease.attributes);
        }
        let lease = call.finish(outcome)?;
        validate::lease(&lease).map_err(SandboxError::InvalidAnswer)?;
        Ok(lease)
    }

    /// Ends a lease: the server stops accepting its values. Needs
    /// [`Interfaces::leases`](crate::contract::Interfaces::leases).
    pub async fn revoke_lease(&self, connection: &OpenConnection, lease: &str) -> Result<(), CallError> {
        let settings = self.settings(connection)?;
        let mut call = self.begin(connection, "revoke-lease", &[]).await?;
        let deadline = call.deadline();
        let running = call.instance.revoke_lease(&mut call.store, &settings, lease);
        let outcome = tokio::time::timeout_at(deadline, running).await;
        call.finish(outcome)
    }

    /// Renews the durable state of the connection. Needs
    /// [`Interfaces::refresh`](crate::contract::Interfaces::refresh).
    pub async fn refresh(&self, connection: &OpenConnection) -> Result<(), CallError> {
        let settings = self.settings(connection)?;
        let mut call = self.begin(connection, "refresh", &[]).await?;
        let outcome = tokio::time::timeout_at(call.deadline(), call.instance.refresh(&mut call.store, &settings)).await;
        call.finish(outcome)
    }

    /// Checks that these settings can be passed to the provider: none is missing or unknown, and
    /// each value is of its kind. Only the provider can tell whether they are correct
    /// ([`verify`](Self::verify)).
    pub fn check_settings(&self, settings: &Settings) -> Result<(), ProviderError> {
        self.0.description.check_settings(settings, &self.0.patterns)
    }

    fn settings(&self, connection: &OpenConnection) -> Result<Arc<Settings>, CallError> {
        let check = |settings: &Settings| {
            self.check_settings(settings)?;
            Ok(self.0.description.effective_settings(settings))
        };
        Ok(connection.checked_settings(&self.0.digest, check)?)
    }

    async fn begin(
        &self,
        connection: &OpenConnection,
        operation: &'static str,
        secrets: &[&SecretString],
    ) -> Result<Call, SandboxError> {
        let shared = &self.0.shared;
        let received = Received::default();
        let mut redactor = Redactor::new(received.clone(), self.0.public.clone());
        let settings = connection.settings();
        for (name, value) in settings.iter() {
            if self.0.description.is_secret(name) {
                redactor.add(value);
            }
        }
        for secret in secrets {
            redactor.add(secret);
        }
        let reach = Reach {
            way_out: WayOut { egress: connection.egress().clone(), gate: connection.gate().cloned() },
            session: CallSession::new(connection.slot().clone(), self.0.digest.clone()),
            state_store: connection.state_store().cloned(),
        };
        let state = CallState::new(&shared.limits, shared.clock.clone(), Some(reach), received);
        let label = (self.0.name.clone(), operation);
        let turns = Turns { of_connection: Some(connection.turns()), of_host: &shared.turns };
        Call::begin(&shared.engine, &shared.limits, turns, &*self.0.adapter, state, redactor, label).await
    }
}

/// Every secret text in the answer.
fn secrets_of(resolved: &Resolved) -> impl Iterator<Item = &SecretString> {
    let codes = resolved.one_time_code.iter().filter_map(|result| Some(&result.as_ref().ok()?.code));
    let further = resolved.further.iter().filter_map(|field| match &field.value {
        FieldValue::Text(text) => Some(text),
        FieldValue::OneTimeCode(result) => Some(&result.as_ref().ok()?.code),
        // The redactor adds it if it is text.
        FieldValue::Binary(_) => None,
    });
    resolved.username.iter().chain(&resolved.password).chain(codes).chain(further)
}

/// The attributes in the answer, which are shown beside the values.
fn attributes_of(resolved: &mut Resolved) -> impl Iterator<Item = &mut Vec<Attribute>> {
    fn of_code(code: &mut Result<OneTimeCode, NoCode>) -> &mut Vec<Attribute> {
        match code {
            Ok(code) => &mut code.attributes,
            Err(none) => &mut none.attributes,
        }
    }
    let further = resolved.further.iter_mut().flat_map(|field| {
        let of_value = match &mut field.value {
            FieldValue::OneTimeCode(code) => Some(of_code(code)),
            FieldValue::Text(_) | FieldValue::Binary(_) => None,
        };
        [Some(&mut field.attributes), of_value].into_iter().flatten()
    });
    let code = resolved.one_time_code.as_mut().map(of_code);
    let lease = resolved.lease.as_mut().map(|lease| &mut lease.attributes);
    further.chain(code).chain(lease).chain([&mut resolved.attributes])
}

/// The reasons for missing codes, which are shown to people.
fn no_codes_of(resolved: &mut Resolved) -> impl Iterator<Item = &mut NoCode> {
    let further = resolved.further.iter_mut().filter_map(|field| match &mut field.value {
        FieldValue::OneTimeCode(Err(none)) => Some(none),
        _ => None,
    });
    resolved.one_time_code.iter_mut().filter_map(|result| result.as_mut().err()).chain(further)
}
