//! Conversions between the generated bindings' types and the host's own.

use std::time::Duration;

use secrecy::SecretString;

use super::bindings::exports::keyway::provider::{item_fields, secret_provider as wit};
use super::bindings::keyway::provider::provider_types as types;
use crate::contract::{self, Description, Fields, Interfaces, ItemPage, Resolved, Verified, WriteAccess};
use crate::error::{ErrorCode, ProviderError};

/// Maps the contract's codes to the host's and back; each pair is listed once.
macro_rules! codes {
    ($($name:ident),*) => {
        impl From<types::ErrorCode> for ErrorCode {
            fn from(code: types::ErrorCode) -> Self {
                match code {
                    $(types::ErrorCode::$name => Self::$name,)*
                    types::ErrorCode::Other(code) => Self::Other(code),
                }
            }
        }

        impl From<ErrorCode> for types::ErrorCode {
            fn from(code: ErrorCode) -> Self {
                match code {
                    $(ErrorCode::$name => Self::$name,)*
                    ErrorCode::Other(code) => Self::Other(code),
                }
            }
        }
    };
}

codes!(
    InvalidSettings,
    Unauthenticated,
    PermissionDenied,
    ActionRequired,
    InvalidReference,
    NotFound,
    Conflict,
    RateLimited,
    Unavailable,
    Unsupported,
    UnexpectedAnswer
);

impl From<types::Error> for ProviderError {
    fn from(error: types::Error) -> Self {
        Self {
            code: error.code.into(),
            message: error.message,
            setting: error.setting,
            retry_after: error.retry_after_seconds.map(|seconds| Duration::from_secs(seconds.into())),
            attributes: list(error.attributes),
        }
    }
}

impl From<ProviderError> for types::Error {
    fn from(error: ProviderError) -> Self {
        let attribute = |a: contract::Attribute| types::Attribute { name: a.name, value: a.value };
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        Self {
            code: error.code.into(),
            message: error.message,
            setting: error.setting,
            retry_after_seconds: error.retry_after.map(seconds),
            attributes: error.attributes.into_iter().map(attribute).collect(),
        }
    }
}

fn list<T, U: From<T>>(values: Vec<T>) -> Vec<U> {
    values.into_iter().map(Into::into).collect()
}

impl From<types::Attribute> for contract::Attribute {
    fn from(a: types::Attribute) -> Self {
        Self { name: a.name, value: a.value }
    }
}

impl From<wit::Description> for Description {
    fn from(d: wit::Description) -> Self {
        Self {
            provider_type: d.provider_type,
            display_name: d.display_name,
            version: d.version,
            documentation_url: d.documentation_url,
            reference_scheme: d.reference_scheme,
            reference_format: d.reference_format,
            settings: list(d.settings),
            setting_groups: list(d.setting_groups),
            destinations: d.destinations,
            rate_limits: list(d.rate_limits),
            capabilities: contract::Capabilities {
                list_items: d.capabilities.contains(wit::Capabilities::LIST_ITEMS),
                write: d.capabilities.contains(wit::Capabilities::WRITE),
                one_time_codes: d.capabilities.contains(wit::Capabilities::ONE_TIME_CODES),
                conditional_writes: d.capabilities.contains(wit::Capabilities::CONDITIONAL_WRITES),
            },
            interfaces: Interfaces::default(),
            attributes: list(d.attributes),
        }
    }
}

impl From<wit::SettingSpec> for contract::SettingSpec {
    fn from(s: wit::SettingSpec) -> Self {
        Self {
            name: s.name,
            label: s.label,
            help: s.help,
            kind: match s.kind {
                wit::SettingKind::Text => contract::SettingKind::Text,
                wit::SettingKind::MultiLineText => contract::SettingKind::MultiLineText,
                wit::SettingKind::Url => contract::SettingKind::Url,
                wit::SettingKind::Choice(options) => contract::SettingKind::Choice(list(options)),
                wit::SettingKind::Boolean => contract::SettingKind::Boolean,
                wit::SettingKind::Json => contract::SettingKind::Json,
                wit::SettingKind::Other(name) => contract::SettingKind::Other(name),
            },
            secret: s.secret,
            required: s.required,
            pattern: s.pattern,
            default: s.default,
            attributes: list(s.attributes),
        }
    }
}

impl From<wit::ChoiceOption> for contract::ChoiceOption {
    fn from(option: wit::ChoiceOption) -> Self {
        Self { value: option.value, label: option.label, attributes: list(option.attributes) }
    }
}

impl From<wit::SettingGroup> for contract::SettingGroup {
    fn from(group: wit::SettingGroup) -> Self {
        Self { label: group.label, alternatives: list(group.alternatives), attributes: list(group.attributes) }
    }
}

impl From<wit::Alternative> for contract::Alternative {
    fn from(a: wit::Alternative) -> Self {
        Self { label: a.label, required: a.required, optional: a.optional, attributes: list(a.attributes) }
    }
}

impl From<wit::RateLimitTier> for contract::RateLimitTier {
    fn from(tier: wit::RateLimitTier) -> Self {
        Self { name: tier.name, label: tier.label, limits: list(tier.limits), attributes: list(tier.attributes) }
    }
}

impl From<wit::RateLimit> for contract::RateLimit {
    fn from(limit: wit::RateLimit) -> Self {
        Self {
            max_requests: limit.max_requests,
            window_seconds: limit.window_seconds,
            requests: match limit.requests {
                wit::RequestKind::Reads => contract::CountedRequests::Reads,
                wit::RequestKind::Writes => contract::CountedRequests::Writes,
                wit::RequestKind::All => contract::CountedRequests::All,
                wit::RequestKind::Other(name) => contract::CountedRequests::Other(name),
            },
            scope: match limit.scope {
                wit::LimitScope::Credential => contract::LimitScope::Credential,
                wit::LimitScope::Account => contract::LimitScope::Account,
                wit::LimitScope::Other(name) => contract::LimitScope::Other(name),
            },
            attributes: list(limit.attributes),
        }
    }
}

impl From<wit::Verified> for Verified {
    fn from(v: wit::Verified) -> Self {
        Self {
            account: v.account,
            account_key: v.account_key,
            vault_count: v.vault_count,
            writable_vault_count: v.writable_vault_count,
            attributes: list(v.attributes),
        }
    }
}

impl From<wit::ItemPage> for ItemPage {
    fn from(page: wit::ItemPage) -> Self {
        Self { items: list(page.items), next: page.next, attributes: list(page.attributes) }
    }
}

impl From<wit::Item> for contract::Item {
    fn from(i: wit::Item) -> Self {
        Self {
            id: i.id,
            title: i.title,
            vault_id: i.vault_id,
            vault_name: i.vault_name,
            reference: i.reference,
            category: i.category,
            urls: i.urls,
            attributes: list(i.attributes),
        }
    }
}

impl From<Fields> for wit::StandardFields {
    fn from(fields: Fields) -> Self {
        let mut flags = Self::empty();
        for (asked, flag) in [
            (fields.username, Self::USERNAME),
            (fields.password, Self::PASSWORD),
            (fields.one_time_code, Self::ONE_TIME_CODE),
        ] {
            if asked {
                flags |= flag;
            }
        }
        flags
    }
}

impl From<wit::Resolved> for Resolved {
    fn from(r: wit::Resolved) -> Self {
        Self {
            username: r.username.map(SecretString::from),
            password: r.password.map(SecretString::from),
            one_time_code: r.one_time_code.map(code),
            further: list(r.further),
            revision: r.revision,
            valid_until: r.valid_until,
            lease: r.lease.map(Into::into),
            attributes: list(r.attributes),
        }
    }
}

fn code(result: Result<wit::OneTimeCode, wit::NoCode>) -> Result<contract::OneTimeCode, contract::NoCode> {
    result
        .map(|code| contract::OneTimeCode {
            code: code.code.into(),
            expires_at: code.expires_at,
            period_seconds: code.period_seconds,
            attributes: list(code.attributes),
        })
        .map_err(|none| contract::NoCode {
            reason: match none.reason {
                wit::NoCodeReason::Absent => contract::NoCodeReason::Absent,
                wit::NoCodeReason::CounterBased => contract::NoCodeReason::CounterBased,
                wit::NoCodeReason::Malformed => contract::NoCodeReason::Malformed,
                wit::NoCodeReason::Other(name) => contract::NoCodeReason::Other(name),
            },
            message: none.message,
            attributes: list(none.attributes),
        })
}

impl From<wit::Field> for contract::Field {
    fn from(field: wit::Field) -> Self {
        Self {
            name: field.name,
            kind: field.kind.into(),
            value: match field.value {
                wit::FieldValue::Text(text) => contract::FieldValue::Text(text.into()),
                wit::FieldValue::Binary(bytes) => contract::FieldValue::Binary(bytes.into()),
                wit::FieldValue::OneTimeCode(result) => contract::FieldValue::OneTimeCode(code(result)),
                // The contract prescribes this for a value that the host does not know.
                wit::FieldValue::Other(text) => contract::FieldValue::Text(text.into()),
            },
            attributes: list(field.attributes),
        }
    }
}

impl From<types::FieldKind> for contract::FieldKind {
    fn from(kind: types::FieldKind) -> Self {
        match kind {
            types::FieldKind::Text => Self::Text,
            types::FieldKind::Secret => Self::Secret,
            types::FieldKind::Url => Self::Url,
            types::FieldKind::OneTimePassword => Self::OneTimePassword,
            types::FieldKind::Binary => Self::Binary,
            types::FieldKind::Other(name) => Self::Other(name),
        }
    }
}

impl From<item_fields::FieldSpec> for contract::FieldSpec {
    fn from(field: item_fields::FieldSpec) -> Self {
        Self { name: field.name, label: field.label, kind: field.kind.into(), attributes: list(field.attributes) }
    }
}

impl From<types::Lease> for contract::Lease {
    fn from(lease: types::Lease) -> Self {
        Self {
            id: lease.id,
            expires_at: lease.expires_at,
            renewable: lease.renewable,
            attributes: list(lease.attributes),
        }
    }
}

impl From<wit::WriteAccess> for WriteAccess {
    fn from(access: wit::WriteAccess) -> Self {
        match access {
            wit::WriteAccess::Granted => Self::Granted,
            // The contract says that an answer unknown to the host counts as denied.
            wit::WriteAccess::Denied(reason) | wit::WriteAccess::Other(reason) => Self::Denied(reason),
        }
    }
}
