//! `keyway:provider@0.2`.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use wasmtime::component::{ComponentType, InstancePre, Linker, Lower};
use wasmtime::{Store, StoreContextMut};
use zeroize::{Zeroize, Zeroizing};

use self::bindings::exports::keyway::provider::{item_fields, leases, refresh, secret_provider as wit};
use self::bindings::keyway::provider::types;
use super::session::{self, Answer};
use super::{Adapter, CallResult, Instance, OtherShape, Version};
use crate::contract::{
    self, Changes, Description, Fields, Interfaces, ItemPage, Resolved, Selection, Settings, Verified, WriteAccess,
};
use crate::error::{ErrorCode, ProviderError};
use crate::output::Level;
use crate::state::CallState;
use crate::store::{self, StoreError};

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/0.2.0",
        inline: "
            package keyway:host;
            world host {
                export keyway:provider/secret-provider@0.2.0;
                export keyway:provider/item-fields@0.2.0;
                export keyway:provider/leases@0.2.0;
                export keyway:provider/refresh@0.2.0;
            }
        ",
        world: "keyway:host/host",
        exports: { default: async },
        // Settings and changes are passed on as they lie, without a copy that would have to be wiped.
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub(super) const VERSION: Version = Version { export: "keyway:provider/secret-provider@0.2.0", link, adapt };

/// Where the exports of a component are. Those of optional interfaces may be absent.
struct Linked {
    pre: InstancePre<CallState>,
    provider: wit::GuestIndices,
    item_fields: Option<item_fields::GuestIndices>,
    leases: Option<leases::GuestIndices>,
    refresh: Option<refresh::GuestIndices>,
}

fn adapt(pre: InstancePre<CallState>) -> wasmtime::Result<Box<dyn Adapter>> {
    let exports = |interface: &str| {
        pre.component().get_export_index(None, format!("keyway:provider/{interface}@0.2.0")).is_some()
    };
    Ok(Box::new(Linked {
        provider: wit::GuestIndices::new(&pre)?,
        item_fields: exports("item-fields").then(|| item_fields::GuestIndices::new(&pre)).transpose()?,
        leases: exports("leases").then(|| leases::GuestIndices::new(&pre)).transpose()?,
        refresh: exports("refresh").then(|| refresh::GuestIndices::new(&pre)).transpose()?,
        pre,
    }))
}

#[async_trait::async_trait]
impl Adapter for Linked {
    fn interfaces(&self) -> Interfaces {
        Interfaces {
            item_fields: self.item_fields.is_some(),
            leases: self.leases.is_some(),
            refresh: self.refresh.is_some(),
        }
    }

    async fn instantiate(&self, store: &mut Store<CallState>) -> wasmtime::Result<Box<dyn Instance>> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let mut load = || -> wasmtime::Result<Exports> {
            Ok(Exports {
                provider: self.provider.load(&mut *store, &instance)?,
                item_fields: self.item_fields.as_ref().map(|found| found.load(&mut *store, &instance)).transpose()?,
                leases: self.leases.as_ref().map(|found| found.load(&mut *store, &instance)).transpose()?,
                refresh: self.refresh.as_ref().map(|found| found.load(&mut *store, &instance)).transpose()?,
            })
        };
        Ok(Box::new(load().map_err(|error| OtherShape::of(&error))?))
    }
}

/// The exported functions of one instance.
struct Exports {
    provider: wit::Guest,
    item_fields: Option<item_fields::Guest>,
    leases: Option<leases::Guest>,
    refresh: Option<refresh::Guest>,
}

#[async_trait::async_trait]
impl Instance for Exports {
    async fn describe(&self, store: &mut Store<CallState>) -> wasmtime::Result<Description> {
        Ok(self.provider.call_describe(store).await?.into())
    }

    async fn normalize_reference(&self, store: &mut Store<CallState>, reference: &str) -> CallResult<String> {
        Ok(self.provider.call_normalize_reference(store, reference).await?.map_err(Into::into))
    }

    async fn verify(&self, store: &mut Store<CallState>, settings: &Settings) -> CallResult<Verified> {
        let answer = self.provider.call_verify(store, &lower(settings)).await?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }

    async fn list_items(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        page: Option<&str>,
    ) -> CallResult<ItemPage> {
        let answer = self.provider.call_list_items(store, &lower(settings), page).await?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }

    async fn resolve(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
        selection: &Selection,
    ) -> CallResult<Resolved> {
        let further: Vec<&str> = selection.further.iter().map(String::as_str).collect();
        let selection = wit::Selection { standard: selection.standard.into(), further: &further };
        let answer = self.provider.call_resolve(store, &lower(settings), reference, selection).await?;
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
        let answer = self.provider.call_write(store, &lower(settings), reference, changes, expected_revision).await?;
        Ok(answer.map_err(Into::into))
    }

    async fn check_write_access(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
    ) -> CallResult<WriteAccess> {
        let answer = self.provider.call_check_write_access(store, &lower(settings), reference).await?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }

    async fn list_fields(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        reference: &str,
    ) -> CallResult<Vec<contract::FieldSpec>> {
        let Some(interface) = &self.item_fields else { return super::unsupported("item-fields") };
        let answer = interface.call_list_fields(store, &lower(settings), reference).await?;
        Ok(answer.map(|fields| fields.into_iter().map(Into::into).collect()).map_err(Into::into))
    }

    async fn renew_lease(
        &self,
        store: &mut Store<CallState>,
        settings: &Settings,
        lease: &str,
        seconds: Option<u32>,
    ) -> CallResult<contract::Lease> {
        let Some(interface) = &self.leases else { return super::unsupported("leases") };
        let answer = interface.call_renew(store, &lower(settings), lease, seconds).await?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }

    async fn revoke_lease(&self, store: &mut Store<CallState>, settings: &Settings, lease: &str) -> CallResult<()> {
        let Some(interface) = &self.leases else { return super::unsupported("leases") };
        Ok(interface.call_revoke(store, &lower(settings), lease).await?.map_err(Into::into))
    }

    async fn refresh(&self, store: &mut Store<CallState>, settings: &Settings) -> CallResult<()> {
        let Some(interface) = &self.refresh else { return super::unsupported("refresh") };
        Ok(interface.call_refresh(store, &lower(settings)).await?.map_err(Into::into))
    }
}

fn lower(settings: &Settings) -> Vec<types::Setting<'_>> {
    settings.iter().map(|(name, value)| types::Setting { name, value: value.expose_secret() }).collect()
}

// ---- what the host offers ---------------------------------------------------------------------------------------------

fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    session::link::<types::Error>(linker, "keyway:provider/session@0.2.0")?;
    link_store(linker)?;
    let mut call = linker.instance("keyway:provider/call@0.2.0")?;
    call.func_wrap("remaining-milliseconds", |store: StoreContextMut<'_, CallState>, (): ()| {
        let left = store.data().time_left().as_millis();
        Ok((u32::try_from(left).unwrap_or(u32::MAX),))
    })?;
    let mut log = linker.instance("keyway:provider/log@0.2.0")?;
    log.func_wrap("write", |store: StoreContextMut<'_, CallState>, (level, message): (Level, String)| {
        store.data().output.write(level, &Zeroizing::new(message));
        Ok(())
    })
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct StoredState {
    data: Vec<u8>,
    version: u64,
}

impl Drop for StoredState {
    fn drop(&mut self) {
        self.data.zeroize();
    }
}

/// By hand, as the session: the bytes are wiped.
fn link_store(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    let mut interface = linker.instance("keyway:provider/store@0.2.0")?;
    interface.func_wrap_async(
        "get",
        |store: StoreContextMut<'_, CallState>,
         (): ()|
         -> Box<dyn Future<Output = Answer<Option<StoredState>, types::Error>> + Send + '_> {
            let slot = store.data().state_store.clone();
            Box::new(async move {
                let Some(slot) = slot else { return Ok((Err(ProviderError::from(StoreError::NotKept).into()),)) };
                Ok((match slot.get().await {
                    Ok(state) => Ok(state.map(|mut state| {
                        store.data().passed(&state.data);
                        StoredState { data: std::mem::take(&mut *state.data), version: state.version }
                    })),
                    Err(error) => Err(ProviderError::from(error).into()),
                },))
            })
        },
    )?;
    interface.func_wrap_async(
        "put",
        |store: StoreContextMut<'_, CallState>,
         (data, expected, refresh_by): (Vec<u8>, Option<u64>, Option<u64>)|
         -> Box<dyn Future<Output = Answer<u64, types::Error>> + Send + '_> {
            let slot = store.data().state_store.clone();
            Box::new(async move {
                let data = Zeroizing::new(data);
                store.data().passed(&data);
                let Some(slot) = slot else { return Ok((Err(ProviderError::from(StoreError::NotKept).into()),)) };
                if data.len() > store::MAX_BYTES {
                    return Ok((Err(ProviderError::from(StoreError::TooLarge).into()),));
                }
                let version = slot.put(&data, expected, refresh_by).await;
                Ok((version.map_err(|error| ProviderError::from(error).into()),))
            })
        },
    )
}

// ---- errors ----------------------------------------------------------------------------------------------------------

/// The codes of the contract and the host's, each pair once.
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

// ---- answers ---------------------------------------------------------------------------------------------------------

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
        Self { value: option.value, label: option.label }
    }
}

impl From<wit::SettingGroup> for contract::SettingGroup {
    fn from(group: wit::SettingGroup) -> Self {
        Self { label: group.label, alternatives: group.alternatives }
    }
}

impl From<wit::RateLimitTier> for contract::RateLimitTier {
    fn from(tier: wit::RateLimitTier) -> Self {
        Self {
            name: tier.name,
            label: tier.label,
            reads_per_hour: tier.reads_per_hour,
            writes_per_hour: tier.writes_per_hour,
            requests_per_day: tier.requests_per_day,
            attributes: list(tier.attributes),
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
        Self { items: list(page.items), next: page.next }
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
        })
        .map_err(|none| contract::NoCode {
            reason: match none.reason {
                wit::NoCodeReason::Absent => contract::NoCodeReason::Absent,
                wit::NoCodeReason::CounterBased => contract::NoCodeReason::CounterBased,
                wit::NoCodeReason::Malformed => contract::NoCodeReason::Malformed,
                wit::NoCodeReason::Other(name) => contract::NoCodeReason::Other(name),
            },
            message: none.message,
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
            },
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
        Self { id: lease.id, expires_at: lease.expires_at, renewable: lease.renewable }
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
