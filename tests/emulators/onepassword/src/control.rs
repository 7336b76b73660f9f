//! The knobs over HTTP, on a separate port (see the crate's documentation for the paths).

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::faults::FaultRule;
use crate::knobs::{KnobError, Knobs, NewLogin};
use crate::plaintext::ItemChange;
use crate::rules::Rules;
use crate::store::{DeviceState, VaultAccess};
use crate::token::WrongToken;

/// The control endpoint's router.
pub(crate) fn router(knobs: Knobs) -> Router {
    Router::new()
        .route("/info", get(async |State(knobs): State<Knobs>| Json(knobs.info())))
        .route("/calls", get(async |State(knobs): State<Knobs>| Json(knobs.calls())).delete(reset_calls))
        .route("/requests", get(async |State(knobs): State<Knobs>| Json(knobs.requests())).delete(reset_calls))
        .route("/reset", post(reset))
        .route("/sessions", axum::routing::delete(expire_sessions))
        .route("/faults", get(async |State(knobs): State<Knobs>| Json(knobs.faults())).post(fault).delete(clear_faults))
        .route("/rules", get(async |State(knobs): State<Knobs>| Json(knobs.rules())).put(set_rules))
        .route("/accounts/{account}/token", get(token).put(restore_token).delete(revoke_token))
        .route("/accounts/{account}/device", put(set_device))
        .route("/accounts/{account}/vaults/{vault}", put(set_access))
        .route("/vaults/{vault}/items", post(add_login))
        .route("/vaults/{vault}/items/{item}", get(item).patch(change_item).put(replace_item))
        .fallback(async || Failure(StatusCode::NOT_FOUND, "there is no such path".to_owned()))
        .with_state(knobs)
}

type Answer<T> = Result<Json<T>, Failure>;

/// An error answer: a status, and `{"error": "..."}`.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<KnobError> for Failure {
    fn from(error: KnobError) -> Self {
        let status = match error {
            KnobError::UnknownAccount(_) | KnobError::UnknownVault(_) | KnobError::UnknownItem(_) => {
                StatusCode::NOT_FOUND
            }
            KnobError::NotJson => StatusCode::CONFLICT,
            KnobError::Build(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

/// A JSON body. The content type is ignored, so that `curl -d` is enough.
struct Body<T>(T);

impl<T: serde::de::DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Failure> {
        let bytes = axum::body::Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|rejection| Failure(StatusCode::BAD_REQUEST, rejection.body_text()))?;
        Ok(Self(Json::from_bytes(&bytes)?.0))
    }
}

async fn reset_calls(State(knobs): State<Knobs>) -> Json<Value> {
    knobs.reset_calls();
    done()
}

async fn reset(State(knobs): State<Knobs>) -> Answer<Value> {
    knobs.reset()?;
    Ok(done())
}

async fn expire_sessions(State(knobs): State<Knobs>) -> Json<Value> {
    knobs.expire_sessions();
    done()
}

async fn fault(State(knobs): State<Knobs>, Body(rule): Body<FaultRule>) -> Json<Value> {
    knobs.fault(rule);
    done()
}

async fn clear_faults(State(knobs): State<Knobs>) -> Json<Value> {
    knobs.clear_faults();
    done()
}

async fn set_rules(State(knobs): State<Knobs>, Body(rules): Body<Rules>) -> Json<Rules> {
    knobs.set_rules(rules);
    Json(knobs.rules())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenQuery {
    #[serde(default)]
    wrong: Option<WrongToken>,
}

#[derive(Serialize)]
struct TokenAnswer {
    token: String,
}

async fn token(
    State(knobs): State<Knobs>,
    Path(account): Path<String>,
    Query(query): Query<TokenQuery>,
) -> Answer<TokenAnswer> {
    let token = match query.wrong {
        Some(wrong) => knobs.wrong_token(&account, wrong)?,
        None => knobs.token(&account)?,
    };
    Ok(Json(TokenAnswer { token: token.expose().to_owned() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeQuery {
    #[serde(default = "unauthorized")]
    status: u16,
}

fn unauthorized() -> u16 {
    401
}

async fn revoke_token(
    State(knobs): State<Knobs>,
    Path(account): Path<String>,
    Query(query): Query<RevokeQuery>,
) -> Answer<Value> {
    knobs.revoke_token(&account, query.status)?;
    Ok(done())
}

async fn restore_token(State(knobs): State<Knobs>, Path(account): Path<String>) -> Answer<Value> {
    knobs.restore_token(&account)?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceBody {
    state: DeviceState,
}

async fn set_device(
    State(knobs): State<Knobs>,
    Path(account): Path<String>,
    Body(body): Body<DeviceBody>,
) -> Answer<Value> {
    knobs.set_device(&account, body.state)?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessBody {
    access: Option<VaultAccess>,
}

async fn set_access(
    State(knobs): State<Knobs>,
    Path((account, vault)): Path<(String, String)>,
    Body(body): Body<AccessBody>,
) -> Answer<Value> {
    knobs.set_access(&account, &vault, body.access)?;
    Ok(done())
}

async fn add_login(
    State(knobs): State<Knobs>,
    Path(vault): Path<String>,
    Body(new): Body<NewLogin>,
) -> Answer<crate::ItemInfo> {
    Ok(Json(knobs.add_login(&vault, &new)?))
}

async fn item(State(knobs): State<Knobs>, Path((vault, item)): Path<(String, String)>) -> Answer<crate::ItemText> {
    Ok(Json(knobs.item(&vault, &item)?))
}

async fn change_item(
    State(knobs): State<Knobs>,
    Path((vault, item)): Path<(String, String)>,
    Body(change): Body<ItemChange>,
) -> Answer<crate::Versions> {
    Ok(Json(knobs.change_item(&vault, &item, &change)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplaceBody {
    #[serde(default)]
    overview: Option<String>,
    #[serde(default)]
    details: Option<String>,
}

async fn replace_item(
    State(knobs): State<Knobs>,
    Path((vault, item)): Path<(String, String)>,
    Body(body): Body<ReplaceBody>,
) -> Answer<crate::Versions> {
    Ok(Json(knobs.replace_item_text(&vault, &item, body.overview.as_deref(), body.details.as_deref())?))
}

fn done() -> Json<Value> {
    Json(json!({ "ok": true }))
}
