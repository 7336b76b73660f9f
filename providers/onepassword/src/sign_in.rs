//! The sign-in: four requests that turn a token into a session.
//!
//! 1. `auth/start`: the account by name. If the server asks to register this device first, this
//!    step is repeated afterwards;
//! 2. `auth`: SRP's public values;
//! 3. `auth/confirm-key`: the proofs of both sides;
//! 4. `auth/complete`: the first request of the session, encrypted and signed.
//!
//! Invariant: the session key leaves this module only after the server has proven that it knows the
//! account's verifier. The server accepts the token in step 3; whether the master key is right
//! shows when the first vault is opened.

use keyway_sdk::{
    Error,
    http::{Method, Response},
};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    encoding::decode_b64u,
    errors::{Asked, Failure, Refusal},
    random::Random,
    session::Session,
    srp::{Ephemeral, Identity, SrpError},
    wire::{self, CLIENT, CLIENT_VERSION, Credentials, USER_AGENT, Wire},
};

/// The answer to `auth/start`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    #[serde(default)]
    status: Option<String>,
    #[serde(rename = "sessionID")]
    session_id: String,
    #[serde(default)]
    account_key_uuid: Option<String>,
    #[serde(default)]
    user_auth: Option<UserAuth>,
}

/// How the account signs in.
#[derive(Deserialize)]
struct UserAuth {
    method: String,
    salt: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServerValue {
    user_b: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServerProof {
    server_verify_hash: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Completed {
    #[serde(rename = "userUuid")]
    _user_uuid: String,
    #[serde(default)]
    account_uuid: Option<String>,
}

/// Signs in. Makes four requests, or six if the server asks to register the device.
pub(crate) fn sign_in(wire: &Wire<'_>, random: &dyn Random) -> Result<Session, Error> {
    sign_in_with(wire, Ephemeral::generate(random)?, random)
        .map_err(|failure| failure.into_error(wire.token.host(), Asked::SignIn))
}

/// Like [`sign_in`], with a given key pair.
pub(crate) fn sign_in_with(wire: &Wire<'_>, ephemeral: Ephemeral, random: &dyn Random) -> Result<Session, Failure> {
    let now = wire.host.clock.now();
    let token = wire.token;
    let throttle = token.throttle.as_ref().map(|secret| secret.issue(now));
    let throttle_value = throttle.as_ref().map(|token| token.value());

    let (session_id, user_auth) = start(wire, throttle_value)?;
    let credentials = Credentials { session_id: Some(&session_id), mac: None, throttle: throttle_value };
    let post = |path: &str, body: serde_json::Value| -> Result<Response, Failure> {
        accepted(wire, wire.send(Method::Post, path, &credentials, body.to_string().into_bytes())?)
    };

    let value: ServerValue = wire::read(&post("/api/v2/auth", json!({ "userA": ephemeral.user_a() }))?.body)?;
    let salt = decode_b64u(&user_auth.salt).map_err(|_| Failure::Garbled("with a malformed salt"))?;
    let identity = Identity { key_id: &token.key_id, email: &token.email };
    let agreement =
        ephemeral.agree(&value.user_b, &token.srp_x, &identity, &salt).map_err(|error| untrusted(wire, error))?;
    let hash = agreement.client_verify_hash();
    let proof: ServerProof = wire::read(&post("/api/v2/auth/confirm-key", json!({ "clientVerifyHash": hash }))?.body)?;
    let key = agreement.confirm(&proof.server_verify_hash).map_err(|error| untrusted(wire, error))?;

    let mut session = Session::new(session_id, &key, now, throttle, wire.host.session, random)?;
    session.account = complete(wire, &session, random)?;
    Ok(session)
}

/// Step 1: gets the session's id and the account's sign-in parameters.
fn start(wire: &Wire<'_>, throttle: Option<&str>) -> Result<(String, UserAuth), Failure> {
    let mut answer = start_once(wire, throttle)?;
    if matches!(answer.status.as_deref(), Some("device-not-registered" | "device-deleted")) {
        register_device(wire, &answer, throttle)?;
        answer = start_once(wire, throttle)?;
    }
    match (answer.status.as_deref(), answer.user_auth) {
        (None | Some("ok"), Some(user_auth)) if matches!(user_auth.method.as_str(), "SRPg-4096" | "SRP-4096") => {
            Ok((answer.session_id, user_auth))
        }
        (None | Some("ok"), _) => Err(Failure::Garbled("with an unknown sign-in method")),
        (Some("device-not-registered" | "device-deleted"), _) => Err(Failure::Final(Error::permission_denied(
            "1Password could not register this device for the service account. Create a new service account and \
             reconnect.",
        ))),
        (Some(_), _) => Err(Failure::Garbled("with an unknown sign-in status")),
    }
}

fn start_once(wire: &Wire<'_>, throttle: Option<&str>) -> Result<Start, Failure> {
    let token = wire.token;
    // Members in the official client's order.
    let body = format!(
        r#"{{"email":{},"skFormat":{},"skid":{},"deviceUuid":{}}}"#,
        json!(token.email),
        json!(token.key_format),
        json!(token.key_id),
        json!(token.device_id)
    );
    let credentials = Credentials { throttle, ..Credentials::default() };
    let response = accepted(wire, wire.send(Method::Post, "/api/v3/auth/start", &credentials, body.into_bytes())?)?;
    let answer: Start = wire::read(&response.body)?;
    // The id becomes part of a header and of every signature.
    if answer.session_id.len() != 26 || !answer.session_id.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'))
    {
        return Err(Failure::Garbled("with a malformed session id"));
    }
    // The account's secret key was replaced after the token was created.
    if answer.account_key_uuid.as_ref().is_some_and(|id| *id != token.key_id) {
        return Err(Failure::Refused(Refusal::Unauthorized));
    }
    Ok(answer)
}

fn register_device(wire: &Wire<'_>, start: &Start, throttle: Option<&str>) -> Result<(), Failure> {
    let credentials = Credentials { session_id: Some(&start.session_id), mac: None, throttle };
    let device = &wire.token.device_id;
    let response = if start.status.as_deref() == Some("device-deleted") {
        wire.send(Method::Put, &format!("/api/v1/device/{device}/reauthorize"), &credentials, Vec::new())?
    } else {
        let body = json!({
            "uuid": device,
            "clientName": "1Password SDK",
            "clientVersion": CLIENT_VERSION,
            "name": "Keyway",
            "model": "x64",
            "osName": "Linux",
            "osVersion": "0.0.0",
            "userAgent": USER_AGENT,
        });
        wire.send(Method::Post, "/api/v1/device", &credentials, body.to_string().into_bytes())?
    };
    accepted(wire, response).map(drop)
}

/// Step 4. The first use of the session, so it also shows that both sides have the same key.
/// Returns the account's id, if the server sends it.
fn complete(wire: &Wire<'_>, session: &Session, random: &dyn Random) -> Result<Option<String>, Failure> {
    let plaintext = format!(r#"{{"client":{},"device":null}}"#, json!(CLIENT));
    let body = session.key().seal(plaintext.as_bytes(), random)?.to_json();
    let path = "/api/v2/auth/complete";
    let credentials = Credentials {
        session_id: Some(&session.id),
        mac: Some(session.sign(wire.host.session, "POST", wire.token.host(), path)),
        throttle: session.throttle.as_ref().map(|token| token.value()),
    };
    let response = accepted(wire, wire.send(Method::Post, path, &credentials, body)?)?;
    let plaintext: Zeroizing<Vec<u8>> = wire::open(&response, session.key())?;
    if let Some(code) = crate::errors::error_code(&plaintext) {
        return Err(Failure::Refused(Refusal::from_code(code)));
    }
    let completed: Completed = wire::read(&plaintext)?;
    let is_id = |id: &String| (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    Ok(completed.account_uuid.filter(is_id))
}

fn accepted(wire: &Wire<'_>, response: Response) -> Result<Response, Failure> {
    match Refusal::of(&response, wire.host.clock.now()) {
        None => wire::check_type(&response).map(|()| response),
        Some(refusal) => Err(Failure::Refused(refusal)),
    }
}

fn untrusted(wire: &Wire<'_>, error: SrpError) -> Failure {
    match error {
        SrpError::Malformed => Failure::Garbled("with a malformed sign-in value"),
        SrpError::IllegalServerValue => Failure::Garbled("with an unsafe sign-in value"),
        SrpError::WrongServerProof => Failure::Final(Error::unexpected_answer(format!(
            "{} could not prove that it knows this service account, so the sign-in was aborted. Something between \
             here and 1Password may be impersonating it.",
            wire.token.host()
        ))),
    }
}
