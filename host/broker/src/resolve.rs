//! Resolving a vault entry: this is where secret values leave the broker.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use keyway_audit::{AuditSource, Operation, Subject, Trail};
use keyway_budget::ProviderOperation;
use keyway_runtime::Fields;
use keyway_runtime::contract::{Field, FieldValue, NoCode, NoCodeReason, OneTimeCode, Resolved, Selection};
use keyway_storage::{ConnectionRecord, EntrySelector, ItemId, RotationId, WorkspaceId};
use secrecy::SecretString;
use tracing::debug;

use crate::access::Access;
use crate::cache::{Credentials, Fetched, Found, ItemKey, Lifetime, Lookup, Reader, Rejected, Source};
use crate::cache_ttl::CacheTtl;
use crate::codes::{Codes, Step, WantedCode};
use crate::connections::Connections;
use crate::core::{Core, timestamp_of};
use crate::entries::further::check_names;
use crate::entries::{BoundItem, EntryStore, ResolvableEntry};
use crate::error::{BrokerError, InvalidInput};
use crate::items::Items;
use crate::lease::EntryLease;
use crate::provider_call::Opened;
use crate::rotations::Journal;

/// The longest revision that a provider may answer with, by its contract.
const REVISION_LIMIT: usize = 256;

/// What to resolve.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ResolveRequest {
    /// Which entry.
    pub entry: EntrySelector,
    /// Which of its values. Only these are returned.
    pub fields: Fields,
    /// Names of further fields of its item, each once; see
    /// [`Entries::list_fields`](crate::entries::Entries::list_fields). If there are any, all values
    /// are live and none is cached.
    pub further: Vec<String>,
    /// A revision whose password did not work at the site: the [`Resolution::revision`] that came
    /// with it. Its cached values are dropped for all entries that are bound to the item, and
    /// fetched again, at most once for each revision.
    pub rejected: Option<String>,
    /// What the one-time code must be. If the current one is not, the request waits for the next.
    pub code: WantedCode,
}

impl ResolveRequest {
    /// Requests all values of an entry.
    pub fn new(entry: impl Into<EntrySelector>) -> Self {
        Self {
            entry: entry.into(),
            fields: Fields::ALL,
            further: Vec::new(),
            rejected: None,
            code: WantedCode::default(),
        }
    }

    /// Requests only these values.
    #[must_use]
    pub fn fields(mut self, fields: Fields) -> Self {
        self.fields = fields;
        self
    }

    /// Requests these further fields of the item as well.
    #[must_use]
    pub fn further(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.further = names.into_iter().map(Into::into).collect();
        self
    }

    /// Rejects this revision: its password did not work.
    #[must_use]
    pub fn rejected(mut self, revision: impl Into<String>) -> Self {
        self.rejected = Some(revision.into());
        self
    }

    /// Demands this of the one-time code.
    #[must_use]
    pub fn code(mut self, code: WantedCode) -> Self {
        self.code = code;
        self
    }
}

/// What an entry resolves to: the values of its item, or its own.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Resolution {
    /// The user name; `None` when the item has none or it was not asked for.
    pub username: Option<SecretString>,
    /// The password; `None` when the item has none or it was not asked for.
    pub password: Option<SecretString>,
    /// Where user name and password came from.
    pub source: Source,
    /// The current one-time code; `None` when the item has none or it was not asked for. Always
    /// live.
    pub one_time_code: Option<OneTimeCode>,
    /// How often that code was handed out, this time included; 1 if no other caller has it. Counted
    /// by this process for each item and period, whichever way the code leaves the broker. `None`
    /// without a code.
    pub times_handed_out: Option<u32>,
    /// Why there is no one-time code, when one was asked for.
    pub no_code: Option<NoCode>,
    /// Why there is nothing at all, when user name or password were asked for: a message for a
    /// person.
    pub no_values: Option<&'static str>,
    /// The further fields that were asked for and that the item has. Always live.
    pub further: Vec<Field>,
    /// The state of the item that the code, or its absence, is from; `None` when it was not asked
    /// for.
    pub code_revision: Option<String>,
    /// The state of the item that user name and password are from: opaque, not secret, at most 256
    /// bytes, and different after each change of the item. Equal texts mean the same state; there
    /// is no order. A password that the item does not have yet has a revision of its own.
    pub revision: String,
    /// Whether this is still the revision that the request rejected: the item had not changed when
    /// the provider was last asked. Asking again will not help.
    pub rejected_is_current: bool,
    /// The rotation whose new password this is, if the site has it already and the item does not.
    /// User name and code are always the item's.
    pub rotation: Option<RotationId>,
    /// The first second at which user name and password are no longer valid; `None` when the
    /// provider knows of no end.
    pub valid_until: Option<Timestamp>,
    /// The lease under which user name and password were made, if the secret manager makes new
    /// ones for each call. They are valid until it ends.
    pub lease: Option<EntryLease>,
    /// How long it took.
    pub timings: Timings,
}

/// How long a resolve took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Timings {
    /// The whole operation.
    pub total: Duration,
    /// The provider's call, if there was one.
    pub provider: Option<Duration>,
}

impl Resolution {
    /// Explains that there is nothing of what was asked for. An item that is no login would
    /// otherwise look like one without values.
    fn explain(&mut self, request: &ResolveRequest, source: AuditSource) {
        let wanted = request.fields.username || request.fields.password;
        let found = self.username.is_some() || self.password.is_some() || self.one_time_code.is_some();
        if wanted && !found && self.further.is_empty() {
            self.no_values = Some(match source {
                AuditSource::Entry => NO_VALUES_OF_ENTRY,
                _ => NO_VALUES_OF_ITEM,
            });
        }
    }

    /// Gives the resolution a revision of its own if its password is that of a rotation and not the
    /// item's (or the entry's): a caller that rejected the old one learns that this is another.
    pub(crate) fn with_revision_of_rotation(mut self, rejected: Option<&str>) -> Self {
        if let Some(rotation) = self.rotation {
            self.revision = revision_of(rotation);
            self.rejected_is_current = rejected == Some(&*self.revision);
        }
        self
    }
}

const NO_VALUES_OF_ITEM: &str = "The item has none of the values that were asked for. Give them to it, bind the \
                                 entry to a login item, or ask for further fields by name if its provider has any.";
const NO_VALUES_OF_ENTRY: &str =
    "The entry has none of the values that were asked for. Store credentials in it, or bind it to an item.";

/// The reason for no code when the provider has no codes at all.
fn no_codes() -> NoCode {
    NoCode::new(NoCodeReason::Absent, "The provider of this secret manager has no one-time codes.")
}

/// The revision of a password that a rotation has prepared.
fn revision_of(rotation: RotationId) -> String {
    format!("rotation-{rotation}")
}

impl From<Source> for AuditSource {
    fn from(source: Source) -> Self {
        match source {
            Source::Live => Self::Live,
            Source::Cached { .. } => Self::Cached,
        }
    }
}

/// Notes in the audit subject that these values are about to be released.
fn released(subject: &mut Subject, resolution: &Resolution, source: AuditSource) {
    let fields = Fields {
        username: resolution.username.is_some(),
        password: resolution.password.is_some(),
        one_time_code: resolution.one_time_code.is_some(),
    };
    let further = resolution.further.iter().filter(|field| has_value(field));
    let further = further.map(|field| Cow::Owned(format!("field:{}", field.name)));
    subject.released(field_names(fields).map(Cow::Borrowed).chain(further), source);
    subject.rotation = resolution.rotation;
    subject.lease = resolution.lease.as_ref().map(|lease| lease.id.clone());
}

/// Whether a field has a value, and not just the reason for having none.
fn has_value(field: &Field) -> bool {
    !matches!(field.value, FieldValue::OneTimeCode(Err(_)))
}

/// The names of fields.
fn field_names(fields: Fields) -> impl Iterator<Item = &'static str> {
    let all = [(fields.username, "username"), (fields.password, "password"), (fields.one_time_code, "one_time_code")];
    all.into_iter().filter(|(is_in, _)| *is_in).map(|(_, name)| name)
}

/// Resolves entries.
pub(crate) struct Resolver {
    pub(crate) core: Arc<Core>,
    pub(crate) entries: Arc<EntryStore>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) items: Arc<Items>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) codes: Codes,
}

/// The values of an entry before they are released.
pub(crate) struct Unreleased {
    /// What the code belongs to.
    pub(crate) item: ItemId,
    /// Boxed, because it is large and each future on its way out would copy it.
    pub(crate) resolution: Box<Resolution>,
    pub(crate) source: AuditSource,
}

impl Resolver {
    /// See [`Broker::resolve`](crate::Broker::resolve).
    pub(crate) async fn resolve(
        &self,
        access: &Access,
        request: ResolveRequest,
    ) -> Result<Box<Resolution>, BrokerError> {
        let trail = Trail::selected(&request.entry);
        // Pinned here, because this future is large and each future that awaits it would hold a
        // copy.
        let resolve = std::pin::pin!(async {
            if request.rejected.as_ref().is_some_and(|revision| revision.chars().count() > REVISION_LIMIT) {
                return Err(InvalidInput::TooLong { field: "rejected", limit: REVISION_LIMIT }.into());
            }
            check_names(&request.further)?;
            if !request.code.is_any() && !request.fields.one_time_code {
                return Err(InvalidInput::CodeNotAsked.into());
            }
            self.release(access.workspace(), &request, &trail).await
        });
        self.core.audited(access, Operation::Resolve, &trail, resolve).await
    }

    /// Resolves an entry for a caller that is authorised. Waits for a one-time code that meets its
    /// demands, and notes the released values in the trail.
    pub(crate) async fn release(
        &self,
        workspace: WorkspaceId,
        request: &ResolveRequest,
        trail: &Trail,
    ) -> Result<Box<Resolution>, BrokerError> {
        let mut turn = self.codes.turn(request.code);
        loop {
            let Unreleased { item, mut resolution, source } = self.values(workspace, request, trail).await?;
            let step = match &resolution.one_time_code {
                Some(code) => {
                    let now = u64::try_from(self.core.timestamp().as_second()).unwrap_or_default();
                    Some(turn.decide(workspace, &item, code, now)?)
                }
                None => None,
            };
            resolution.times_handed_out = match step {
                Some(Step::Wait(until)) => {
                    // No value is in memory meanwhile.
                    drop(resolution);
                    turn.wait(&*self.core.clock, until).await;
                    continue;
                }
                Some(Step::HandOut(times)) => Some(times),
                None => None,
            };
            resolution.explain(request, source);
            trail.note(|subject| released(subject, &resolution, source));
            return Ok(resolution);
        }
    }

    async fn values(
        &self,
        workspace: WorkspaceId,
        request: &ResolveRequest,
        trail: &Trail,
    ) -> Result<Unreleased, BrokerError> {
        let entry = self.entries.resolvable(workspace, &request.entry).await?;
        trail.note(|subject| subject.entry = Some(entry.id));
        match &entry.binding {
            Some(binding) => self.resolve_bound(&entry, binding, request, trail).await,
            None => self.resolve_own(&entry, request).await,
        }
    }

    /// The item that an entry is bound to, with its connection ready for calls; `None` when the
    /// entry is not bound. Notes entry and item in the trail.
    pub(crate) async fn bound_item(
        &self,
        access: &Access,
        entry: &EntrySelector,
        trail: &Trail,
    ) -> Result<Option<(ItemId, Opened)>, BrokerError> {
        let entry = self.entries.resolvable(access.workspace(), entry).await?;
        trail.note(|subject| subject.entry = Some(entry.id));
        let Some(binding) = &entry.binding else { return Ok(None) };
        trail.note(|subject| subject.bound_to(binding.connection_id, &binding.reference));
        let connection = self.connections.record(access.workspace(), binding.connection_id).await?;
        let opened = self.connections.open(&connection).await?;
        opened.note(trail);
        Ok(Some((connection.item(&binding.reference), opened)))
    }

    async fn resolve_bound(
        &self,
        entry: &ResolvableEntry,
        binding: &BoundItem,
        request: &ResolveRequest,
        trail: &Trail,
    ) -> Result<Unreleased, BrokerError> {
        let started = Instant::now();
        let (fields, rejected) = (request.fields, request.rejected.as_deref());
        let workspace = entry.workspace_id;
        trail.note(|subject| subject.bound_to(binding.connection_id, &binding.reference));
        let connection = self.connections.record(workspace, binding.connection_id).await?;
        let provider = self.connections.installed(&connection.provider_type)?;
        let ttl = binding.cache_ttl.unwrap_or(CacheTtl::from_seconds(connection.cache_ttl_seconds));

        let item_id = connection.item(&binding.reference);
        let item = self.items.state(workspace, &item_id).await?;
        let ahead = if fields.password { self.journal.password_ahead(item.as_deref()).await? } else { None };
        // A rotation over another connection of the account does not show that this connection may
        // see the item; only the secret manager can say so.
        let may_see_it = ahead.as_ref().is_some_and(|(rotation, _)| rotation.connection_id == Some(connection.id));
        let (rotation, password) = ahead.map(|(rotation, password)| (rotation.id, password)).unzip();
        if may_see_it && !fields.username && !fields.one_time_code && request.further.is_empty() {
            // The item is not needed. Its secret manager may be unavailable, and that may be why
            // the password was not written back yet.
            let timings = Timings { total: started.elapsed(), provider: None };
            let resolution =
                Resolution { password, rotation, timings, ..Resolution::default() }.with_revision_of_rotation(rejected);
            return Ok(Unreleased { item: item_id, resolution: resolution.into(), source: AuditSource::Rotation });
        }
        // Rejecting the password of a rotation says nothing about the item's.
        let rejected_item = match rejected.filter(|revision| rotation.is_none_or(|id| *revision != revision_of(id))) {
            Some(revision) => {
                let connections = self.core.storage.connections_of_item(workspace, &item_id).await?;
                Some(Rejected { revision: revision.to_owned(), connections })
            }
            None => None,
        };
        let rejected_revision = rejected_item.as_ref().map(|rejected| rejected.revision.clone());
        // A provider without codes is not asked for one.
        let codes = provider.description().capabilities.one_time_codes;
        let lookup = Lookup {
            item: ItemKey { connection: connection.id, reference: binding.reference.clone() },
            account: item_id.account.clone(),
            keys: self.core.keyring.get(workspace).await?,
            // Both only grow, so each change of either makes a new sum.
            generation: connection.cache_generation.saturating_add(item.map_or(0, |item| item.generation)),
            // Further fields are live, and all values of one answer come from one call.
            ttl: if request.further.is_empty() { ttl.duration() } else { Duration::ZERO },
            fields: Fields { one_time_code: fields.one_time_code && codes, ..fields },
            rejected: rejected_item,
        };
        let reader = self.items.cache.reader(lookup);
        let found = match self.items.cache.cached(&reader) {
            Some(found) => found,
            None => self.fetch(&connection, reader, &request.further, trail).await?,
        };
        let (fetched, timings) = (found.fetched, Timings { total: started.elapsed(), provider: found.provider_time });
        let credentials = fetched.credentials;
        debug!(entry = %entry.id, source = ?found.source, total = ?timings.total, provider = ?timings.provider, "resolved");
        let (one_time_code, no_code) = match fetched.one_time_code.filter(|_| fields.one_time_code) {
            Some(Ok(code)) => (Some(code), None),
            Some(Err(none)) => (None, Some(none)),
            None => (None, (fields.one_time_code && !codes).then(no_codes)),
        };
        let resolution = Resolution {
            username: credentials.username.filter(|_| fields.username),
            password: password.or(credentials.password).filter(|_| fields.password),
            rotation,
            source: found.source,
            one_time_code,
            no_code,
            times_handed_out: None,
            no_values: None,
            further: fetched.further,
            code_revision: found.code_revision,
            rejected_is_current: rejected_revision.is_some_and(|rejected| rejected == credentials.revision),
            revision: credentials.revision,
            valid_until: fetched.lifetime.valid_until.map(timestamp_of),
            lease: fetched.lifetime.lease.map(|lease| keyway_runtime::contract::Lease::clone(&lease).into()),
            timings,
        }
        .with_revision_of_rotation(rejected);
        let source = resolution.source.into();
        Ok(Unreleased { item: item_id, resolution: resolution.into(), source })
    }

    /// The values of an item that needs a call of its provider.
    async fn fetch(
        &self,
        connection: &ConnectionRecord,
        reader: Reader,
        further: &[String],
        trail: &Trail,
    ) -> Result<Found, BrokerError> {
        let opened = self.connections.open(connection).await?;
        opened.note(trail);
        let asked_at = u64::try_from(self.core.timestamp().as_millisecond()).unwrap_or(0);
        let (reference, further) = (reader.lookup.item.reference.clone(), further.to_vec());
        let found = self.items.cache.get(reader, move |fields| {
            Box::pin(async move {
                let about = (reference, Selection::from(fields).further(further));
                let resolve = ProviderOperation::Resolve;
                let resolved = opened.call(resolve, about, |provider, connection, (reference, selection)| {
                    Box::pin(provider.resolve(connection, reference, selection.clone()))
                });
                let Resolved { username, password, revision, one_time_code, further, valid_until, lease, .. } =
                    resolved.await?;
                let credentials = Credentials { username, password, revision };
                let lifetime = Lifetime::new(valid_until, lease, asked_at);
                Ok(Fetched { credentials, one_time_code, lifetime, further })
            })
        });
        let found = found.await?;
        if found.source != Source::Live {
            trail.note(|subject| subject.component = None);
        }
        Ok(found)
    }
}
