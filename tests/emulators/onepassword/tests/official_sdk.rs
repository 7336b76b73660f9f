//! 1Password's own SDK against the emulator: everything that it can do with a service account
//! works, and it is refused what it should be.
//!
//! Needs Node.js, and `npm ci` in `tests/e2e/node`; without them the tests fail and say so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

#[path = "../../../e2e/node/driver.rs"]
mod official_sdk;

use std::time::{SystemTime, UNIX_EPOCH};

use keyway_emulator_onepassword::{
    AccountInfo, CounterRule, DeniedWrite, DeviceState, Emulator, Endpoint, Fault, FaultRule, ItemChange, ItemState,
    Options, RetryAfterForm, Rules, VaultAccess, WrongToken,
};
use official_sdk::OfficialSdk;
use serde_json::{Value, json};

const SUPPLIERS: &str = "Northwind Supplier Portal";

struct Setting {
    emulator: Emulator,
    account: AccountInfo,
    sdk: OfficialSdk,
}

/// An emulator, and the SDK signed in with one of its accounts.
fn signed_in(account: &str) -> Setting {
    let emulator = Emulator::start().unwrap();
    let account = emulator.account(account).unwrap();
    let sdk = OfficialSdk::signed_in(emulator.url(), &account.token);
    Setting { emulator, account, sdk }
}

/// Sorted: the SDK returns lists in an order of its own.
fn titles(list: &Value) -> Vec<&str> {
    let mut titles: Vec<_> = list.as_array().unwrap().iter().map(|entry| entry["title"].as_str().unwrap()).collect();
    titles.sort_unstable();
    titles
}

#[test]
fn it_signs_in_with_four_requests_and_lists_the_vaults_of_the_account() {
    let Setting { emulator, mut sdk, .. } = signed_in("automation");
    let calls = emulator.calls();
    assert_eq!((calls.total, calls.logins), (4, 1));
    let vaults = sdk.call(json!({ "op": "vaults.list" })).unwrap();
    assert_eq!(titles(&vaults), ["Automation", "Finance (read-only)", "Staging"]);
    sdk.sign_in(&emulator.account("newcomer").unwrap().token).unwrap();
    assert_eq!(sdk.call(json!({ "op": "vaults.list" })).unwrap(), json!([]));
}

#[test]
fn it_lists_and_gets_every_active_item_of_every_vault() {
    let Setting { emulator: _running, account, mut sdk } = signed_in("automation");
    for vault in &account.vaults {
        let list = sdk.call(json!({ "op": "items.list", "vault": vault.id })).unwrap();
        let active: Vec<_> = vault.items.iter().filter(|item| item.state == ItemState::Active).collect();
        let mut expected: Vec<_> = active.iter().map(|item| item.title.as_str()).collect();
        expected.sort_unstable();
        assert_eq!(titles(&list), expected);
        for item in active {
            let got = sdk.call(json!({ "op": "items.get", "vault": vault.id, "item": item.id })).unwrap();
            assert_eq!(got["title"], item.title);
        }
    }
}

#[test]
fn it_resolves_the_built_in_user_name_and_password_of_every_login() {
    let Setting { emulator: _running, account, mut sdk } = signed_in("auditor");
    let items = account.vaults.iter().flat_map(|vault| &vault.items);
    let mut resolved = 0;
    for item in items.filter(|item| item.state == ItemState::Active && item.category == "login") {
        let fields = [("username", &item.username), ("password", &item.password)];
        for (field, expected) in fields.into_iter().filter_map(|(field, value)| Some((field, value.as_ref()?))) {
            assert_eq!(
                &sdk.resolve(&format!("{}/{field}", item.reference)).unwrap(),
                expected,
                "{} {field}",
                item.title
            );
            resolved += 1;
        }
    }
    assert!(resolved > 30, "{resolved}");
}

#[test]
fn it_computes_one_time_codes_of_several_kinds() {
    let Setting { emulator: _running, account, mut sdk } = signed_in("automation");
    let vault = account.vault("Automation").unwrap();
    for (title, digits) in [
        (SUPPLIERS, 6),
        ("Contoso Expenses", 6),
        ("Fabrikam Bank", 8),
        ("Adventure Works Admin", 6),
        ("Relecloud Console", 6),
        ("Litware VPN", 6),
    ] {
        let item = vault.item(title).unwrap();
        let code = sdk.resolve(&format!("{}/one-time password?attribute=otp", item.reference)).unwrap();
        assert!(code.len() == digits && code.bytes().all(|byte| byte.is_ascii_digit()), "{title}: {code}");
    }
    let counter_based = vault.item("Counter-based Token").unwrap();
    let refused = sdk.resolve(&format!("{}/one-time password?attribute=otp", counter_based.reference)).unwrap_err();
    assert!(refused.message.contains("InvalidUriHost"), "{refused}");
}

#[test]
fn its_one_time_code_is_that_of_rfc_6238() {
    let Setting { emulator: _running, account, mut sdk } = signed_in("automation");
    let item = account.vault("Automation").unwrap().item(SUPPLIERS).unwrap();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 30;
    let before = now();
    let code = sdk.resolve(&format!("{}/one-time password?attribute=otp", item.reference)).unwrap();
    // The secret is that of RFC 6238's test vectors.
    assert!((before..=now()).any(|step| totp(b"12345678901234567890", step) == code));
}

fn totp(secret: &[u8], step: u64) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(secret).unwrap();
    mac.update(&step.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let offset = usize::from(digest[19] & 15);
    let number = u32::from_be_bytes(digest[offset..offset + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

#[test]
fn a_password_that_it_puts_is_stored_and_the_versions_go_up() {
    let Setting { emulator, account, mut sdk } = signed_in("automation");
    let vault = account.vault("Automation").unwrap();
    let item = vault.item(SUPPLIERS).unwrap();
    let before = emulator.item(&vault.id, &item.id).unwrap();
    let put = sdk.put_password(&vault.id, &item.id, "fresh ünïcode").unwrap();
    assert_eq!(put["version"], before.item_version + 1);
    let after = emulator.item(&vault.id, &item.id).unwrap();
    assert_eq!(after.item_version, before.item_version + 1);
    assert_eq!(after.content_version, before.content_version + 1);
    assert_eq!(sdk.resolve(&format!("{}/password", item.reference)).unwrap(), "fresh ünïcode");
    let account = emulator.account("automation").unwrap();
    let stored = account.vault("Automation").unwrap().item(SUPPLIERS).unwrap();
    assert_eq!(stored.password.as_deref(), Some("fresh ünïcode"));
    assert_eq!((&stored.username, &stored.otpauth), (&item.username, &item.otpauth));
    assert!(after.details.contains("7Tq-wren-obelisk-41"), "the old password is in the history");
}

#[test]
fn an_item_that_changed_meanwhile_is_not_overwritten() {
    let Setting { emulator, account, mut sdk } = signed_in("automation");
    let vault = account.vault("Automation").unwrap();
    let item = vault.item(SUPPLIERS).unwrap();
    let stale = sdk.call(json!({ "op": "items.get", "vault": vault.id, "item": item.id })).unwrap();
    let change = ItemChange { password: Some("by somebody else".to_owned()), ..ItemChange::default() };
    emulator.change_item(&vault.id, &item.id, &change).unwrap();
    let refused = sdk.call(json!({ "op": "items.putAsIs", "item": stale })).unwrap_err();
    assert!(refused.message.contains("not up to date"), "{refused}");
    assert_eq!(sdk.resolve(&format!("{}/password", item.reference)).unwrap(), "by somebody else");
}

#[test]
fn it_creates_archives_and_deletes_items() {
    let Setting { emulator, account, mut sdk } = signed_in("automation");
    let vault = &account.vault("Staging").unwrap().id;
    let new = json!({
        "title": "Made by the SDK", "category": "Login", "vaultId": vault, "tags": ["new"],
        "fields": [
            { "id": "username", "title": "username", "fieldType": "Text", "value": "carol" },
            { "id": "password", "title": "password", "fieldType": "Concealed", "value": "made" },
        ],
    });
    let created = sdk.call(json!({ "op": "items.create", "item": new })).unwrap();
    let id = created["id"].as_str().unwrap();
    assert_eq!(sdk.resolve(&format!("op://{vault}/{id}/username")).unwrap(), "carol");
    assert_eq!(emulator.item(vault, id).unwrap().state, ItemState::Active);
    sdk.call(json!({ "op": "items.archive", "vault": vault, "item": id })).unwrap();
    assert_eq!(emulator.item(vault, id).unwrap().state, ItemState::Archived);
    sdk.call(json!({ "op": "items.delete", "vault": vault, "item": id })).unwrap();
    assert_eq!(emulator.item(vault, id).unwrap().state, ItemState::Deleted);
    let list = sdk.call(json!({ "op": "items.list", "vault": vault })).unwrap();
    assert!(!titles(&list).contains(&"Made by the SDK"));
}

#[test]
fn it_resolves_many_secrets_at_once_and_by_name() {
    let Setting { emulator: _running, account, mut sdk } = signed_in("automation");
    let bank = account.vault("Automation").unwrap().item("Fabrikam Bank").unwrap();
    let by_id = format!("{}/username", bank.reference);
    let by_name = "op://Staging/Shop Admin/password";
    let all = sdk.call(json!({ "op": "secrets.resolveAll", "references": [by_id, by_name] })).unwrap();
    assert_eq!(all["individualResponses"][&by_id]["content"]["secret"], "acme-treasury");
    assert_eq!(all["individualResponses"][by_name]["content"]["secret"], "staging-only-2");
}

#[test]
fn wrong_tokens_are_refused_each_in_its_way() {
    let emulator = Emulator::start().unwrap();
    let mut sdk = OfficialSdk::start(emulator.url());
    for (wrong, expected) in [
        (WrongToken::SrpX, "you are not authenticated"),
        (WrongToken::Account, "bad request"),
        (WrongToken::SecretKey, "bad request"),
        (WrongToken::ThrottleSecret, "bad request"),
        (WrongToken::CutOff, "service account"),
    ] {
        let token = emulator.wrong_token("automation", wrong).unwrap();
        let refused = sdk.sign_in(token.expose()).unwrap_err();
        assert!(refused.message.contains(expected), "{wrong:?}: {refused}");
        assert_eq!(emulator.calls().logins, 0);
    }
}

#[test]
fn a_revoked_token_ends_its_sessions_and_cannot_sign_in_again() {
    let Setting { emulator, account, mut sdk } = signed_in("automation");
    let item = account.vault("Automation").unwrap().item(SUPPLIERS).unwrap();
    emulator.revoke_token("automation", 401).unwrap();
    assert!(sdk.resolve(&format!("{}/username", item.reference)).is_err());
    let refused = sdk.sign_in(&account.token).unwrap_err();
    assert!(refused.message.contains("not authenticated"), "{refused}");
    emulator.restore_token("automation").unwrap();
    sdk.sign_in(&account.token).unwrap();
}

#[test]
fn an_expired_session_is_renewed_unnoticed() {
    let Setting { emulator, account, mut sdk } = signed_in("automation");
    let item = account.vault("Automation").unwrap().item(SUPPLIERS).unwrap();
    let reference = format!("{}/username", item.reference);
    assert_eq!(sdk.resolve(&reference).unwrap(), "orders@acme.example");
    emulator.expire_sessions();
    assert_eq!(sdk.resolve(&reference).unwrap(), "orders@acme.example");
    assert_eq!(emulator.calls().logins, 2);
}

#[test]
fn a_device_that_is_not_known_is_registered_and_a_deleted_one_reauthorized() {
    let emulator = Emulator::start().unwrap();
    let account = emulator.account("automation").unwrap();
    let mut sdk = OfficialSdk::start(emulator.url());
    for (state, endpoint) in
        [(DeviceState::NotRegistered, Endpoint::RegisterDevice), (DeviceState::Deleted, Endpoint::ReauthorizeDevice)]
    {
        emulator.reset_calls();
        emulator.set_device("automation", state).unwrap();
        sdk.sign_in(&account.token).unwrap();
        assert_eq!((emulator.calls().total, emulator.calls().of(endpoint)), (6, 1));
    }
}

#[test]
fn a_change_in_a_vault_that_may_only_be_read_is_refused_in_both_ways() {
    let Setting { emulator, account, mut sdk } = signed_in("automation");
    let vault = account.vault("Finance (read-only)").unwrap();
    let item = vault.item("Ledger Cloud").unwrap();
    for denied in [DeniedWrite::Forbidden, DeniedWrite::FailedItems] {
        emulator.set_rules(Rules { read_only_write: denied, ..Rules::default() });
        let refused = sdk.put_password(&vault.id, &item.id, "never").unwrap_err();
        assert!(refused.message.contains("permissions"), "{refused}");
    }
    assert_eq!(emulator.item(&vault.id, &item.id).unwrap().item_version, 1);
    emulator.set_access("automation", &vault.id, Some(VaultAccess::ReadWrite)).unwrap();
    sdk.put_password(&vault.id, &item.id, "now").unwrap();
}

#[test]
fn faults_reach_it_as_what_they_are() {
    let Setting { emulator, account, mut sdk } = signed_in("automation");
    let vault = account.vault("Automation").unwrap();
    let get = json!({ "op": "items.get", "vault": vault.id, "item": vault.item(SUPPLIERS).unwrap().id });
    sdk.call(get.clone()).unwrap();
    for (fault, expected) in [
        (Fault::rate_limited(7, RetryAfterForm::Both), "rate limit exceeded"),
        (Fault::status(500), "internal server error"),
        (Fault::status(502), "502 Bad Gateway"),
        (Fault::status(409), "data conflict occurred"),
        (Fault::Drop { handled: false }, "error sending request"),
    ] {
        emulator.fault(FaultRule::next_of(Endpoint::Item, fault.clone()));
        let refused = sdk.call(get.clone()).unwrap_err();
        assert!(refused.message.contains(expected), "{fault:?}: {refused}");
    }
    for fault in [
        Fault::Garbage,
        Fault::Truncated,
        Fault::TamperedEnvelope,
        Fault::WrongEnvelopeKey,
        Fault::WrongEnvelopeKid,
        Fault::GarbagePlaintext,
        Fault::EnvelopeError { code: 117, message: "Not found.".to_owned() },
    ] {
        emulator.fault(FaultRule::next_of(Endpoint::Item, fault.clone()));
        assert!(sdk.call(get.clone()).is_err(), "{fault:?}");
        assert!(emulator.faults().is_empty());
    }
    sdk.call(get).unwrap();
}

#[test]
fn it_notices_a_server_that_does_not_know_the_account() {
    let emulator = Emulator::start().unwrap();
    let token = emulator.token("automation").unwrap();
    let mut sdk = OfficialSdk::start(emulator.url());
    for (endpoint, fault) in [(Endpoint::ConfirmKey, Fault::WrongServerProof), (Endpoint::Auth, Fault::ZeroPublicValue)]
    {
        emulator.fault(FaultRule::next_of(endpoint, fault));
        sdk.sign_in(token.expose()).unwrap_err();
        assert_eq!(emulator.calls().of(Endpoint::Complete), 0);
    }
}

#[test]
fn its_signatures_count_upwards_without_gaps_in_use() {
    let rules = Rules { counters: CounterRule::Ascending, ..Rules::default() };
    let emulator = Emulator::start_with(Options { rules, ..Options::default() }).unwrap();
    let account = emulator.account("automation").unwrap();
    let mut sdk = OfficialSdk::signed_in(emulator.url(), &account.token);
    let vault = account.vault("Staging").unwrap();
    sdk.put_password(&vault.id, &vault.item("Shop Admin").unwrap().id, "one after the other").unwrap();
    assert!(emulator.requests().iter().all(|request| request.status == Some(200)));
}

#[test]
fn it_needs_no_leading_when_tokens_name_the_emulators_own_address() {
    let emulator = Emulator::start_with(Options { sign_in_address: None, ..Options::default() }).unwrap();
    let account = emulator.account("automation").unwrap();
    assert_eq!((account.sign_in_address.as_str(), emulator.host()), (emulator.url(), "127.0.0.1"));
    OfficialSdk::signed_in(emulator.url(), &account.token).call(json!({ "op": "vaults.list" })).unwrap();
}

#[test]
fn it_lists_thousands_of_items() {
    let emulator = Emulator::start_with(Options { bulk_items: 2_000, ..Options::default() }).unwrap();
    let account = emulator.account("automation").unwrap();
    let mut sdk = OfficialSdk::signed_in(emulator.url(), &account.token);
    let vault = account.vault("Bulk").unwrap();
    let list = sdk.call(json!({ "op": "items.list", "vault": vault.id })).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 2_000);
}
