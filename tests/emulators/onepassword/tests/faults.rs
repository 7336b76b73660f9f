//! Misbehaviour on demand, as seen on the wire.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod support;

use std::time::{Duration, Instant};

use keyway_emulator_onepassword::{Emulator, Endpoint, Fault, FaultRule, RetryAfterForm};
use serde_json::json;
use support::{Client, Reply};

const KEYSETS: &str = "/api/v2/account/keysets";

async fn setting() -> (Emulator, Client) {
    let emulator = Emulator::start().unwrap();
    let client = Client::signed_in(&emulator, "automation").await;
    (emulator, client)
}

/// The answer to the next call, to which that fault applies.
async fn reply_to(emulator: &Emulator, client: &mut Client, fault: Fault) -> Result<Reply, String> {
    emulator.fault(FaultRule::next(fault));
    let reply = client.raw(KEYSETS).await;
    assert!(emulator.faults().is_empty());
    reply
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back_where_it_was_told_to() {
    let (emulator, mut client) = setting().await;
    for (form, in_header, in_body) in [
        (RetryAfterForm::Header, true, false),
        (RetryAfterForm::HeaderDate, true, false),
        (RetryAfterForm::Body, false, true),
        (RetryAfterForm::Both, true, true),
    ] {
        let reply = reply_to(&emulator, &mut client, Fault::rate_limited(17, form)).await.unwrap();
        assert_eq!(reply.status, 429);
        let header = reply.headers.get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!((header.is_some(), reply.json()["retryAfter"] == 17), (in_header, in_body), "{form:?}");
        assert_eq!(header.is_some_and(|value| value.ends_with("GMT")), form == RetryAfterForm::HeaderDate);
    }
}

#[tokio::test]
async fn a_status_carries_the_body_that_it_was_given() {
    let (emulator, mut client) = setting().await;
    let body = Some(json!({ "reason": "maintenance" }));
    let fault = Fault::Status { status: 503, retry_after_seconds: None, retry_after_in: RetryAfterForm::Header, body };
    let reply = reply_to(&emulator, &mut client, fault).await.unwrap();
    assert_eq!((reply.status, reply.json()), (503, json!({ "reason": "maintenance" })));
}

#[tokio::test]
async fn connections_end_without_an_answer_or_in_the_middle_of_one() {
    let (emulator, mut client) = setting().await;
    for fault in [
        Fault::Drop { handled: false },
        Fault::Drop { handled: true },
        Fault::Hang { milliseconds: 50 },
        Fault::Truncated,
    ] {
        assert!(reply_to(&emulator, &mut client, fault.clone()).await.is_err(), "{fault:?}");
    }
    let statuses: Vec<_> = emulator.requests().iter().rev().take(4).map(|request| request.status).collect();
    assert_eq!(statuses, [Some(200), None, None, None]);
    assert_eq!(client.raw(KEYSETS).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_delay_comes_before_the_right_answer() {
    let (emulator, mut client) = setting().await;
    let started = Instant::now();
    let reply = reply_to(&emulator, &mut client, Fault::Delay { milliseconds: 80 }).await.unwrap();
    assert_eq!(reply.status, 200);
    assert!(started.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn answers_are_not_what_they_should_be() {
    let (emulator, mut client) = setting().await;
    let reply = reply_to(&emulator, &mut client, Fault::Garbage).await.unwrap();
    assert!(reply.status == 200 && serde_json::from_slice::<serde_json::Value>(&reply.body).is_err());
    let reply = reply_to(&emulator, &mut client, Fault::Oversized { bytes: 3_000_000 }).await.unwrap();
    assert_eq!((reply.status, reply.body.len()), (200, 3_000_000));
    let elsewhere = Fault::Redirect { location: "http://127.0.0.1:1/".to_owned() };
    let reply = reply_to(&emulator, &mut client, elsewhere).await.unwrap();
    assert_eq!((reply.status, &reply.headers["location"]), (302, &"http://127.0.0.1:1/".parse().unwrap()));
    let html = Fault::ContentType { value: "text/html".to_owned() };
    let reply = reply_to(&emulator, &mut client, html).await.unwrap();
    assert_eq!((reply.status, &reply.headers["content-type"]), (200, &"text/html".parse().unwrap()));
}

#[tokio::test]
async fn envelopes_are_spoilt_in_four_ways() {
    let (emulator, mut client) = setting().await;
    let session = client.session.clone().unwrap();
    let right = client.raw(KEYSETS).await.unwrap().json();
    for fault in [Fault::TamperedEnvelope, Fault::WrongEnvelopeKey, Fault::WrongEnvelopeKid, Fault::GarbagePlaintext] {
        let reply = reply_to(&emulator, &mut client, fault.clone()).await.unwrap().json();
        assert_eq!(reply["kid"] == right["kid"], fault != Fault::WrongEnvelopeKid);
        assert!(std::panic::catch_unwind(|| session.open(&reply)).is_err(), "{fault:?}");
    }
    let error = Fault::EnvelopeError { code: 117, message: "Not found.".to_owned() };
    let reply = reply_to(&emulator, &mut client, error).await.unwrap();
    assert_eq!((reply.status, &session.open(&reply.json())["errorCode"]), (200, &json!(117)));
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_has_taken_effect_and_one_that_was_not_handled_has_not() {
    let (emulator, mut client) = setting().await;
    let account = emulator.account("automation").unwrap();
    let vault = account.vault("Staging").unwrap();
    let item = &vault.item("Metrics").unwrap().id;
    for (handled, version) in [(false, 1), (true, 2)] {
        let path = format!("/api/v1/vault/{}/item/{item}", vault.id);
        let (_, answer) = client.call("GET", &path, None).await;
        let mut patch = answer["item"].clone();
        for unsent in ["faveIndex", "changerUuid", "packageUuid"] {
            patch.as_object_mut().unwrap().remove(unsent);
        }
        emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::Drop { handled }));
        let path = format!("/api/v3/vault/{}/{}/items", vault.id, answer["contentVersion"]);
        let session = client.session.as_mut().unwrap();
        session.counter += 1;
        let (mac, id) = (session.sign("PATCH", &path, session.counter), session.id.clone());
        let body = session.seal(&json!([patch])).to_string();
        let headers = [("x-agilebits-session-id", id.as_str()), ("x-agilebits-mac", mac.as_str())];
        assert!(client.send("PATCH", &path, &headers, body).await.is_err());
        assert_eq!(emulator.item(&vault.id, item).unwrap().item_version, version);
    }
}

#[tokio::test]
async fn a_lasting_fault_ends_when_it_is_cleared() {
    let (emulator, mut client) = setting().await;
    emulator.fault(FaultRule::next_of(Endpoint::Keysets, Fault::status(500)).always());
    for _ in 0..3 {
        assert_eq!(client.raw(KEYSETS).await.unwrap().status, 500);
    }
    emulator.clear_faults();
    assert_eq!(client.raw(KEYSETS).await.unwrap().status, 200);
}
