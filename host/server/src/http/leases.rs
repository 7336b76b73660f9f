//! `/vault/leases`: leases under which entries were resolved.

use axum::Json;

use super::answer::{Answer, SUCCESS, Success};
use super::auth::Resolver;
use super::body::Body;
use super::error::ApiError;
use super::schema::{Common, Missing, OfProvider, WithBody};
use super::vault::name::about_an_entry;
use crate::view::resolved::LeaseView;

about_an_entry! {
    /// The lease to extend, of an entry by its id or by its user and domain, and the extension.
    #[schema(example = json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com", "lease": "database/creds/app/1"}))]
    pub(super) struct ToRenew {
        /// The `id` of the lease that came with the values.
        #[schema(min_length = 1, max_length = 1024)]
        lease: String,
        /// The extension in seconds, where the secret manager supports it; by default, the secret
        /// manager decides.
        #[schema(value_type = Option<u32>, maximum = 4294967295i64)]
        seconds: Option<u64>,
    }
}

about_an_entry! {
    /// The lease to end, of an entry by its id or by its user and domain.
    #[schema(example = json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com", "lease": "database/creds/app/1"}))]
    pub(super) struct ToRevoke {
        /// The `id` of the lease that came with the values.
        #[schema(min_length = 1, max_length = 1024)]
        lease: String,
    }
}

/// Extend the lease of an entry's values
///
/// Needs the scope `resolve`.
#[utoipa::path(post, path = "/vault/leases/renew", operation_id = "renew_lease", tag = "vault", request_body = ToRenew,
    responses((status = 200, description = "The lease as it is now", body = LeaseView), WithBody, Missing, OfProvider, Common))]
pub(super) async fn renew(Resolver(api, access): Resolver, Body(wanted): Body<ToRenew>) -> Answer<LeaseView> {
    let entry = wanted.entry()?;
    let too_many = |_| ApiError::invalid("seconds must be a non-negative integer of at most 4294967295");
    let seconds = wanted.seconds.map(u32::try_from).transpose().map_err(too_many)?;
    Ok(Json(api.broker.entries().renew_lease(&access, &entry, &wanted.lease, seconds).await?.into()))
}

/// End the lease of an entry's values
///
/// The secret manager no longer accepts the values, and the cached values of the item are dropped.
/// Ending an ended lease is not an error. Needs the scope `resolve`.
#[utoipa::path(post, path = "/vault/leases/revoke", operation_id = "revoke_lease", tag = "vault", request_body = ToRevoke,
    responses((status = 200, description = "The lease has ended", body = Success), WithBody, Missing, OfProvider, Common))]
pub(super) async fn revoke(Resolver(api, access): Resolver, Body(wanted): Body<ToRevoke>) -> Answer<Success> {
    api.broker.entries().revoke_lease(&access, &wanted.entry()?, &wanted.lease).await?;
    Ok(SUCCESS)
}
