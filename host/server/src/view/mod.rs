//! What clients and scripts see: the same documents over HTTP and on the command line.

pub(crate) mod budget;
pub(crate) mod connection;
pub(crate) mod dependents;
pub(crate) mod message;
pub(crate) mod resolved;
pub(crate) mod retry;
pub(crate) mod rotation;
pub(crate) mod secret;
pub(crate) mod tfa_code;
pub(crate) mod words;

/// Defines a document, and how each of its fields is made from the thing that it shows.
macro_rules! view {
    ($(#[$about:meta])* $visible:vis struct $name:ident of $thing:ident: $type:ty {
        $($(#[$field_about:meta])* $field:ident: $field_type:ty = $value:expr,)*
    }) => {
        #[derive(serde::Serialize)]
        $(#[$about])*
        $visible struct $name {
            $($(#[$field_about])* pub(crate) $field: $field_type,)*
        }

        impl From<$type> for $name {
            fn from($thing: $type) -> Self {
                Self { $($field: $value,)* }
            }
        }
    };
}
pub(crate) use view;
