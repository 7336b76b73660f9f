//! The current code of a vault entry's second factor as clients and scripts see it.

use std::time::Duration;

use keyway::OneTimeCode;
use secrecy::SecretString;
use serde::Serialize;
use utoipa::ToSchema;

use super::secret::exposed;

/// The current code as clients see it. The header that keeps it out of caches is on every answer.
#[derive(Serialize, ToSchema)]
#[schema(as = TfaCode, example = json!({"type": "authenticator", "code": "492039", "expires_in_seconds": 17, "times_handed_out": 1}))]
pub(crate) struct Code {
    r#type: &'static str,
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String)]
    pub(crate) code: SecretString,
    pub(crate) expires_in_seconds: u64,
    /// How often this server handed out this code, this time included. Most sites accept a code
    /// once.
    pub(crate) times_handed_out: u32,
}

impl Code {
    /// Of an authenticator.
    pub(crate) fn authenticator(code: OneTimeCode, expires_in: Duration, times_handed_out: u32) -> Self {
        let expires_in_seconds = expires_in.as_secs();
        Self { r#type: "authenticator", code: code.code, expires_in_seconds, times_handed_out }
    }
}
