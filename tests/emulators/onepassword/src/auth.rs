//! Signing in: `auth/start`, the exchange of public values, the proofs, and `auth/complete`
//! (protocol notes, sections 3 and 5), preceded by device registration where needed.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::encoding::{b64u, from_b64u};
use crate::faults::Fault;
use crate::gate::ActiveFault;
use crate::random;
use crate::refusal::Refusal;
use crate::session::{Caller, Exchange, Session, Signatory, check_throttling};
use crate::srp::ClientPublic;
use crate::store::DeviceState;
use crate::token::ITERATIONS;
use crate::wire::{
    CompleteAnswer, CompleteRequest, ConfirmAnswer, ConfirmRequest, DeviceRequest, ExchangeAnswer, ExchangeRequest,
    StartAnswer, StartRequest, UserAuth,
};
use crate::world::{World, lock};

/// The only format of secret keys.
const SECRET_KEY_FORMAT: &str = "A3";

type Answer = Result<Response, Refusal>;

/// `POST /api/v3/auth/start`
pub(crate) async fn start(State(world): State<Arc<World>>, headers: HeaderMap, body: Bytes) -> Answer {
    let request: StartRequest = plain(&body)?;
    if request.sk_format != SECRET_KEY_FORMAT || request.skid.len() != 6 {
        return Err(Refusal::BadRequest("invalid_sk_prefix_format"));
    }
    if request.device_uuid.is_empty() {
        return Err(Refusal::BadRequest("invalid_device"));
    }
    let (account, state) = {
        let store = world.store();
        let account = store.account_by_email(&request.email).ok_or(Refusal::BadRequest(""))?;
        (Arc::clone(account), *store.states.get(&account.name).ok_or(Refusal::Internal)?)
    };
    if account.parts.secret_key_id() != request.skid {
        return Err(Refusal::BadRequest(""));
    }
    check_throttling(&account, &world, &headers)?;
    if let Some(status) = state.refused {
        return Err(Refusal::SignIn(status));
    }
    let session = world.sessions.start(Arc::clone(&account), state.device == DeviceState::Registered);
    let user_auth =
        UserAuth { method: "SRPg-4096", alg: "PBES2g-HS256", iterations: ITERATIONS, salt: b64u(account.parts.salt) };
    let answer = StartAnswer {
        status: match state.device {
            DeviceState::Registered => "ok",
            DeviceState::NotRegistered => "device-not-registered",
            DeviceState::Deleted => "device-deleted",
        },
        session_id: &session.id,
        account_key_format: SECRET_KEY_FORMAT,
        account_key_uuid: account.parts.secret_key_id(),
        user_auth: session.device_known.then_some(user_auth),
    };
    Ok(Json(answer).into_response())
}

/// `POST /api/v1/device`
pub(crate) async fn register_device(State(world): State<Arc<World>>, headers: HeaderMap, body: Bytes) -> Answer {
    let session = world.sessions.of(&headers)?;
    let request: DeviceRequest = plain(&body)?;
    if request.uuid.is_empty() {
        return Err(Refusal::BadRequest("invalid_device"));
    }
    device_is_known(&world, &session, DeviceState::NotRegistered)
}

/// `PUT /api/v1/device/{device}/reauthorize`
pub(crate) async fn reauthorize_device(
    State(world): State<Arc<World>>,
    Path(_device): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let session = world.sessions.of(&headers)?;
    device_is_known(&world, &session, DeviceState::Deleted)
}

fn device_is_known(world: &World, session: &Session, before: DeviceState) -> Answer {
    let mut store = world.store_mut();
    let state = store.states.get_mut(&session.account.name).ok_or(Refusal::Internal)?;
    if state.device != before {
        return Err(Refusal::BadRequest("unexpected_device"));
    }
    state.device = DeviceState::Registered;
    Ok(Json(json!({ "success": 1 })).into_response())
}

/// `POST /api/v2/auth`
pub(crate) async fn exchange(
    State(world): State<Arc<World>>,
    Extension(fault): Extension<ActiveFault>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let session = world.sessions.of(&headers)?;
    check_throttling(&session.account, &world, &headers)?;
    let request: ExchangeRequest = plain(&body)?;
    let client = ClientPublic::from_hex(&request.user_a).map_err(|error| {
        tracing::debug!(%error, "refused");
        Refusal::BadRequest("invalid_user_a")
    })?;
    if !session.device_known || lock(&session.exchange).is_some() {
        return Err(Refusal::SignIn(401));
    }
    let account = Arc::clone(&session.account);
    let ephemeral = heavy(move || account.verifier.ephemeral(random::bytes())).await?;
    let user_b = match fault.0 {
        Some(Fault::ZeroPublicValue) => "00".to_owned(),
        _ => ephemeral.user_b(),
    };
    *lock(&session.exchange) = Some(Exchange { ephemeral, client });
    Ok(Json(ExchangeAnswer { user_b }).into_response())
}

/// `POST /api/v2/auth/confirm-key`
pub(crate) async fn confirm_key(
    State(world): State<Arc<World>>,
    Extension(fault): Extension<ActiveFault>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let session = world.sessions.of(&headers)?;
    check_throttling(&session.account, &world, &headers)?;
    let request: ConfirmRequest = plain(&body)?;
    let proof = from_b64u(&request.client_verify_hash).ok_or(Refusal::BadRequest("invalid_hash"))?;
    // Each exchange allows one attempt.
    let exchange = lock(&session.exchange).take().ok_or(Refusal::SignIn(401))?;
    let account = Arc::clone(&session.account);
    let agreement = heavy(move || {
        let Exchange { ephemeral, client } = exchange;
        ephemeral.agree(&account.verifier, client, &account.identity, &account.parts.salt)
    })
    .await?;
    if !agreement.accepts(&proof) {
        world.sessions.end(&session.id);
        return Err(Refusal::SignIn(401));
    }
    session.agree(&agreement.key)?;
    let server_verify_hash = match fault.0 {
        Some(Fault::WrongServerProof) => b64u(random::bytes::<32>()),
        _ => b64u(agreement.server_proof()),
    };
    Ok(Json(ConfirmAnswer { server_verify_hash }).into_response())
}

/// `POST /api/v2/auth/complete`
pub(crate) async fn complete(
    State(world): State<Arc<World>>,
    caller: Signatory,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let request: CompleteRequest = caller.open(&body)?;
    if crate::session::text(&headers, "x-agilebits-client") != Some(&request.client) {
        return Err(Refusal::BadRequest("client_mismatch"));
    }
    caller.session.complete();
    world.calls.count_login();
    let account = caller.account();
    caller.answer(&CompleteAnswer { account_uuid: &account.account_uuid, user_uuid: &account.user_uuid, mfa: () })
}

/// `PUT /api/v1/session/signout`
pub(crate) async fn sign_out(State(world): State<Arc<World>>, caller: Caller) -> Answer {
    world.sessions.end(&caller.session.id);
    caller.answer(&json!({ "success": 1 }))
}

fn plain<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|_| Refusal::BadRequest("unexpected_content"))
}

/// Runs an exponentiation on a thread where it blocks no other request.
async fn heavy<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::Internal)
}
