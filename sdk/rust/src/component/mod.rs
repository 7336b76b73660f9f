//! The sandbox's side of things: what turns a [`SecretProvider`](crate::SecretProvider) into a
//! component, and what it uses in there.
//!
//! All of it compiles on every target, so that it is checked wherever the rest is, and works only
//! in a component: elsewhere the functions of the host are not there, and calling one panics. Hence
//! [`export!`](crate::export) does nothing on other targets.

mod convert;
mod guest;
mod host;
mod transport;

pub use guest::Exported;
pub use host::{HostClock, HostLog, HostSession, HostStore, host};
pub use transport::WasiTransport;

/// The contract as generated from the WIT. The `wasi:*` imports come from the `wasip2` crate, which
/// has them ready-made.
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

/// The optional interface `item-fields`, a world of its own: a component exports it only when it
/// says so.
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

/// The optional interface `leases`, a world of its own: a component exports it only when it says
/// so.
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

/// The optional interface `refresh`, a world of its own: a component exports it only when it says
/// so.
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
