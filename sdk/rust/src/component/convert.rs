//! Between the SDK's types and those of the generated bindings.
//!
//! On the way in, secrets are moved, not copied, into storage that is wiped. On the way out, the generated code needs
//! plain strings, which it frees without wiping; the host throws the whole memory away after the call.

use secrecy::{ExposeSecret, SecretString};

use super::bindings::exports::keyway::provider::secret_provider as wit;
use super::bindings::keyway::provider::types;
use crate::{
    Attribute, Capabilities, Changes, Description, Destination, Error, Fields, Item, ItemPage, OneTimeCode, Resolved,
    SettingSpec, Settings, Verified, WriteAccess,
};

fn plain(secret: &SecretString) -> String {
    secret.expose_secret().to_owned()
}

fn list<T, U: From<T>>(values: Vec<T>) -> Vec<U> {
    values.into_iter().map(Into::into).collect()
}

// ---- in --------------------------------------------------------------------------------------------------------------

impl From<Vec<types::Setting>> for Settings {
    fn from(settings: Vec<types::Setting>) -> Self {
        settings.into_iter().map(|setting| (setting.name, SecretString::from(setting.value))).collect()
    }
}

impl From<wit::Fields> for Fields {
    fn from(fields: wit::Fields) -> Self {
        Self {
            username: fields.contains(wit::Fields::USERNAME),
            password: fields.contains(wit::Fields::PASSWORD),
            one_time_code: fields.contains(wit::Fields::ONE_TIME_CODE),
        }
    }
}

impl From<wit::Changes> for Changes {
    fn from(changes: wit::Changes) -> Self {
        Self { username: changes.username.map(Into::into), password: changes.password.map(Into::into) }
    }
}

// ---- out -------------------------------------------------------------------------------------------------------------

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
            reference_scheme: description.reference_scheme,
            reference_format: description.reference_format,
            settings: list(description.settings),
            destinations: list(description.destinations),
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
            secret: spec.secret,
            required: spec.required,
            pattern: spec.pattern,
            default: spec.default,
        }
    }
}

impl From<Destination> for wit::Destination {
    fn from(destination: Destination) -> Self {
        match destination {
            Destination::Fixed(pattern) => Self::Fixed(pattern),
            Destination::FromSetting(setting) => Self::FromSetting(setting),
        }
    }
}

impl From<Capabilities> for wit::Capabilities {
    fn from(capabilities: Capabilities) -> Self {
        let mut flags = Self::empty();
        flags.set(Self::LIST_ITEMS, capabilities.list_items);
        flags.set(Self::WRITE, capabilities.write);
        flags.set(Self::ONE_TIME_CODES, capabilities.one_time_codes);
        flags
    }
}

impl From<Verified> for wit::Verified {
    fn from(verified: Verified) -> Self {
        Self {
            account: verified.account,
            vault_count: verified.vault_count,
            writable_vault_count: verified.writable_vault_count,
            attributes: list(verified.attributes),
        }
    }
}

impl From<ItemPage> for wit::ItemPage {
    fn from(page: ItemPage) -> Self {
        Self { items: list(page.items), next: page.next }
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
            attributes: list(item.attributes),
        }
    }
}

impl From<Resolved> for wit::Resolved {
    fn from(resolved: Resolved) -> Self {
        Self {
            username: resolved.username.as_ref().map(plain),
            password: resolved.password.as_ref().map(plain),
            one_time_code: resolved.one_time_code.map(Into::into),
            revision: resolved.revision,
        }
    }
}

impl From<OneTimeCode> for wit::OneTimeCode {
    fn from(code: OneTimeCode) -> Self {
        Self { code: plain(&code.code), expires_at: code.expires_at, period_seconds: code.period_seconds }
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

// ---- errors, both ways: the session interface returns them, too -------------------------------------------------------

impl From<Error> for types::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidSettings { setting, message } => {
                Self::InvalidSettings(types::InvalidSetting { setting, message })
            }
            Error::Unauthenticated(message) => Self::Unauthenticated(message),
            Error::PermissionDenied(message) => Self::PermissionDenied(message),
            Error::InvalidReference(message) => Self::InvalidReference(message),
            Error::NotFound(message) => Self::NotFound(message),
            Error::Conflict(message) => Self::Conflict(message),
            Error::RateLimited { retry_after_seconds, message } => {
                Self::RateLimited(types::RateLimit { retry_after_seconds, message })
            }
            Error::Unavailable(message) => Self::Unavailable(message),
            Error::Unsupported(message) => Self::Unsupported(message),
            Error::UnexpectedAnswer(message) => Self::UnexpectedAnswer(message),
            Error::Other { code, message } => Self::Other(types::OtherError { code, message }),
        }
    }
}

impl From<types::Error> for Error {
    fn from(error: types::Error) -> Self {
        match error {
            types::Error::InvalidSettings(types::InvalidSetting { setting, message }) => {
                Self::InvalidSettings { setting, message }
            }
            types::Error::Unauthenticated(message) => Self::Unauthenticated(message),
            types::Error::PermissionDenied(message) => Self::PermissionDenied(message),
            types::Error::InvalidReference(message) => Self::InvalidReference(message),
            types::Error::NotFound(message) => Self::NotFound(message),
            types::Error::Conflict(message) => Self::Conflict(message),
            types::Error::RateLimited(types::RateLimit { retry_after_seconds, message }) => {
                Self::RateLimited { retry_after_seconds, message }
            }
            types::Error::Unavailable(message) => Self::Unavailable(message),
            types::Error::Unsupported(message) => Self::Unsupported(message),
            types::Error::UnexpectedAnswer(message) => Self::UnexpectedAnswer(message),
            types::Error::Other(types::OtherError { code, message }) => Self::Other { code, message },
        }
    }
}
