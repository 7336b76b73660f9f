//! `keyway:provider@0.2`.

mod conversions;
mod exports;
mod imports;

use wasmtime::Store;
use wasmtime::component::InstancePre;

use self::bindings::exports::keyway::provider::{item_fields, leases, refresh, secret_provider as wit};
use self::exports::Exports;
use super::{Adapter, Instance, OtherShape, Version};
use crate::contract::Interfaces;
use crate::state::CallState;

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
        // Settings and changes are passed by reference: a copy would have to be wiped.
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub(super) const VERSION: Version =
    Version { export: "keyway:provider/secret-provider@0.2.0", link: imports::link, adapt };

/// The locations of a component's exports. Those of optional interfaces may be absent.
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
