//! A small client for the protocol tests, which can do what a correct client never does: sign
//! wrongly, repeat requests, skip steps. It is written from the protocol notes, independently of
//! the emulator's code.

#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test support")]

use aes_gcm::aead::{Aead, KeyInit, Nonce};
use aes_gcm::{Aes256Gcm, Key};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U256, U4096};
use data_encoding::HEXLOWER;
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, Mac};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use keyway_emulator_onepassword::Emulator;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const VECTORS: &str = include_str!("../../../../../providers/onepassword/tests/data/vectors.json");

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A session that both sides agree on.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) key: [u8; 32],
    pub(crate) counter: u64,
}

/// The client, with one token.
pub(crate) struct Client {
    http: Http<HttpConnector, Full<Bytes>>,
    url: String,
    token: Value,
    pub(crate) session: Option<Session>,
    /// Sent with every request; tests change it.
    pub(crate) client_name: &'static str,
    pub(crate) throttling: Option<String>,
}

impl Client {
    pub(crate) fn new(emulator: &Emulator, account: &str) -> Self {
        let token = emulator.token(account).unwrap();
        let token: Value =
            serde_json::from_slice(&B64.decode(token.expose().strip_prefix("ops_").unwrap()).unwrap()).unwrap();
        Self {
            http: Http::builder(TokioExecutor::new()).build_http(),
            url: emulator.url().to_owned(),
            throttling: token.get("throttleSecret").map(throttling_token),
            token,
            session: None,
            client_name: "1Password SDK/0050002",
        }
    }

    pub(crate) async fn signed_in(emulator: &Emulator, account: &str) -> Self {
        let mut client = Self::new(emulator, account);
        client.sign_in().await;
        client
    }

    /// Sends a request unchanged. The error is that of the connection, or of a body that ends
    /// early.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Reply, String> {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap());
        request = request.uri(format!("{}{path}", self.url)).header("x-agilebits-client", self.client_name);
        for (name, value) in
            self.throttling.iter().map(|token| ("op-throttling-token", token.as_str())).chain(headers.iter().copied())
        {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let response = self.http.request(request).await.map_err(|error| error.to_string())?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// `auth/start`.
    pub(crate) async fn start(&self) -> Reply {
        let secret_key = self.token["secretKey"].as_str().unwrap();
        let body = json!({
            "email": self.token["email"], "skFormat": "A3", "skid": &secret_key[3..9], "deviceUuid": self.token["deviceUuid"],
        });
        self.send("POST", "/api/v3/auth/start", &[], body.to_string()).await.unwrap()
    }

    /// The first three steps of a sign-in; only `auth/complete` remains.
    pub(crate) async fn agree(&mut self) {
        let start = self.start().await.json();
        let id = start["sessionID"].as_str().unwrap().to_owned();
        let salt = B64.decode(start["userAuth"]["salt"].as_str().unwrap()).unwrap();
        let srp = Srp::new(&self.token);
        let headers = [("x-agilebits-session-id", id.as_str())];
        let body = json!({ "userA": srp.user_a() }).to_string();
        let answer = self.send("POST", "/api/v2/auth", &headers, body).await.unwrap().json();
        let (key, proof, expected) = srp.agree(answer["userB"].as_str().unwrap(), &salt);
        let body = json!({ "clientVerifyHash": B64.encode(proof) }).to_string();
        let answer = self.send("POST", "/api/v2/auth/confirm-key", &headers, body).await.unwrap();
        assert_eq!(answer.json()["serverVerifyHash"], B64.encode(expected));
        self.session = Some(Session { id, key, counter: 1000 });
    }

    pub(crate) async fn sign_in(&mut self) {
        self.agree().await;
        let body = json!({ "client": self.client_name, "device": null });
        let (status, answer) = self.call("POST", "/api/v2/auth/complete", Some(body)).await;
        assert_eq!(status, 200);
        assert!(answer["userUuid"].is_string());
    }

    /// A signed request with sealed bodies both ways. An answer in an envelope is opened.
    pub(crate) async fn call(&mut self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let session = self.session.as_mut().unwrap();
        session.counter += 1;
        let counter = session.counter;
        self.call_with_counter(method, path, body, counter).await
    }

    pub(crate) async fn call_with_counter(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        counter: u64,
    ) -> (u16, Value) {
        let session = self.session.as_ref().unwrap();
        let body = body.map(|body| session.seal(&body).to_string()).unwrap_or_default();
        let mac = session.sign(method, path, counter);
        let headers = [("x-agilebits-session-id", session.id.as_str()), ("x-agilebits-mac", mac.as_str())];
        let reply = self.send(method, path, &headers, body).await.unwrap();
        let value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
        (reply.status, if reply.status == 200 { session.open(&value) } else { value })
    }

    /// A signed `GET` without processing: the answer is not opened, and broken connections are
    /// errors.
    pub(crate) async fn raw(&mut self, path: &str) -> Result<Reply, String> {
        let session = self.session.as_mut().unwrap();
        session.counter += 1;
        let mac = session.sign("GET", path, session.counter);
        let id = session.id.clone();
        self.send("GET", path, &[("x-agilebits-session-id", &id), ("x-agilebits-mac", &mac)], "").await
    }
}

impl Session {
    pub(crate) fn sign(&self, method: &str, path: &str, counter: u64) -> String {
        let key = hmac(&self.key, b"He never wears a Mac, in the pouring rain. Very strange.");
        let path = if path.contains('?') { path.to_owned() } else { format!("{path}?") };
        let message = format!("{}|{method}|my.1password.com{path}|v1|{counter}", self.id);
        format!("v1|{counter}|{}", B64.encode(&hmac(&key, message.as_bytes())[..12]))
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&Key::<Aes256Gcm>::from(self.key))
    }

    pub(crate) fn seal(&self, body: &Value) -> Value {
        let nonce = [7; 12];
        let data = self.cipher().encrypt(&Nonce::<Aes256Gcm>::from(nonce), body.to_string().as_bytes()).unwrap();
        let (iv, data) = (B64.encode(nonce), B64.encode(data));
        json!({ "cty": "b5+jwk+json", "kid": self.id, "enc": "A256GCM", "iv": iv, "data": data })
    }

    pub(crate) fn open(&self, envelope: &Value) -> Value {
        assert_eq!(envelope["kid"], self.id);
        let iv: [u8; 12] = B64.decode(envelope["iv"].as_str().unwrap()).unwrap().try_into().unwrap();
        let data = B64.decode(envelope["data"].as_str().unwrap()).unwrap();
        serde_json::from_slice(&self.cipher().decrypt(&Nonce::<Aes256Gcm>::from(iv), data.as_slice()).unwrap()).unwrap()
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn throttling_token(secret: &Value) -> String {
    let seed: [u8; 32] = HEXLOWER.decode(secret["seed"].as_str().unwrap().as_bytes()).unwrap().try_into().unwrap();
    let now = jiff::Timestamp::now();
    let text = |time: jiff::Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let claims = format!(r#"{{"iat":"{}","exp":"{}"}}"#, text(now), text(now + jiff::SignedDuration::from_hours(1)));
    let footer = format!(r#"{{"kid":{}}}"#, secret["uuid"]);
    let mut signed = 4u64.to_le_bytes().to_vec();
    for part in ["v4.public.", &claims, &footer, "B5_THROTTLING_TOKEN"] {
        signed.extend((part.len() as u64).to_le_bytes());
        signed.extend(part.as_bytes());
    }
    let signature = SigningKey::from_bytes(&seed).sign(&signed).to_bytes();
    format!("v4.public.{}.{}", B64.encode([claims.as_bytes(), &signature].concat()), B64.encode(footer))
}

/// The client's half of a sign-in.
struct Srp {
    params: FixedMontyParams<{ U4096::LIMBS }>,
    constants: Value,
    identity: String,
    x: U256,
    a: U256,
    public: U4096,
}

impl Srp {
    fn new(token: &Value) -> Self {
        let constants = serde_json::from_str::<Value>(VECTORS).unwrap()["srp"].take();
        let modulus = Odd::<U4096>::from_be_hex(constants["N"].as_str().unwrap());
        let params = FixedMontyParams::new_vartime(modulus);
        let mut a = [0; 32];
        getrandom::fill(&mut a).unwrap();
        let a = U256::from_be_slice(&a);
        let hash = |text: &str| Sha256::digest(text.as_bytes()).to_vec();
        let skid = &token["secretKey"].as_str().unwrap()[3..9];
        let identity = Sha256::digest([hash(skid), hash(token["email"].as_str().unwrap())].concat());
        Self {
            public: FixedMontyForm::new(&U4096::from(5u32), &params).pow(&a).retrieve(),
            x: U256::from_be_hex(token["srpX"].as_str().unwrap()),
            identity: B64.encode(identity),
            params,
            constants,
            a,
        }
    }

    fn user_a(&self) -> String {
        digits(&self.public)
    }

    /// The session key, the proof to send and the proof to expect.
    fn agree(&self, user_b: &str, salt: &[u8]) -> ([u8; 32], [u8; 32], [u8; 32]) {
        let element = |value: &U4096| FixedMontyForm::new(value, &self.params);
        let public_b = U4096::from_be_hex(&format!("{user_b:0>1024}"));
        let constant = |name: &str| HEXLOWER.decode(self.constants[name].as_str().unwrap().as_bytes()).unwrap();
        let k = U256::from_be_slice(&constant("k")).resize();
        let u = U256::from_be_slice(&Sha256::digest([padded(&self.public), padded(&public_b)].concat()));
        let base = element(&public_b).sub(&element(&k).mul(&element(&U4096::from(5u32)).pow(&self.x)));
        let secret = base.pow(&self.a).mul(&base.pow(&u).pow(&self.x)).retrieve();
        let key: [u8; 32] = Sha256::digest(digits(&secret).as_bytes()).into();
        let groups: Vec<u8> =
            constant("hashN").iter().zip(constant("hashG")).map(|(left, right)| left ^ right).collect();
        let (a, b) = (minimal(&self.public), minimal(&public_b));
        let identity = Sha256::digest(self.identity.as_bytes()).to_vec();
        let proof: [u8; 32] = Sha256::digest([&groups, &identity, salt, &a, &b, &key].concat()).into();
        let expected: [u8; 32] = Sha256::digest([&a[..], &proof, &key].concat()).into();
        (key, proof, expected)
    }
}

fn padded(number: &U4096) -> Vec<u8> {
    number.to_be_bytes().as_ref().to_vec()
}

fn minimal(number: &U4096) -> Vec<u8> {
    padded(number).into_iter().skip_while(|byte| *byte == 0).collect()
}

fn digits(number: &U4096) -> String {
    HEXLOWER.encode(&padded(number)).trim_start_matches('0').to_owned()
}
