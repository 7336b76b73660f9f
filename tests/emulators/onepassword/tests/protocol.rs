//! What the server requires, tested by a client that breaks one rule at a time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod support;

use futures::future::join_all;
use keyway_emulator_onepassword::{
    CounterRule, DeniedWrite, DeviceState, Emulator, Endpoint, Options, Rules, ThrottlingRule, VaultAccess,
};
use serde_json::{Value, json};
use support::Client;

const VAULTS: &str = "/api/v1/vaults?attrs=combined-access";
const KEYSETS: &str = "/api/v2/account/keysets";
const UNKNOWN_ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaa";

fn emulator(rules: Rules) -> Emulator {
    Emulator::start_with(Options { rules, ..Options::default() }).unwrap()
}

/// The id of a vault, and the path of an item in it.
fn item_path(emulator: &Emulator, vault: &str, item: &str) -> (String, String) {
    let account = emulator.account("automation").unwrap();
    let vault = account.vault(vault).unwrap();
    (vault.id.clone(), format!("/api/v1/vault/{}/item/{}", vault.id, vault.item(item).unwrap().id))
}

/// The request that stores an item, unchanged except for `change`.
fn patch_of(item: &Value, change: Value) -> Value {
    let mut patch = item.clone();
    let members = patch.as_object_mut().unwrap();
    for unsent in ["faveIndex", "changerUuid", "packageUuid"] {
        members.remove(unsent);
    }
    members.extend(change.as_object().unwrap().clone());
    patch
}

struct Writing {
    emulator: Emulator,
    client: Client,
    vault: String,
    item: Value,
    content_version: u64,
}

/// A signed-in client that has read an item of the vault.
async fn writing(vault: &str, item: &str) -> Writing {
    let emulator = emulator(Rules::default());
    let mut client = Client::signed_in(&emulator, "automation").await;
    let (vault, path) = item_path(&emulator, vault, item);
    let (_, answer) = client.call("GET", &path, None).await;
    let content_version = answer["contentVersion"].as_u64().unwrap();
    Writing { emulator, client, vault, item: answer["item"].clone(), content_version }
}

impl Writing {
    async fn patch(&mut self, content_version: u64, items: Value) -> (u16, Value) {
        let path = format!("/api/v3/vault/{}/{content_version}/items", self.vault);
        self.client.call("PATCH", &path, Some(items)).await
    }
}

// ---- sessions and signatures ----

#[tokio::test]
async fn a_session_is_good_for_nothing_before_it_is_complete() {
    let emulator = emulator(Rules::default());
    let mut client = Client::new(&emulator, "automation");
    client.agree().await;
    assert_eq!(client.call("GET", KEYSETS, None).await.0, 401);
    assert_eq!(emulator.calls().logins, 0);
    client.sign_in().await;
    assert_eq!(client.call("GET", KEYSETS, None).await.0, 200);
}

#[tokio::test]
async fn a_request_that_is_not_signed_or_wrongly_signed_is_refused() {
    let emulator = emulator(Rules::default());
    let client = Client::signed_in(&emulator, "automation").await;
    let session = client.session.clone().unwrap();
    for mac in [
        String::new(),
        "v1|1|AAAAAAAAAAAAAAAA".to_owned(),
        session.sign("POST", KEYSETS, 2000),
        session.sign("GET", VAULTS, 2000),
        session.sign("GET", KEYSETS, 2000).replace("2000", "2001"),
    ] {
        let headers = [("x-agilebits-session-id", session.id.as_str()), ("x-agilebits-mac", mac.as_str())];
        let reply = client.send("GET", KEYSETS, &headers, "").await.unwrap();
        assert_eq!((reply.status, &reply.json()["errorCode"]), (401, &json!(102)), "{mac}");
    }
    let mac = session.sign("GET", KEYSETS, 2000);
    let headers = [("x-agilebits-session-id", session.id.as_str()), ("x-agilebits-mac", mac.as_str())];
    assert_eq!(client.send("GET", KEYSETS, &headers, "").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_counter_is_accepted_once_under_each_rule_that_says_so() {
    for (rule, repeated, overtaken) in
        [(CounterRule::Unique, 401, 200), (CounterRule::Ascending, 401, 401), (CounterRule::Unchecked, 200, 200)]
    {
        let emulator = emulator(Rules { counters: rule, ..Rules::default() });
        let client = Client::signed_in(&emulator, "automation").await;
        assert_eq!(client.call_with_counter("GET", KEYSETS, None, 5000).await.0, 200);
        assert_eq!(client.call_with_counter("GET", KEYSETS, None, 5000).await.0, repeated, "{rule:?}");
        assert_eq!(client.call_with_counter("GET", KEYSETS, None, 4000).await.0, overtaken, "{rule:?}");
    }
}

#[tokio::test]
async fn a_client_that_nobody_knows_is_refused_with_an_empty_text() {
    let emulator = emulator(Rules::default());
    let mut client = Client::new(&emulator, "automation");
    client.client_name = "Keyway/1";
    let reply = client.start().await;
    assert_eq!((reply.status, reply.body.len()), (403, 0));
    assert_eq!(reply.headers["content-type"], "text/plain");
}

#[tokio::test]
async fn a_throttling_token_is_asked_of_accounts_that_have_a_key_for_it() {
    let emulator = emulator(Rules::default());
    let mut without = Client::new(&emulator, "automation");
    without.throttling = None;
    assert_eq!(without.start().await.status, 400);
    assert_eq!(Client::new(&emulator, "auditor").start().await.status, 200);
    let mut client = Client::signed_in(&emulator, "automation").await;
    client.throttling = client.throttling.map(|token| token.replace("v4.public.e", "v4.public.f"));
    assert_eq!(client.call("GET", KEYSETS, None).await.0, 400);
    emulator.set_rules(Rules { throttling: ThrottlingRule::Ignored, ..Rules::default() });
    assert_eq!(client.call("GET", KEYSETS, None).await.0, 200);
}

#[tokio::test]
async fn expired_and_signed_out_sessions_are_refused() {
    let emulator = emulator(Rules::default());
    let mut client = Client::signed_in(&emulator, "automation").await;
    emulator.expire_sessions();
    assert_eq!(client.call("GET", KEYSETS, None).await.0, 401);
    client.sign_in().await;
    assert_eq!(client.call("PUT", "/api/v1/session/signout", None).await.0, 200);
    assert_eq!(client.call("GET", KEYSETS, None).await.0, 401);
}

#[tokio::test]
async fn a_revoked_token_is_refused_with_the_status_that_was_asked_for() {
    let emulator = emulator(Rules::default());
    let mut client = Client::signed_in(&emulator, "automation").await;
    for status in [401, 400] {
        emulator.revoke_token("automation", status).unwrap();
        assert_eq!(client.start().await.status, status);
        assert_eq!(client.call("GET", KEYSETS, None).await.0, 401);
    }
    emulator.restore_token("automation").unwrap();
    client.sign_in().await;
}

#[tokio::test]
async fn a_session_started_on_an_unknown_device_is_good_for_registering_it_only() {
    let emulator = emulator(Rules::default());
    emulator.set_device("automation", DeviceState::NotRegistered).unwrap();
    let client = Client::new(&emulator, "automation");
    let start = client.start().await.json();
    assert_eq!(start["status"], "device-not-registered");
    let headers = [("x-agilebits-session-id", start["sessionID"].as_str().unwrap())];
    assert_eq!(client.send("POST", "/api/v2/auth", &headers, r#"{"userA":"5"}"#).await.unwrap().status, 401);
    let reauthorize = format!("/api/v1/device/{UNKNOWN_ID}/reauthorize");
    assert_eq!(client.send("PUT", &reauthorize, &headers, "").await.unwrap().status, 400);
    let device = json!({ "uuid": UNKNOWN_ID, "clientName": "1Password SDK" }).to_string();
    assert_eq!(client.send("POST", "/api/v1/device", &headers, device).await.unwrap().json(), json!({ "success": 1 }));
    assert_eq!(client.start().await.json()["status"], "ok");
}

#[tokio::test]
async fn many_requests_at_once_are_all_answered() {
    let emulator = emulator(Rules::default());
    let client = Client::signed_in(&emulator, "automation").await;
    let calls = (5000..5064).rev().map(|counter| client.call_with_counter("GET", VAULTS, None, counter));
    assert!(
        join_all(calls).await.iter().all(|(status, vaults)| *status == 200 && vaults.as_array().unwrap().len() == 3)
    );
    assert_eq!(emulator.calls().of(Endpoint::Vaults), 64);
}

// ---- reading ----

#[tokio::test]
async fn a_vault_says_what_the_account_may_do_with_it() {
    let emulator = emulator(Rules::default());
    let mut client = Client::signed_in(&emulator, "automation").await;
    let account = emulator.account("automation").unwrap();
    for (name, acl) in [("Automation", 2032), ("Finance (read-only)", 48)] {
        let path = format!("/api/v3/vault/{}?attrs=combined-access", account.vault(name).unwrap().id);
        let (_, vault) = client.call("GET", &path, None).await;
        assert_eq!(vault["combinedAccess"]["acl"], acl);
        assert!(vault.get("access").is_none());
    }
    emulator.set_access("automation", "Automation", Some(VaultAccess::ReadOnly)).unwrap();
    let path = format!("/api/v3/vault/{}?attrs=accessors,combined-access", account.vault("Automation").unwrap().id);
    let (_, vault) = client.call("GET", &path, None).await;
    assert_eq!((&vault["combinedAccess"]["acl"], &vault["access"][0]["acl"]), (&json!(48), &json!(48)));
}

#[tokio::test]
async fn what_is_missing_or_hidden_is_refused_with_the_status_of_the_rules() {
    let emulator = emulator(Rules::default());
    let mut client = Client::signed_in(&emulator, "auditor").await;
    let staging = emulator.account("automation").unwrap().vault("Staging").unwrap().id.clone();
    let automation = emulator.account("auditor").unwrap().vault("Automation").unwrap().id.clone();
    for (hidden, missing) in [(404, 404), (403, 400)] {
        emulator.set_rules(Rules { hidden_vault_status: hidden, missing_item_status: missing, ..Rules::default() });
        for vault in [staging.as_str(), UNKNOWN_ID] {
            for path in [format!("/api/v3/vault/{vault}"), format!("/api/v1/vault/{vault}/items/overviews")] {
                assert_eq!(client.call("GET", &path, None).await.0, hidden);
            }
        }
        let path = format!("/api/v1/vault/{automation}/item/{UNKNOWN_ID}");
        assert_eq!(client.call("GET", &path, None).await.0, missing);
    }
    assert_eq!(client.call("GET", "/api/v9/nothing", None).await.0, 404);
}

#[tokio::test]
async fn overviews_leave_out_deleted_items_and_all_details() {
    let emulator = emulator(Rules::default());
    let mut client = Client::signed_in(&emulator, "automation").await;
    let account = emulator.account("automation").unwrap();
    let vault = account.vault("Automation").unwrap();
    let (_, answer) = client.call("GET", &format!("/api/v1/vault/{}/items/overviews", vault.id), None).await;
    let items = answer["items"].as_array().unwrap();
    assert_eq!(items.len(), vault.items.len() - 1);
    assert_eq!(answer["deletedItemUuids"], json!([vault.item("Trial Account (expired)").unwrap().id]));
    assert!(items.iter().all(|item| item["encOverview"].is_object() && item.get("encDetails").is_none()));
    assert_eq!(items.iter().filter(|item| item["trashed"] == "Y").count(), 2);
}

#[tokio::test]
async fn a_listing_in_batches_gives_every_item_once() {
    let emulator = emulator(Rules { batch_size: Some(7), ..Rules::default() });
    let mut client = Client::signed_in(&emulator, "automation").await;
    let account = emulator.account("automation").unwrap();
    let vault = account.vault("Automation").unwrap();
    let (_, first) = client.call("GET", &format!("/api/v1/vault/{}/items/overviews", vault.id), None).await;
    assert_eq!((first["items"].as_array().unwrap().len(), &first["batchComplete"]), (7, &json!(false)));
    let (mut since, mut seen, mut complete) = (0, Vec::new(), false);
    while !complete {
        let (_, batch) = client.call("GET", &format!("/api/v2/vault/{}/{since}/items", vault.id), None).await;
        seen.extend(batch["items"].as_array().unwrap().iter().map(|item| item["uuid"].as_str().unwrap().to_owned()));
        since = batch["contentVersion"].as_u64().unwrap();
        complete = batch["batchComplete"].as_bool().unwrap();
    }
    seen.sort_unstable();
    assert_eq!(seen, vault.items.iter().map(|item| item.id.clone()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_batch_leaves_out_unknown_items_and_takes_fifty_at_most() {
    let emulator = emulator(Rules::default());
    let mut client = Client::signed_in(&emulator, "automation").await;
    let (vault, path) = item_path(&emulator, "Staging", "Metrics");
    let known = path.rsplit_once('/').unwrap().1;
    let path = format!("/api/v3/vault/{vault}/items/batch");
    let (_, batch) = client.call("POST", &path, Some(json!({ "itemUuids": [UNKNOWN_ID, known] }))).await;
    let items = batch["items"].as_array().unwrap();
    assert!(items.len() == 1 && items[0]["uuid"] == known && items[0]["encDetails"].is_object());
    let too_many = json!({ "itemUuids": vec![known; 51] });
    assert_eq!(client.call("POST", &path, Some(too_many)).await.0, 400);
}

#[tokio::test]
async fn a_keyset_that_nobody_can_open_is_there_when_the_rules_say_so() {
    let emulator = emulator(Rules { foreign_keyset: true, ..Rules::default() });
    let mut client = Client::signed_in(&emulator, "automation").await;
    assert_eq!(client.call("GET", KEYSETS, None).await.1["keysets"].as_array().unwrap().len(), 3);
}

// ---- writing ----

#[tokio::test]
async fn a_change_is_stored_as_it_came_and_takes_both_versions_one_further() {
    let mut writing = writing("Automation", "Northwind Supplier Portal").await;
    let id = writing.item["uuid"].as_str().unwrap().to_owned();
    let patch = patch_of(&writing.item, json!({ "updatedAt": "2026-01-02T03:04:05Z" }));
    let (status, answer) = writing.patch(writing.content_version, json!([patch])).await;
    assert_eq!(status, 200);
    let next = writing.content_version + 1;
    assert_eq!(answer, json!({ "contentVersion": next, "updatedItems": { &id: 2 }, "failedItems": {} }));
    let path = format!("/api/v1/vault/{}/item/{id}", writing.vault);
    let (_, after) = writing.client.call("GET", &path, None).await;
    assert_eq!(after["item"]["encDetails"], writing.item["encDetails"]);
    assert_eq!(after["item"]["updatedAt"], "2026-01-02T03:04:05Z");
    assert_ne!(after["item"]["changerUuid"], writing.item["changerUuid"]);
}

#[tokio::test]
async fn a_stale_content_version_is_a_conflict_and_a_stale_item_version_fails_the_item() {
    let mut writing = writing("Automation", "Northwind Supplier Portal").await;
    let id = writing.item["uuid"].as_str().unwrap().to_owned();
    let patch = patch_of(&writing.item, json!({}));
    assert_eq!(writing.patch(writing.content_version - 1, json!([patch])).await.0, 409);
    assert_eq!(writing.patch(writing.content_version, json!([patch])).await.0, 200);
    let (status, answer) = writing.patch(writing.content_version + 1, json!([patch])).await;
    assert_eq!((status, &answer["failedItems"][&id]), (200, &json!(104)));
    assert_eq!(answer["contentVersion"], writing.content_version + 1);
}

#[tokio::test]
async fn items_that_are_not_ones_fail_each_for_itself() {
    let mut writing = writing("Automation", "Northwind Supplier Portal").await;
    let finance = item_path(&writing.emulator, "Finance (read-only)", "Ledger Cloud").1;
    let foreign = writing.client.call("GET", &finance, None).await.1["item"]["encDetails"].clone();
    for bad in [
        json!({ "encDetails": foreign }),
        json!({ "encryptedBy": UNKNOWN_ID }),
        json!({ "templateUuid": "1" }),
        json!({ "updatedAt": "2026-01-02T03:04:05.123Z" }),
        json!({ "uuid": "NOT-AN-ID", "itemVersion": 0 }),
        json!({ "uuid": UNKNOWN_ID, "itemVersion": 3 }),
    ] {
        let patch = patch_of(&writing.item, bad.clone());
        let id = patch["uuid"].as_str().unwrap().to_owned();
        let (status, answer) = writing.patch(writing.content_version, json!([patch])).await;
        assert_eq!((status, &answer["failedItems"][&id]), (200, &json!(100)), "{bad}");
    }
    let new = patch_of(&writing.item, json!({ "uuid": UNKNOWN_ID, "itemVersion": 0 }));
    let bad = patch_of(&writing.item, json!({ "templateUuid": "" }));
    let (_, answer) = writing.patch(writing.content_version, json!([new, bad])).await;
    assert_eq!(answer["updatedItems"], json!({ UNKNOWN_ID: 1 }));
    assert_eq!(answer["failedItems"].as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn an_unknown_member_or_no_item_at_all_is_a_bad_request() {
    let mut writing = writing("Automation", "Northwind Supplier Portal").await;
    let patch = patch_of(&writing.item, json!({ "faveIndex": 0 }));
    assert_eq!(writing.patch(writing.content_version, json!([patch])).await.0, 400);
    assert_eq!(writing.patch(writing.content_version, json!([])).await.0, 400);
}

#[tokio::test]
async fn a_vault_that_may_only_be_read_refuses_changes_as_the_rules_say() {
    let mut writing = writing("Finance (read-only)", "Ledger Cloud").await;
    let id = writing.item["uuid"].as_str().unwrap().to_owned();
    let patch = json!([patch_of(&writing.item, json!({}))]);
    assert_eq!(writing.patch(writing.content_version, patch.clone()).await.0, 403);
    writing.emulator.set_rules(Rules { read_only_write: DeniedWrite::FailedItems, ..Rules::default() });
    let (status, answer) = writing.patch(writing.content_version, patch).await;
    assert_eq!((status, &answer["failedItems"][&id]), (200, &json!(101)));
    assert_eq!(answer["contentVersion"], writing.content_version);
}
