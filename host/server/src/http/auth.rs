//! Authentication: the API key in the header `cc-key`.
//!
//! Every handler that needs the key takes it as its first argument, and gets the API with it. So
//! the key is checked before anything else of the request: a key without the scope learns nothing
//! about the rest of its request.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use keyway::{Access, ErrorKind, Scope, request};
use secrecy::SecretString;

use super::api::Api;
use super::error::ApiError;
use super::memory;
use crate::peer::Peer;

/// The header with the API key.
const KEY_HEADER: &str = "cc-key";

/// The holder of a valid API key.
pub(super) struct Caller(pub(super) Api, pub(super) Access);

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        // Removed from the request, so that later code cannot see it.
        let keys = parts.headers.get_all(KEY_HEADER).iter().count();
        let Some(value) = parts.headers.remove(KEY_HEADER).filter(|_| keys == 1) else {
            let message = "exactly one header cc-key with an API key is needed";
            return Err(ApiError::new(ErrorKind::Unauthenticated, message));
        };
        // A value that is not text cannot be a key, and is answered like any other invalid key.
        let key = SecretString::from(value.to_str().unwrap_or_default());
        let access = api.broker.api_keys().authenticate(&key, request::current().as_deref()).await?;
        if let Some(peer) = Peer::current() {
            peer.is_known();
        }
        memory::charge_to(access.workspace())?;
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
                // The broker refuses it, and records that.
                api.broker.api_keys().authorize(&access, $scope).await?;
                Ok(Self(api, access))
            }
        })*
    };
}

holders! {
    /// The holder of a key that may manage vault entries, and see what they can be bound to.
    Client: Scope::Api;
    /// The holder of a key that may manage connections.
    Administrator: Scope::Admin;
    /// The holder of a key that may resolve secret values.
    Resolver: Scope::Resolve;
    /// The holder of a key that may rotate passwords.
    Rotator: Scope::Rotate;
}
