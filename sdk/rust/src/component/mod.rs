//! The component side: the code that turns a [`SecretProvider`](crate::SecretProvider) into a
//! component, and that a provider uses inside the sandbox.
//!
//! It compiles on every target, so that it is always checked, but works only in a component.
//! Elsewhere the host functions do not exist, and calling one panics; [`export!`](crate::export)
//! therefore exports nothing on other targets.

mod convert;
mod guest;
mod host;
mod transport;

pub use guest::Exported;
pub use host::{HostClock, HostLog, HostSession, HostStore, host};
pub use transport::WasiTransport;

/// The contract as generated from the WIT. The `wasi:*` imports come from the `wasip2` crate.
#[expect(missing_docs, reason = "generated; the WIT has the documentation")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit/0.2.0",
        inline: "
            package keyway:sdk;
            world component {
                import keyway:provider/session@0.2.0;
                import keyway:provider/durable-state@0.2.0;
                import keyway:provider/call-context@0.2.0;
                import keyway:provider/host-log@0.2.0;
                export keyway:provider/secret-provider@0.2.0;
            }
        ",
        world: "keyway:sdk/component",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_component",
        default_bindings_module: "keyway_sdk::component::bindings",
    });
}

/// The optional interface `item-fields`, a world of its own: a component exports it only on
/// request.
#[expect(missing_docs, reason = "generated; the WIT has the documentation")]
pub mod item_fields {
    wit_bindgen::generate!({
        path: "wit/0.2.0",
        inline: "
            package keyway:sdk-item-fields;
            world item-fields-component {
                export keyway:provider/item-fields@0.2.0;
            }
        ",
        world: "keyway:sdk-item-fields/item-fields-component",
        with: { "keyway:provider/provider-types@0.2.0": crate::component::bindings::keyway::provider::provider_types },
        pub_export_macro: true,
        export_macro_name: "export_item_fields",
        default_bindings_module: "keyway_sdk::component::item_fields",
    });
}

/// The optional interface `leases`, a world of its own: a component exports it only on request.
#[expect(missing_docs, reason = "generated; the WIT has the documentation")]
pub mod leases {
    wit_bindgen::generate!({
        path: "wit/0.2.0",
        inline: "
            package keyway:sdk-leases;
            world leases-component {
                export keyway:provider/leases@0.2.0;
            }
        ",
        world: "keyway:sdk-leases/leases-component",
        with: { "keyway:provider/provider-types@0.2.0": crate::component::bindings::keyway::provider::provider_types },
        pub_export_macro: true,
        export_macro_name: "export_leases",
        default_bindings_module: "keyway_sdk::component::leases",
    });
}

/// The optional interface `refresh`, a world of its own: a component exports it only on request.
#[expect(missing_docs, reason = "generated; the WIT has the documentation")]
pub mod refresh {
    wit_bindgen::generate!({
        path: "wit/0.2.0",
        inline: "
            package keyway:sdk-refresh;
            world refresh-component {
                export keyway:provider/refresh@0.2.0;
            }
        ",
        world: "keyway:sdk-refresh/refresh-component",
        with: { "keyway:provider/provider-types@0.2.0": crate::component::bindings::keyway::provider::provider_types },
        pub_export_macro: true,
        export_macro_name: "export_refresh",
        default_bindings_module: "keyway_sdk::component::refresh",
    });
}
