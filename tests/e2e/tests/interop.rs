//! The official SDK and the compiled provider on the same account: each reads what the other wrote,
//! and their results agree.
//!
//! Needs Node.js, and `npm ci` in `tests/e2e/node`; without them the tests fail and say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

#[path = "../node/driver.rs"]
mod official_sdk;

use keyway_e2e::Lab;
use keyway_emulator_onepassword::{ItemState, WrongToken};
use keyway_runtime::contract::{Changes, Resolved};
use keyway_runtime::{CallError, ErrorCode, Fields, OpenConnection};
use official_sdk::OfficialSdk;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

const VAULT: &str = "Automation";
const ITEM: &str = "Northwind Supplier Portal";

async fn lab() -> (Lab, OpenConnection, OfficialSdk) {
    let lab = Lab::start().await.unwrap();
    let connection = lab.connect("automation").unwrap();
    let sdk = OfficialSdk::signed_in(lab.emulator.url(), &lab.emulator.account("automation").unwrap().token);
    (lab, connection, sdk)
}

fn text(secret: Option<&SecretString>) -> Option<&str> {
    secret.map(|secret| secret.expose_secret())
}

async fn resolve(lab: &Lab, connection: &OpenConnection, reference: &str) -> Resolved {
    lab.provider.resolve(connection, reference, Fields::ALL).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_resolve_the_same_values_of_every_login() {
    let (lab, connection, mut sdk) = lab().await;
    let account = lab.emulator.account("automation").unwrap();
    let items = account.vaults.iter().flat_map(|vault| &vault.items);
    let mut compared = 0;
    for item in items.filter(|item| item.state == ItemState::Active && item.category == "login") {
        let ours = resolve(&lab, &connection, &item.reference).await;
        for (field, ours, expected) in [
            ("username", text(ours.username.as_ref()), &item.username),
            ("password", text(ours.password.as_ref()), &item.password),
        ] {
            assert_eq!(ours, expected.as_deref(), "{} {field}", item.title);
            // The SDK gives no answer for a field that is absent or empty.
            if let Some(value) = ours.filter(|value| !value.is_empty()) {
                assert_eq!(
                    sdk.resolve(&format!("{}/{field}", item.reference)).unwrap(),
                    value,
                    "{} {field}",
                    item.title
                );
                compared += 1;
            }
        }
        // A code that neither can compute is absent; the other values are still returned.
        let usable = item.otpauth.as_deref().is_none_or(|uri| !uri.starts_with("otpauth://hotp"));
        let has_code = ours.one_time_code.is_some_and(|code| code.is_ok());
        assert_eq!(has_code, item.has_one_time_code && usable, "{}", item.title);
    }
    assert!(compared >= 10, "only {compared} values were compared");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_make_the_same_one_time_code() {
    let (lab, connection, mut sdk) = lab().await;
    let reference = lab.reference(VAULT, ITEM).unwrap();
    // The period may end between the two reads; then the next attempt is within one.
    let mut pairs = Vec::new();
    for _ in 0..3 {
        let ours = resolve(&lab, &connection, &reference).await.one_time_code.unwrap().unwrap();
        let theirs = sdk.resolve(&format!("{reference}/one-time password?attribute=otp")).unwrap();
        if ours.code.expose_secret() == theirs {
            return;
        }
        pairs.push((ours.expires_at, theirs));
    }
    panic!("the codes never agreed: {pairs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_list_the_same_logins() {
    let (lab, connection, mut sdk) = lab().await;
    let mut ours = Vec::new();
    let mut next = None;
    loop {
        let page = lab.provider.list_items(&connection, next.as_deref()).await.unwrap();
        ours.extend(page.items);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    let mut theirs = Vec::new();
    for vault in sdk.call(json!({ "op": "vaults.list" })).unwrap().as_array().unwrap() {
        let items = sdk.call(json!({ "op": "items.list", "vault": vault["id"] })).unwrap();
        let has_credentials = |item: &&Value| item["category"] == "Login" || item["category"] == "Password";
        for item in items.as_array().unwrap().iter().filter(has_credentials) {
            theirs.push((
                vault["id"].as_str().unwrap().to_owned(),
                item["id"].as_str().unwrap().to_owned(),
                item["title"].as_str().unwrap().to_owned(),
            ));
        }
    }
    let mut ours: Vec<_> = ours.into_iter().map(|item| (item.vault_id.unwrap(), item.id, item.title)).collect();
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_reads_what_the_sdk_wrote_and_the_sdk_what_the_provider_wrote() {
    let (lab, connection, mut sdk) = lab().await;
    let reference = lab.reference(VAULT, ITEM).unwrap();
    let (vault, item) = reference.strip_prefix("op://").unwrap().split_once('/').unwrap();
    let before = resolve(&lab, &connection, &reference).await;

    sdk.put_password(vault, item, "written by the SDK").unwrap();
    let between = resolve(&lab, &connection, &reference).await;
    assert_eq!(text(between.password.as_ref()), Some("written by the SDK"));
    assert_ne!(between.revision, before.revision);

    let changes = Changes::default().username("new-user").password("written by Keyway: ümläut \"\\");
    let revision = lab.provider.write(&connection, &reference, changes, Some(&between.revision)).await.unwrap();
    assert_eq!(sdk.resolve(&format!("{reference}/password")).unwrap(), "written by Keyway: ümläut \"\\");
    assert_eq!(sdk.resolve(&format!("{reference}/username")).unwrap(), "new-user");
    let after = resolve(&lab, &connection, &reference).await;
    assert_eq!(after.revision, revision);

    // And the SDK can still edit it.
    sdk.put_password(vault, item, "once more").unwrap();
    assert_eq!(text(resolve(&lab, &connection, &reference).await.password.as_ref()), Some("once more"));
    // Ours is for a revision that no longer exists.
    let stale = Changes::default().password("too late");
    let error = lab.provider.write(&connection, &reference, stale, Some(&revision)).await.unwrap_err();
    assert!(matches!(&error, CallError::Provider(error) if error.code == ErrorCode::Conflict), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_refused_to_both() {
    let (lab, _, mut sdk) = lab().await;
    let wrong = lab.emulator.wrong_token("automation", WrongToken::SrpX).unwrap();
    let error = sdk.sign_in(wrong.expose()).unwrap_err();
    assert!(error.message.contains("authenticat"), "{error}");
    let error = lab.provider.verify(&lab.connect_with(wrong.expose()).unwrap()).await.unwrap_err();
    assert!(matches!(&error, CallError::Provider(error) if error.code == ErrorCode::Unauthenticated), "{error}");
}
