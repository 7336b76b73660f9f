//! Who is asking: the API key in the header `cc-key`.
//!
//! It is the first argument of every handler that needs it, and brings the API along, so that
//! nothing else of a request is looked at before its key was: a key without the right learns nothing
//! about how a thing is done.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use keyway::{Access, ErrorKind, Scope, request};
use secrecy::SecretString;

use super::api::Api;
use super::error::ApiError;
use super::memory;

/// The header with the API key.
const KEY_HEADER: &str = "cc-key";

/// The holder of a valid API key.
pub(super) struct Caller(pub(super) Api, pub(super) Access);

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        // Taken out, so that nothing behind this can see it.
        let Some(value) = parts.headers.remove(KEY_HEADER) else {
            let message = "the header cc-key with an API key is missing";
            return Err(ApiError::new(ErrorKind::Unauthenticated, message));
        };
        // What is no text cannot be a key, and is answered like any other key that is not valid.
        let key = SecretString::from(value.to_str().unwrap_or_default());
        let access = api.broker.api_keys().authenticate(&key, request::current().as_deref()).await?;
        memory::charge_to(access.workspace());
        Ok(Self(api.clone(), access))
    }
}

macro_rules! holders {
    ($($(#[$about:meta])* $name:ident: $scope:expr;)*) => {
        $($(#[$about])*
        pub(super) struct $name(pub(super) Api, pub(super) Access);

        impl FromRequestParts<Api> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
                let Caller(api, access) = Caller::from_request_parts(parts, api).await?;
                // Refused by the broker, which records that.
                api.broker.api_keys().authorize(&access, $scope).await?;
                Ok(Self(api, access))
            }
        })*
    };
}

holders! {
    /// The holder of a key that may work with vault entries, and see what they can be bound to.
    Client: Scope::Api;
    /// The holder of a key that may manage connections.
    Administrator: Scope::Admin;
    /// The holder of a key that may resolve secret values.
    Resolver: Scope::Resolve;
    /// The holder of a key that may rotate passwords.
    Rotator: Scope::Rotate;
}
