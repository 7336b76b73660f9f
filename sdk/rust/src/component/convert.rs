//! Conversions between the SDK's types and those of the generated bindings.
//!
//! Incoming secrets are moved, not copied, into storage that is wiped. Outgoing ones must be plain
//! strings, which the generated code frees without wiping; the host discards the whole memory after
//! the call.

use secrecy::{ExposeSecret, SecretString};

use super::bindings::exports::keyway::provider::secret_provider as wit;
use super::bindings::keyway::provider::provider_types as types;
use super::item_fields::exports::keyway::provider::item_fields as fields_wit;
use crate::{
    Alternative, Attribute, Capabilities, Changes, ChoiceOption, Description, Error, ErrorCode, Field, FieldKind,
    FieldSpec, FieldValue, Item, ItemPage, Lease, LimitScope, NoCode, NoCodeReason, OneTimeCode, RateLimit,
    RateLimitTier, RequestKind, Resolved, Selection, SettingGroup, SettingKind, SettingSpec, Settings, Verified,
    WriteAccess,
};

fn plain(secret: &SecretString) -> String {
    secret.expose_secret().to_owned()
}

fn list<T, U: From<T>>(values: Vec<T>) -> Vec<U> {
    values.into_iter().map(Into::into).collect()
}

// ---- in -----------------------------------------------------------------------------------------

impl From<Vec<types::Setting>> for Settings {
    fn from(settings: Vec<types::Setting>) -> Self {
        settings.into_iter().map(|setting| (setting.name, SecretString::from(setting.value))).collect()
    }
}

impl From<wit::Selection> for Selection {
    fn from(selection: wit::Selection) -> Self {
        let has = |field| selection.standard.contains(field);
        Self {
            username: has(wit::StandardFields::USERNAME),
            password: has(wit::StandardFields::PASSWORD),
            one_time_code: has(wit::StandardFields::ONE_TIME_CODE),
            further: selection.further,
        }
    }
}

impl From<wit::Changes> for Changes {
    fn from(changes: wit::Changes) -> Self {
        Self { username: changes.username.map(Into::into), password: changes.password.map(Into::into) }
    }
}

// ---- out ----------------------------------------------------------------------------------------

impl From<Attribute> for types::Attribute {
    fn from(attribute: Attribute) -> Self {
        Self { name: attribute.name, value: attribute.value }
    }
}

impl From<Description> for wit::Description {
    fn from(description: Description) -> Self {
        Self {
            provider_type: description.provider_type,
            display_name: description.display_name,
            version: description.version,
            documentation_url: description.documentation_url,
            reference_scheme: description.reference_scheme,
            reference_format: description.reference_format,
            settings: list(description.settings),
            setting_groups: list(description.setting_groups),
            destinations: description.destinations,
            rate_limits: list(description.rate_limits),
            capabilities: description.capabilities.into(),
            attributes: list(description.attributes),
        }
    }
}

impl From<SettingSpec> for wit::SettingSpec {
    fn from(spec: SettingSpec) -> Self {
        Self {
            name: spec.name,
            label: spec.label,
            help: spec.help,
            kind: match spec.kind {
                SettingKind::Text => wit::SettingKind::Text,
                SettingKind::MultiLineText => wit::SettingKind::MultiLineText,
                SettingKind::Url => wit::SettingKind::Url,
                SettingKind::Choice(options) => wit::SettingKind::Choice(list(options)),
                SettingKind::Boolean => wit::SettingKind::Boolean,
                SettingKind::Json => wit::SettingKind::Json,
            },
            secret: spec.secret,
            required: spec.required,
            pattern: spec.pattern,
            default: spec.default,
            attributes: list(spec.attributes),
        }
    }
}

impl From<ChoiceOption> for wit::ChoiceOption {
    fn from(option: ChoiceOption) -> Self {
        Self { value: option.value, label: option.label, attributes: list(option.attributes) }
    }
}

impl From<SettingGroup> for wit::SettingGroup {
    fn from(group: SettingGroup) -> Self {
        Self { label: group.label, alternatives: list(group.alternatives), attributes: list(group.attributes) }
    }
}

impl From<Alternative> for wit::Alternative {
    fn from(set: Alternative) -> Self {
        Self { label: set.label, required: set.required, optional: set.optional, attributes: list(set.attributes) }
    }
}

impl From<RateLimitTier> for wit::RateLimitTier {
    fn from(tier: RateLimitTier) -> Self {
        Self { name: tier.name, label: tier.label, limits: list(tier.limits), attributes: list(tier.attributes) }
    }
}

impl From<RateLimit> for wit::RateLimit {
    fn from(limit: RateLimit) -> Self {
        Self {
            max_requests: limit.max_requests,
            window_seconds: limit.window_seconds,
            requests: match limit.requests {
                RequestKind::Reads => wit::RequestKind::Reads,
                RequestKind::Writes => wit::RequestKind::Writes,
                RequestKind::All => wit::RequestKind::All,
            },
            scope: match limit.scope {
                LimitScope::Credential => wit::LimitScope::Credential,
                LimitScope::Account => wit::LimitScope::Account,
            },
            attributes: list(limit.attributes),
        }
    }
}

impl From<Capabilities> for wit::Capabilities {
    fn from(capabilities: Capabilities) -> Self {
        let mut flags = Self::empty();
        flags.set(Self::LIST_ITEMS, capabilities.list_items);
        flags.set(Self::WRITE, capabilities.write);
        flags.set(Self::ONE_TIME_CODES, capabilities.one_time_codes);
        flags.set(Self::CONDITIONAL_WRITES, capabilities.conditional_writes);
        flags
    }
}

impl From<Verified> for wit::Verified {
    fn from(verified: Verified) -> Self {
        Self {
            account: verified.account,
            account_key: verified.account_key,
            vault_count: verified.vault_count,
            writable_vault_count: verified.writable_vault_count,
            attributes: list(verified.attributes),
        }
    }
}

impl From<ItemPage> for wit::ItemPage {
    fn from(page: ItemPage) -> Self {
        Self { items: list(page.items), next: page.next, attributes: list(page.attributes) }
    }
}

impl From<Item> for wit::Item {
    fn from(item: Item) -> Self {
        Self {
            id: item.id,
            title: item.title,
            vault_id: item.vault_id,
            vault_name: item.vault_name,
            reference: item.reference,
            category: item.category,
            urls: item.urls,
            attributes: list(item.attributes),
        }
    }
}

impl From<Resolved> for wit::Resolved {
    fn from(resolved: Resolved) -> Self {
        Self {
            username: resolved.username.as_ref().map(plain),
            password: resolved.password.as_ref().map(plain),
            one_time_code: resolved.one_time_code.map(code),
            further: list(resolved.further),
            revision: resolved.revision,
            valid_until: resolved.valid_until,
            lease: resolved.lease.map(Into::into),
            attributes: list(resolved.attributes),
        }
    }
}

fn code(result: Result<OneTimeCode, NoCode>) -> Result<wit::OneTimeCode, wit::NoCode> {
    result
        .map(|code| wit::OneTimeCode {
            code: plain(&code.code),
            expires_at: code.expires_at,
            period_seconds: code.period_seconds,
            attributes: list(code.attributes),
        })
        .map_err(|none| wit::NoCode {
            reason: match none.reason {
                NoCodeReason::Absent => wit::NoCodeReason::Absent,
                NoCodeReason::CounterBased => wit::NoCodeReason::CounterBased,
                NoCodeReason::Malformed => wit::NoCodeReason::Malformed,
                NoCodeReason::Other(name) => wit::NoCodeReason::Other(name),
            },
            message: none.message,
            attributes: list(none.attributes),
        })
}

impl From<Field> for wit::Field {
    fn from(field: Field) -> Self {
        Self {
            name: field.name,
            kind: field.kind.into(),
            value: match field.value {
                FieldValue::Text(text) => wit::FieldValue::Text(plain(&text)),
                FieldValue::Binary(bytes) => wit::FieldValue::Binary(bytes.expose_secret().to_vec()),
                FieldValue::OneTimeCode(result) => wit::FieldValue::OneTimeCode(code(result)),
            },
            attributes: list(field.attributes),
        }
    }
}

impl From<WriteAccess> for wit::WriteAccess {
    fn from(access: WriteAccess) -> Self {
        match access {
            WriteAccess::Granted => Self::Granted,
            WriteAccess::Denied(reason) => Self::Denied(reason),
        }
    }
}

impl From<FieldSpec> for fields_wit::FieldSpec {
    fn from(field: FieldSpec) -> Self {
        Self { name: field.name, label: field.label, kind: field.kind.into(), attributes: list(field.attributes) }
    }
}

impl From<FieldKind> for types::FieldKind {
    fn from(kind: FieldKind) -> Self {
        match kind {
            FieldKind::Text => Self::Text,
            FieldKind::Secret => Self::Secret,
            FieldKind::Url => Self::Url,
            FieldKind::OneTimePassword => Self::OneTimePassword,
            FieldKind::Binary => Self::Binary,
            FieldKind::Other(name) => Self::Other(name),
        }
    }
}

impl From<Lease> for types::Lease {
    fn from(lease: Lease) -> Self {
        Self {
            id: lease.id,
            expires_at: lease.expires_at,
            renewable: lease.renewable,
            attributes: list(lease.attributes),
        }
    }
}

// ---- errors, both ways: the session interface returns them, too
// -------------------------------------------------------

/// Maps the contract's codes to the SDK's and back; each pair is listed once.
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

impl From<Error> for types::Error {
    fn from(error: Error) -> Self {
        Self {
            code: error.code.into(),
            message: error.message,
            setting: error.setting,
            retry_after_seconds: error.retry_after_seconds,
            attributes: list(error.attributes),
        }
    }
}

impl From<types::Error> for Error {
    fn from(error: types::Error) -> Self {
        let attribute = |attribute: types::Attribute| Attribute::new(attribute.name, attribute.value);
        Self {
            code: error.code.into(),
            message: error.message,
            setting: error.setting,
            retry_after_seconds: error.retry_after_seconds,
            attributes: error.attributes.into_iter().map(attribute).collect(),
        }
    }
}
