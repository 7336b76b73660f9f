//! Rotation of the two levels of keys. Both can run while requests are served, here and by other
//! processes, and can be cut off at any moment.

mod attempts;
mod client_values;
mod master;
mod workspace;

pub(crate) use attempts::Attempts;
pub(crate) use client_values::under_new_client_key;
pub use master::RotatedMasterKey;
pub use workspace::RotatedWorkspaceKey;
