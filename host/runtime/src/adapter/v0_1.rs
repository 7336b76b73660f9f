//! `keyway:provider@0.1.0`.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use wasmtime::component::{ComponentType, InstancePre, Linker, Lower};
use wasmtime::{Store, StoreContextMut};
use zeroize::{Zeroize, Zeroizing};

use self::bindings::exports::keyway::provider::secret_provider as wit;
use self::bindings::keyway::provider::types;
use super::{Adapter, CallResult, Instance, Version};
use crate::contract::{self, Changes, Description, Fields, ItemPage, Resolved, Settings, Verified, WriteAccess};
use crate::error::ProviderError;
use crate::state::CallState;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package keyway:host;
            world host {
                export keyway:provider/secret-provider@0.1.0;
            }
        ",
        world: "keyway:host/host",
        exports: { default: async },
        // Settings and changes are passed on as they lie, without a copy that would have to be wiped.
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub(super) const VERSION: Version = Version {
    export: "keyway:provider/secret-provider@0.1.0",
    link,
    adapt: |pre: InstancePre<CallState>| Ok(Box::new(Linked(bindings::Host_Pre::new(pre)?))),
};

struct Linked(bindings::Host_Pre<CallState>);

#[async_trait::async_trait]
impl Adapter for Linked {
    async fn instantiate(&self, store: &mut Store<CallState>) -> wasmtime::Result<Box<dyn Instance>> {
        Ok(Box::new(self.0.instantiate_async(store).await?))
    }
}

#[async_trait::async_trait]
impl Instance for bindings::Host_ {
    async fn describe(&self, store: &mut Store<CallState>) -> wasmtime::Result<Description> {
        Ok(self.keyway_provider_secret_provider().call_describe(store).await?.into())
    }

    async fn verify(&self, store: &mut Store<CallState>, settings: &Settings) -> CallResult<Verified> {
        let answer = self.keyway_provider_secret_provider().call_verify(store, &lower(settings)).await?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }

    async fn list_items(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        page: Option<&str>,
    ) -> CallResult<ItemPage> {
        let answer = self.keyway_provider_secret_provider().call_list_items(store, &lower(settings), page).await?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }

    async fn resolve(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
        fields: Fields,
    ) -> CallResult<Resolved> {
        let provider = self.keyway_provider_secret_provider();
        let answer = provider.call_resolve(store, &lower(settings), reference, fields.into()).await?;
        Ok(answer.map(Into::into).map_err(Into::into))
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
        let provider = self.keyway_provider_secret_provider();
        let answer = provider.call_write(store, &lower(settings), reference, changes, expected_revision).await?;
        Ok(answer.map_err(Into::into))
    }

    async fn check_write_access(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
    ) -> CallResult<WriteAccess> {
        let provider = self.keyway_provider_secret_provider();
        let answer = provider.call_check_write_access(store, &lower(settings), reference).await?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }
}

fn lower(settings: &Settings) -> Vec<types::Setting<'_>> {
    settings.iter().map(|(name, value)| types::Setting { name, value: value.expose_secret() }).collect()
}

// ---- session ---------------------------------------------------------------------------------------------------------
//
// Linked by hand: the generated bindings would drop the bytes of a session, which hold its keys, without wiping them.

const SESSION: &str = "keyway:provider/session@0.1.0";
const NO_SESSION: &str = "there is no session before there is a connection";

#[derive(ComponentType, Lower)]
#[component(record)]
struct State {
    data: Vec<u8>,
    generation: u64,
}

impl Drop for State {
    fn drop(&mut self) {
        self.data.zeroize();
    }
}

impl From<crate::session::State> for State {
    fn from(mut state: crate::session::State) -> Self {
        Self { data: std::mem::take(&mut *state.data), generation: state.generation }
    }
}

#[derive(ComponentType, Lower)]
#[component(variant)]
enum Renewal {
    #[component(name = "granted")]
    Granted,
    #[component(name = "renewed")]
    Renewed(State),
}

type Answer<T> = wasmtime::Result<(Result<T, types::Error>,)>;

fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    let mut session = linker.instance(SESSION)?;
    session.func_wrap("get", |mut store: StoreContextMut<'_, CallState>, (): ()| {
        let state = store.data_mut().session.as_mut().and_then(|session| session.get());
        Ok((state.map(State::from),))
    })?;
    session.func_wrap(
        "put",
        |mut store: StoreContextMut<'_, CallState>, (data, ttl): (Vec<u8>, u32)| -> Answer<u64> {
            let data = Zeroizing::new(data);
            Ok((match &mut store.data_mut().session {
                Some(session) => session.put(&data, ttl).map_err(Into::into),
                None => Err(types::Error::Unsupported(NO_SESSION.into())),
            },))
        },
    )?;
    session.func_wrap_async(
        "renew",
        |mut store: StoreContextMut<'_, CallState>,
         (refused,): (Option<u64>,)|
         -> Box<dyn Future<Output = Answer<Renewal>> + Send + '_> {
            Box::new(async move {
                let Some(session) = &mut store.data_mut().session else {
                    return Ok((Err(types::Error::Unsupported(NO_SESSION.into())),));
                };
                Ok((match session.renew(refused).await {
                    Ok(crate::session::Renewal::Granted) => Ok(Renewal::Granted),
                    Ok(crate::session::Renewal::Renewed(state)) => Ok(Renewal::Renewed(state.into())),
                    Err(error) => Err(error.into()),
                },))
            })
        },
    )?;
    session.func_wrap("counter", |mut store: StoreContextMut<'_, CallState>, (): ()| {
        Ok((store.data_mut().session.as_mut().map_or(0, |session| session.counter()),))
    })
}

// ---- errors ----------------------------------------------------------------------------------------------------------

impl From<types::Error> for ProviderError {
    fn from(error: types::Error) -> Self {
        match error {
            types::Error::InvalidSettings(e) => Self::InvalidSettings { setting: e.setting, message: e.message },
            types::Error::Unauthenticated(message) => Self::Unauthenticated(message),
            types::Error::PermissionDenied(message) => Self::PermissionDenied(message),
            types::Error::InvalidReference(message) => Self::InvalidReference(message),
            types::Error::NotFound(message) => Self::NotFound(message),
            types::Error::Conflict(message) => Self::Conflict(message),
            types::Error::RateLimited(e) => Self::RateLimited {
                retry_after: e.retry_after_seconds.map(|seconds| Duration::from_secs(seconds.into())),
                message: e.message,
            },
            types::Error::Unavailable(message) => Self::Unavailable(message),
            types::Error::Unsupported(message) => Self::Unsupported(message),
            types::Error::UnexpectedAnswer(message) => Self::UnexpectedAnswer(message),
            types::Error::Other(e) => Self::Other { code: e.code, message: e.message },
        }
    }
}

impl From<ProviderError> for types::Error {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::InvalidSettings { setting, message } => {
                Self::InvalidSettings(types::InvalidSetting { setting, message })
            }
            ProviderError::Unauthenticated(message) => Self::Unauthenticated(message),
            ProviderError::PermissionDenied(message) => Self::PermissionDenied(message),
            ProviderError::InvalidReference(message) => Self::InvalidReference(message),
            ProviderError::NotFound(message) => Self::NotFound(message),
            ProviderError::Conflict(message) => Self::Conflict(message),
            ProviderError::RateLimited { retry_after, message } => Self::RateLimited(types::RateLimit {
                retry_after_seconds: retry_after.map(|time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX)),
                message,
            }),
            ProviderError::Unavailable(message) => Self::Unavailable(message),
            ProviderError::Unsupported(message) => Self::Unsupported(message),
            ProviderError::UnexpectedAnswer(message) => Self::UnexpectedAnswer(message),
            ProviderError::Other { code, message } => Self::Other(types::OtherError { code, message }),
        }
    }
}

// ---- answers ---------------------------------------------------------------------------------------------------------

fn attributes(attributes: Vec<wit::Attribute>) -> Vec<contract::Attribute> {
    attributes.into_iter().map(|a| contract::Attribute { name: a.name, value: a.value }).collect()
}

impl From<wit::Description> for Description {
    fn from(d: wit::Description) -> Self {
        let setting = |s: wit::SettingSpec| contract::SettingSpec {
            name: s.name,
            label: s.label,
            help: s.help,
            secret: s.secret,
            required: s.required,
            pattern: s.pattern,
            default: s.default,
        };
        let destination = |d| match d {
            wit::Destination::Fixed(text) => contract::Destination::Fixed(text),
            wit::Destination::FromSetting(name) => contract::Destination::FromSetting(name),
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
            },
            attributes: attributes(d.attributes),
        }
    }
}

impl From<wit::Verified> for Verified {
    fn from(v: wit::Verified) -> Self {
        Self {
            account: v.account,
            vault_count: v.vault_count,
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
            vault_id: i.vault_id,
            vault_name: i.vault_name,
            reference: i.reference,
            category: i.category,
            attributes: attributes(i.attributes),
        };
        Self { items: page.items.into_iter().map(item).collect(), next: page.next }
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

impl From<wit::Resolved> for Resolved {
    fn from(r: wit::Resolved) -> Self {
        Self {
            username: r.username.map(SecretString::from),
            password: r.password.map(SecretString::from),
            one_time_code: r.one_time_code.map(|c| contract::OneTimeCode {
                code: c.code.into(),
                expires_at: c.expires_at,
                period_seconds: c.period_seconds,
            }),
            revision: r.revision,
        }
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
