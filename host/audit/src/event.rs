//! The content of a record: who did what to what, when, and how it ended. Never a value.
//!
//! **Invariant:** a record holds neither secrets nor text that a client chooses freely. It holds
//! identifiers, the names that administrators gave to API keys, and the operator's name. It holds
//! item references, names of fields and leases, codes, names of files in the provider folder, and a
//! request id, which the server accepts only when it is short and plain. A vault entry's user and
//! domain are left out, because the user can be the secret user name itself.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use keyway_storage::{ApiKeyId, ConnectionId, EntryId, RotationId, Scope, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::error::AuditError;
use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::segment::LINE_LIMIT;

/// The actor, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
#[non_exhaustive]
pub enum AuditActor {
    /// The holder of an API key.
    ApiKey {
        /// The key's id.
        id: ApiKeyId,
        /// The key's name.
        name: Cow<'static, str>,
    },
    /// The platform that embeds the broker, or an operator at its command line.
    Operator {
        /// The name that they chose.
        name: Cow<'static, str>,
    },
    /// A caller without a valid API key.
    Unknown,
    /// The broker itself.
    System,
}

impl AuditActor {
    /// The name of the key or operator.
    pub fn name(&self) -> &str {
        match self {
            Self::ApiKey { name, .. } | Self::Operator { name } => name,
            Self::Unknown => "unknown",
            Self::System => "system",
        }
    }

    /// Whether `text` is the id or the name of this actor.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.name() == text || matches!(self, Self::ApiKey { id, .. } if id.to_string() == text)
    }
}

impl fmt::Display for AuditActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where released values came from, as it is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditSource {
    /// From the provider, now.
    Live,
    /// From the cache.
    Cached,
    /// From the vault entry itself.
    Entry,
    /// The new password of a password rotation.
    Rotation,
}

impl fmt::Display for AuditSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In its recorded form.
        self.serialize(f)
    }
}

/// What an operation is about. Filled in as it becomes known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Subject {
    /// The vault entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<EntryId>,
    /// The connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionId>,
    /// The password rotation. For a resolve, the one whose new password was released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationId>,
    /// The API key that was created or revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyId>,
    /// The item, as the provider refers to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The secret manager's name for the lease that was renewed or revoked, or under which values
    /// were released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// The scope that a refused API key lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Cow<'static, str>>,
    /// The names of the values that were released or written: `username`, `password`,
    /// `one_time_code`, the names of an entry's secret attributes (for example `cookies`), and
    /// those of an item's further fields (for example `field:api-key`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Cow<'static, str>>,
    /// Where the released values came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<AuditSource>,
    /// The component that the provider's calls were made with, by the first digits of its SHA-256.
    /// For a change of the component: the whole SHA-256 of the new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// For a change of the component: the SHA-256 of the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former_component: Option<String>,
    /// For a change of the component: the provider type that it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_type: Option<String>,
    /// For a change of the component: its file in the provider folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How many things were listed (entries: only those whose values were released), how many
    /// values or keys were encrypted again, or how many bytes were cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

impl Subject {
    /// An entry with this binding.
    pub fn bound_to(&mut self, connection: ConnectionId, reference: &str) {
        self.connection = Some(connection);
        self.reference = Some(reference.to_owned());
    }

    /// The component with this digest serves the provider's calls.
    pub fn served_by(&mut self, digest: &str) {
        self.component = Some(digest.get(..SHOWN_DIGITS).unwrap_or(digest).to_owned());
    }

    /// Refused because this scope is missing.
    pub fn lacks(&mut self, scope: Scope) {
        self.scope.get_or_insert(scope.name().into());
    }

    /// The values of these names are about to be given out.
    pub fn released(&mut self, names: impl IntoIterator<Item = impl Into<Cow<'static, str>>>, source: AuditSource) {
        self.fields = names.into_iter().map(Into::into).collect();
        self.source = Some(source);
    }

    /// The new password of a rotation is about to be given out.
    pub fn released_new_password(&mut self) {
        self.released([PASSWORD], AuditSource::Rotation);
    }

    /// The secret attributes of these names are about to be given out.
    pub fn released_attributes<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        self.released(names.into_iter().map(str::to_owned), AuditSource::Entry);
        self.source = self.source.filter(|_| !self.fields.is_empty());
    }

    /// A password was written to the item, or to the entry itself.
    pub fn wrote_password(&mut self) {
        self.fields = vec![Cow::Borrowed(PASSWORD)];
    }
}

const PASSWORD: &str = "password";

/// As many digits as `keyway provider list` shows.
const SHOWN_DIGITS: usize = 12;

/// One event, before it has a place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditEvent {
    /// When it happened.
    pub at: Timestamp,
    /// In which workspace; `None` when it belongs to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceId>,
    /// Who did it.
    pub actor: AuditActor,
    /// What was done.
    pub operation: Operation,
    /// How it ended.
    pub outcome: Outcome,
    /// For the outcome of a change: the number of the record of its beginning, in the same series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begun: Option<u64>,
    /// What it was done to.
    #[serde(flatten)]
    pub subject: Subject,
    /// For a refusal: it stands for this many that were counted and not recorded one by one,
    /// because of their rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unrecorded: Option<u64>,
    /// The id of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl AuditEvent {
    /// An event whose subject is not known yet.
    pub fn new(at: Timestamp, actor: AuditActor, operation: Operation, outcome: Outcome) -> Self {
        Self {
            at,
            workspace: None,
            actor,
            operation,
            outcome,
            begun: None,
            subject: Subject::default(),
            unrecorded: None,
            request_id: None,
        }
    }

    /// The event as a JSON object on one line.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, AuditError> {
        let mut line = Vec::with_capacity(512);
        serde_json::to_writer(&mut line, self).map_err(AuditError::failed)?;
        // A longer line could not be read back, and the whole log would not verify.
        if line.len() > EVENT_LIMIT {
            return Err(AuditError::failed("an event is too long for a line of the log"));
        }
        Ok(line)
    }
}

/// The size of an event in bytes: a line less its number, the number of its root, and its MAC.
const EVENT_LIMIT: usize = LINE_LIMIT - (1 << 10);

/// An event at its place in the log, as read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditRecord {
    /// The series it is in. Each writing process has its own.
    #[serde(default)]
    pub series: u32,
    /// Its number in the series, from 1.
    pub number: u64,
    /// When it happened.
    pub at: Timestamp,
    /// In which workspace.
    pub workspace: Option<WorkspaceId>,
    /// Who did it.
    pub actor: AuditActor,
    /// What was done. A name that this version does not know comes from a newer version.
    pub operation: String,
    /// How it ended.
    pub outcome: Outcome,
    /// For the outcome of a change: the number of the record of its beginning, in the same series.
    pub begun: Option<u64>,
    /// What it was done to.
    #[serde(flatten)]
    pub subject: Subject,
    /// For a refusal: it stands for this many that were not recorded one by one.
    pub unrecorded: Option<u64>,
    /// The id of the request.
    pub request_id: Option<String>,
}
