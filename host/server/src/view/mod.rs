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
