//! `keyway:provider@0.1`, the first draft. Where it lacks a feature, the host assumes the draft's
//! meaning: references are their own normal form, and there are no optional interfaces.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use wasmtime::Store;
use wasmtime::component::{InstancePre, Linker};

use self::bindings::exports::keyway::provider::secret_provider as wit;
use self::bindings::keyway::provider::types;
use super::{Adapter, CallResult, Instance, OtherShape, Version, session};
use crate::contract::{
    self, Changes, Description, FieldSpec, Fields, Interfaces, ItemPage, Lease, NoCode, NoCodeReason, Resolved,
    Selection, Settings, Verified, WriteAccess,
};
use crate::error::{ErrorCode, ProviderError};
use crate::state::CallState;

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/0.1.0",
        inline: "
            package keyway:host;
            world host {
                export keyway:provider/secret-provider@0.1.0;
            }
        ",
        world: "keyway:host/host",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub(super) const VERSION: Version = Version {
    export: "keyway:provider/secret-provider@0.1.0",
    link: |linker: &mut Linker<CallState>| session::link::<types::Error>(linker, "keyway:provider/session@0.1.0"),
    adapt: |pre: InstancePre<CallState>| Ok(Box::new(Linked { provider: wit::GuestIndices::new(&pre)?, pre })),
};

struct Linked {
    pre: InstancePre<CallState>,
    provider: wit::GuestIndices,
}

#[async_trait::async_trait]
impl Adapter for Linked {
    fn interfaces(&self) -> Interfaces {
        Interfaces::default()
    }

    async fn instantiate(&self, store: &mut Store<CallState>) -> wasmtime::Result<Box<dyn Instance>> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        Ok(Box::new(self.provider.load(store, &instance).map_err(|error| OtherShape::of(&error))?))
    }
}

#[async_trait::async_trait]
impl Instance for wit::Guest {
    async fn describe(&self, store: &mut Store<CallState>) -> wasmtime::Result<Description> {
        Ok(self.call_describe(store).await?.into())
    }

    async fn normalize_reference(&self, _: &mut Store<CallState>, reference: &str) -> CallResult<String> {
        Ok(Ok(match reference.split_once("://") {
            Some((scheme, rest)) => format!("{}://{rest}", scheme.to_ascii_lowercase()),
            None => reference.to_owned(),
        }))
    }

    async fn verify(&self, store: &mut Store<CallState>, settings: &Settings) -> CallResult<Verified> {
        let answer = self.call_verify(store, &lower(settings)).await?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }

    async fn list_items(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        page: Option<&str>,
    ) -> CallResult<ItemPage> {
        let answer = self.call_list_items(store, &lower(settings), page).await?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }

    async fn resolve(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
        selection: &Selection,
    ) -> CallResult<Resolved> {
        let fields = selection.standard;
        let answer = self.call_resolve(store, &lower(settings), reference, fields.into()).await?;
        Ok(answer.map(|resolved| answered(resolved, fields)).map_err(Into::into))
    }

    async fn write(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
        changes: &Changes,
        expected_revision: Option<&str>,
    ) -> CallResult<String> {
        let changes = wit::Changes {
            username: changes.username.as_ref().map(|value| value.expose_secret()),
            password: changes.password.as_ref().map(|value| value.expose_secret()),
        };
        let answer = self.call_write(store, &lower(settings), reference, changes, expected_revision).await?;
        Ok(answer.map_err(Into::into))
    }

    async fn check_write_access(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
    ) -> CallResult<WriteAccess> {
        let answer = self.call_check_write_access(store, &lower(settings), reference).await?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }

    async fn list_fields(&self, _: &mut Store<CallState>, _: &Settings, _: &str) -> CallResult<Vec<FieldSpec>> {
        super::unsupported("item-fields")
    }

    async fn renew_lease(&self, _: &mut Store<CallState>, _: &Settings, _: &str, _: Option<u32>) -> CallResult<Lease> {
        super::unsupported("leases")
    }

    async fn revoke_lease(&self, _: &mut Store<CallState>, _: &Settings, _: &str) -> CallResult<()> {
        super::unsupported("leases")
    }

    async fn refresh(&self, _: &mut Store<CallState>, _: &Settings) -> CallResult<()> {
        super::unsupported("refresh")
    }
}

fn lower(settings: &Settings) -> Vec<types::Setting<'_>> {
    settings.iter().map(|(name, value)| types::Setting { name, value: value.expose_secret() }).collect()
}

// ---- errors -------------------------------------------------------------------------------------

impl From<types::Error> for ProviderError {
    fn from(error: types::Error) -> Self {
        match error {
            types::Error::InvalidSettings(e) => {
                Self { setting: e.setting, ..Self::new(ErrorCode::InvalidSettings, e.message) }
            }
            types::Error::Unauthenticated(message) => Self::new(ErrorCode::Unauthenticated, message),
            types::Error::PermissionDenied(message) => Self::new(ErrorCode::PermissionDenied, message),
            types::Error::InvalidReference(message) => Self::new(ErrorCode::InvalidReference, message),
            types::Error::NotFound(message) => Self::new(ErrorCode::NotFound, message),
            types::Error::Conflict(message) => Self::new(ErrorCode::Conflict, message),
            types::Error::RateLimited(e) => Self::new(ErrorCode::RateLimited, e.message)
                .retry_after(e.retry_after_seconds.map(|seconds| Duration::from_secs(seconds.into()))),
            types::Error::Unavailable(message) => Self::new(ErrorCode::Unavailable, message),
            types::Error::Unsupported(message) => Self::new(ErrorCode::Unsupported, message),
            types::Error::UnexpectedAnswer(message) => Self::new(ErrorCode::UnexpectedAnswer, message),
            types::Error::Other(e) => Self::new(ErrorCode::Other(e.code), e.message),
        }
    }
}

impl From<ProviderError> for types::Error {
    fn from(error: ProviderError) -> Self {
        let ProviderError { code, message, setting, retry_after, .. } = error;
        match code {
            ErrorCode::InvalidSettings => Self::InvalidSettings(types::InvalidSetting { setting, message }),
            ErrorCode::Unauthenticated => Self::Unauthenticated(message),
            ErrorCode::PermissionDenied => Self::PermissionDenied(message),
            ErrorCode::InvalidReference => Self::InvalidReference(message),
            ErrorCode::NotFound => Self::NotFound(message),
            ErrorCode::Conflict => Self::Conflict(message),
            ErrorCode::RateLimited => Self::RateLimited(types::RateLimit {
                retry_after_seconds: retry_after.map(|time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX)),
                message,
            }),
            ErrorCode::Unavailable => Self::Unavailable(message),
            ErrorCode::Unsupported => Self::Unsupported(message),
            ErrorCode::UnexpectedAnswer => Self::UnexpectedAnswer(message),
            code @ (ErrorCode::ActionRequired | ErrorCode::Other(_)) => {
                Self::Other(types::OtherError { code: code.as_str().to_owned(), message })
            }
        }
    }
}

// ---- answers ------------------------------------------------------------------------------------

fn attributes(attributes: Vec<wit::Attribute>) -> Vec<contract::Attribute> {
    attributes.into_iter().map(|a| contract::Attribute { name: a.name, value: a.value }).collect()
}

impl From<wit::Description> for Description {
    fn from(d: wit::Description) -> Self {
        let setting = |s: wit::SettingSpec| contract::SettingSpec {
            name: s.name,
            label: s.label,
            help: s.help,
            // The draft had one kind, which allows line breaks.
            kind: contract::SettingKind::MultiLineText,
            secret: s.secret,
            required: s.required,
            // The draft left the check to hosts, so no component relies on it.
            pattern: None,
            default: s.default,
            attributes: Vec::new(),
        };
        let destination = |d| match d {
            wit::Destination::Fixed(text) => text,
            wit::Destination::FromSetting(name) => format!("{{{name}}}"),
        };
        Self {
            provider_type: d.provider_type,
            display_name: d.display_name,
            version: d.version,
            reference_scheme: d.reference_scheme,
            reference_format: d.reference_format,
            settings: d.settings.into_iter().map(setting).collect(),
            destinations: d.destinations.into_iter().map(destination).collect(),
            capabilities: contract::Capabilities {
                list_items: d.capabilities.contains(wit::Capabilities::LIST_ITEMS),
                write: d.capabilities.contains(wit::Capabilities::WRITE),
                one_time_codes: d.capabilities.contains(wit::Capabilities::ONE_TIME_CODES),
                // The draft required it of every provider.
                conditional_writes: d.capabilities.contains(wit::Capabilities::WRITE),
            },
            attributes: attributes(d.attributes),
            ..Self::default()
        }
    }
}

impl From<wit::Verified> for Verified {
    fn from(v: wit::Verified) -> Self {
        Self {
            account: v.account,
            account_key: None,
            vault_count: Some(v.vault_count),
            writable_vault_count: v.writable_vault_count,
            attributes: attributes(v.attributes),
        }
    }
}

impl From<wit::ItemPage> for ItemPage {
    fn from(page: wit::ItemPage) -> Self {
        let item = |i: wit::Item| contract::Item {
            id: i.id,
            title: i.title,
            vault_id: Some(i.vault_id),
            vault_name: Some(i.vault_name),
            reference: i.reference,
            category: i.category,
            urls: Vec::new(),
            attributes: attributes(i.attributes),
        };
        Self { items: page.items.into_iter().map(item).collect(), next: page.next, attributes: Vec::new() }
    }
}

impl From<Fields> for wit::Fields {
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

/// The draft gave no reason for a missing code.
fn answered(r: wit::Resolved, asked: Fields) -> Resolved {
    let no_code = || NoCode {
        reason: NoCodeReason::Absent,
        message: "The item has no one-time password that changes with time.".into(),
        attributes: Vec::new(),
    };
    let code = |c: wit::OneTimeCode| contract::OneTimeCode {
        code: c.code.into(),
        expires_at: c.expires_at,
        period_seconds: c.period_seconds,
        attributes: Vec::new(),
    };
    Resolved {
        username: r.username.map(SecretString::from),
        password: r.password.map(SecretString::from),
        one_time_code: asked.one_time_code.then(|| r.one_time_code.map(code).ok_or_else(no_code)),
        revision: r.revision,
        ..Resolved::default()
    }
}

impl From<wit::WriteAccess> for WriteAccess {
    fn from(access: wit::WriteAccess) -> Self {
        match access {
            wit::WriteAccess::Granted => Self::Granted,
            wit::WriteAccess::Denied(reason) => Self::Denied(reason),
        }
    }
}
