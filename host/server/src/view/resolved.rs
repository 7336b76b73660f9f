//! What an entry resolved to.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64;
use jiff::Timestamp;
use keyway::entries::EntryLease;
use keyway::{Resolution, RotationId, Source};
use keyway_runtime::contract::{Field, FieldSpec, FieldValue};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::secret::{exposed, shown};
use super::view;

/// The values and their sources. A value that the item lacks, or that was not requested, is `null`.
#[derive(Serialize, ToSchema)]
#[schema(as = Resolved)]
pub(crate) struct Values {
    pub(crate) username: Option<ResolvedValue>,
    pub(crate) password: Option<ResolvedValue>,
    pub(crate) one_time_code: Option<Code>,
    /// The revision of user name and password; send it as `rejected` when the site refuses the
    /// password.
    pub(crate) revision: String,
    /// Whether it is the revision that the request rejected.
    pub(crate) rejected_is_current: bool,
    /// The rotation that this new password is from. The site has the password; the item, whose
    /// revision is given, does not have it yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub(crate) rotation: Option<RotationId>,
    /// Why there is no one-time code, when one was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) no_code: Option<NoCode>,
    /// Why there is nothing at all, when user name or password were requested: a message for
    /// people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) no_values: Option<&'static str>,
    /// When user name and password stop being valid, where the provider knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) valid_until: Option<Timestamp>,
    /// The lease of user name and password, where the secret manager creates new ones for each
    /// call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lease: Option<LeaseView>,
    /// The requested further fields that the item has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) further: Vec<Further>,
}

/// A further field of an item.
#[derive(Serialize, ToSchema)]
#[schema(as = FurtherField)]
pub(crate) struct Further {
    pub(crate) name: String,
    /// `text`, `secret`, `url`, `one-time-password`, `binary`, or another word of the provider.
    pub(crate) kind: String,
    /// Base64 for the kind `binary`; the current code for the kind `one-time-password`. `null` when
    /// there is no code, or when the value is hidden.
    #[serde(serialize_with = "shown")]
    #[schema(value_type = Option<String>, required)]
    pub(crate) value: Option<SecretString>,
    /// How long the code stays current.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds_left: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) period_seconds: Option<u32>,
    /// Why there is no code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) no_code: Option<NoCode>,
}

impl Further {
    /// `reveal` shows what is no code.
    fn new(field: Field, reveal: bool, now: u64) -> Self {
        let (name, kind) = (field.name, field.kind.name().to_owned());
        let mut further = Self { name, kind, value: None, seconds_left: None, period_seconds: None, no_code: None };
        match field.value {
            FieldValue::Text(text) if reveal => further.value = Some(text),
            FieldValue::Binary(bytes) if reveal => further.value = Some(BASE64.encode(bytes.expose_secret()).into()),
            FieldValue::OneTimeCode(Ok(code)) => {
                further.value = Some(code.code);
                further.seconds_left = Some(code.expires_at.saturating_sub(now));
                further.period_seconds = Some(code.period_seconds);
            }
            FieldValue::OneTimeCode(Err(none)) => further.no_code = Some(none.into()),
            _ => {}
        }
        further
    }
}

view! {
    /// A further field of an item, without its value.
    #[derive(ToSchema)]
    #[schema(as = FieldDescription)]
    pub(crate) struct FieldView of field: FieldSpec {
        /// The name to request it by.
        name: String = field.name,
        /// Its human-readable label.
        label: String = field.label,
        /// `text`, `secret`, `url`, `one-time-password`, `binary`, or another word of the provider.
        kind: String = field.kind.name().to_owned(),
    }
}

view! {
    /// Why there is no one-time code.
    #[derive(ToSchema)]
    pub(crate) struct NoCode of none: keyway_runtime::contract::NoCode {
        /// `absent`, `counter-based`, `malformed`, `unsupported`, or another word of the provider.
        reason: String = none.reason.name().to_owned(),
        /// An explanation for people.
        message: String = none.message,
    }
}

view! {
    /// A secret manager's promise to accept values until it ends.
    #[derive(ToSchema)]
    #[schema(as = Lease)]
    pub(crate) struct LeaseView of lease: EntryLease {
        /// The secret manager's name for it.
        id: String = lease.id,
        /// When it ends unless it is renewed.
        expires_at: Timestamp = lease.expires_at,
        /// Whether it can be renewed.
        renewable: bool = lease.renewable,
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ResolvedValue {
    /// `null` when it is hidden.
    #[serde(serialize_with = "shown")]
    #[schema(value_type = Option<String>, required)]
    pub(crate) value: Option<SecretString>,
    /// `live` or `cached`.
    pub(crate) source: &'static str,
    /// How long ago it was fetched.
    #[serde(serialize_with = "seconds")]
    #[schema(value_type = f64, minimum = 0)]
    pub(crate) age_seconds: Duration,
    pub(crate) revision: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ResolvedCode)]
pub(crate) struct Code {
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String)]
    pub(crate) code: SecretString,
    pub(crate) seconds_left: u64,
    pub(crate) period_seconds: u32,
    /// How often this server handed out this code, this time included. Most sites accept a code
    /// once.
    pub(crate) times_handed_out: u32,
    pub(crate) source: &'static str,
    pub(crate) age_seconds: u32,
    pub(crate) revision: String,
}

impl Values {
    /// `reveal` shows the password.
    pub(crate) fn new(resolution: Resolution, reveal: bool) -> Self {
        let (source, age_seconds) = match resolution.source {
            Source::Cached { age } => ("cached", age),
            _ => ("live", Duration::ZERO),
        };
        let revision = resolution.revision;
        let value = |value: Option<SecretString>, shown: bool| {
            value.map(|value| ResolvedValue {
                value: shown.then_some(value),
                source,
                age_seconds,
                revision: revision.clone(),
            })
        };
        let password = value(resolution.password, reveal).map(|password| match resolution.rotation {
            // It comes from the rotation and not from the item's cached values.
            Some(_) => ResolvedValue { source: "live", age_seconds: Duration::ZERO, ..password },
            None => password,
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self {
            username: value(resolution.username, true),
            password,
            one_time_code: resolution.one_time_code.map(|code| Code {
                seconds_left: code.expires_at.saturating_sub(now),
                period_seconds: code.period_seconds,
                times_handed_out: resolution.times_handed_out.unwrap_or(1),
                code: code.code,
                source: "live",
                age_seconds: 0,
                revision: resolution.code_revision.unwrap_or_default(),
            }),
            revision,
            rejected_is_current: resolution.rejected_is_current,
            rotation: resolution.rotation,
            no_code: resolution.no_code.map(Into::into),
            no_values: resolution.no_values,
            valid_until: resolution.valid_until,
            lease: resolution.lease.map(Into::into),
            further: resolution.further.into_iter().map(|field| Further::new(field, reveal, now)).collect(),
        }
    }
}

/// A duration as a number of seconds, to the millisecond.
fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((time.as_secs_f64() * 1_000.0).round() / 1_000.0)
}
