//! The sandbox's side of things: what turns a [`SecretProvider`](crate::SecretProvider) into a component, and what it
//! uses in there.
//!
//! All of it compiles on every target, so that it is checked wherever the rest is, and works only in a component:
//! elsewhere the functions of the host are not there, and calling one panics. Hence [`export!`](crate::export) does
//! nothing on other targets.

mod convert;
mod guest;
mod host;
mod transport;

pub use guest::Exported;
pub use host::{HostSession, WallClock, host};
pub use transport::WasiTransport;

/// The contract as generated from `wit/`. The `wasi:*` imports come from the `wasip2` crate, which has them ready-made.
#[expect(missing_docs, reason = "generated; the WIT has the documentation")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package keyway:sdk;
            world component {
                import keyway:provider/session@0.1.0;
                export keyway:provider/secret-provider@0.1.0;
            }
        ",
        world: "keyway:sdk/component",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_component",
        default_bindings_module: "keyway_sdk::component::bindings",
    });
}
