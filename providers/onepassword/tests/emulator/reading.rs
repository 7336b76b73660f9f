//! Listing and resolving.

use crate::lab::{ITEM, Lab, READ_ONLY_VAULT, VAULT, error, password, text};
use keyway_emulator_onepassword::{Endpoint, Fault, FaultRule, ItemChange, ItemState, NewLogin, Options, Rules};
use keyway_sdk::{Error, ErrorCode, Item, NoCodeReason, Selection, totp::Totp};
use std::collections::BTreeSet;

const MISSING: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaa";

fn with_rules(rules: Rules) -> Lab {
    Lab::with(Options { rules, ..Options::default() }, "automation")
}

#[test]
fn every_active_login_and_password_of_every_vault_is_listed_and_nothing_else() {
    let lab = Lab::new();
    let expected: BTreeSet<(String, String, String, String)> = lab
        .vaults()
        .into_iter()
        .flat_map(|vault| vault.items.into_iter().map(move |item| (vault.name.clone(), item)))
        .filter(|(_, item)| item.state == ItemState::Active && ["login", "password"].contains(&item.category.as_str()))
        .map(|(vault, item)| (vault, item.title, item.reference, item.category))
        .collect();
    let listed = lab.list_all().unwrap();
    assert_eq!(listed.len(), expected.len());
    let of = |item: &Item| {
        (item.vault_name.clone().unwrap(), item.title.clone(), item.reference.clone(), item.category.clone())
    };
    let found: BTreeSet<(String, String, String, String)> = listed.iter().map(of).collect();
    assert_eq!(found, expected);
    assert!(listed.iter().any(|item| item.category == "password"));
    for item in &listed {
        assert_eq!(item.reference, format!("op://{}/{}", item.vault_id.as_deref().unwrap(), item.id));
    }
    let northwind = listed.iter().find(|item| item.title == ITEM).unwrap();
    assert_eq!(northwind.urls[0], "https://suppliers.northwind.example/login");
}

#[test]
fn no_secret_is_in_a_list() {
    let lab = Lab::new();
    let listed = format!("{:?}", lab.list_all().unwrap());
    for item in lab.vaults().into_iter().flat_map(|vault| vault.items) {
        // Skip short values, which occur in ordinary words.
        for secret in [item.username, item.password].into_iter().flatten().filter(|secret| secret.len() > 8) {
            assert!(!listed.contains(&secret), "{}", item.title);
        }
    }
}

#[test]
fn a_large_vault_comes_in_pages_that_neither_repeat_nor_lose_an_item() {
    let lab = Lab::with(Options { bulk_items: 4_500, ..Options::default() }, "automation");
    let first = lab.list(None).unwrap();
    assert!(first.next.is_some() && first.items.len() == 2_000);
    let items = lab.list_all().unwrap();
    let ids: BTreeSet<&str> = items.iter().map(|item| item.reference.as_str()).collect();
    assert_eq!(ids.len(), items.len());
    assert_eq!(items.iter().filter(|item| item.vault_name.as_deref() == Some("Bulk")).count(), 4_500);
}

#[test]
fn an_incomplete_list_is_completed_over_the_older_endpoint() {
    let whole = Lab::new().list_all().unwrap();
    let lab = with_rules(Rules { batch_size: Some(3), ..Rules::default() });
    let (items, calls) = lab.calls_of(|| lab.list_all().unwrap());
    assert_eq!(items, whole);
    assert!(calls.of(Endpoint::ItemsSince) > 3);
}

#[test]
fn a_keyset_that_nobody_can_open_disturbs_nothing() {
    let lab = with_rules(Rules { foreign_keyset: true, ..Rules::default() });
    assert_eq!(lab.list_all().unwrap(), Lab::new().list_all().unwrap());
    assert!(lab.resolve(&lab.reference(READ_ONLY_VAULT, "Ledger Cloud"), &Selection::ALL).is_ok());
}

#[test]
fn a_vault_that_disappears_while_it_is_listed_is_left_out() {
    let lab = Lab::new();
    lab.emulator.fault(FaultRule::next_of(Endpoint::Overviews, Fault::status(404)));
    let vaults: BTreeSet<_> = lab.list_all().unwrap().into_iter().map(|item| item.vault_name).collect();
    assert_eq!(vaults.len(), 2);
}

#[test]
fn an_item_that_cannot_be_decrypted_is_left_out_of_the_list_and_an_error_when_resolved() {
    let lab = Lab::new();
    let item = lab.item(VAULT, ITEM);
    let count = lab.list_all().unwrap().len();
    lab.emulator.replace_item_text(VAULT, &item.id, Some("no JSON"), Some("no JSON")).unwrap();
    assert_eq!(lab.list_all().unwrap().len(), count - 1);
    assert!(matches!(
        error(lab.resolve(&item.reference, &Selection::ALL)),
        Error { code: ErrorCode::UnexpectedAnswer, .. }
    ));
}

#[test]
fn titles_and_addresses_that_are_too_long_for_a_host_do_not_cost_the_list() {
    let lab = Lab::new();
    let item = lab.item(VAULT, ITEM);
    let count = lab.list_all().unwrap().len();
    let listed = |overview: &str| {
        lab.emulator.replace_item_text(VAULT, &item.id, Some(overview), None).unwrap();
        let items = lab.list_all().unwrap();
        assert_eq!(items.len(), count);
        items.into_iter().find(|listed| listed.reference == item.reference).unwrap()
    };
    let address = |length: usize| format!("https://northwind.example/{}", "a".repeat(length - 26));
    let fitting = listed(&format!(r#"{{"title":"{}","url":"{}"}}"#, "ä".repeat(2_000), address(2_000)));
    assert_eq!((fitting.title, &fitting.urls[0]), ("ä".repeat(2_000), &address(2_000)));
    let longer = listed(&format!(r#"{{"title":"{}","url":"{}"}}"#, "ä".repeat(2_001), address(2_001)));
    assert_eq!((longer.title, longer.urls.len()), ("ä".repeat(2_000), 0));
    assert_eq!(listed(r#"{"title":null,"url":7}"#).title, "");
}

#[test]
fn many_long_titles_make_shorter_pages() {
    let lab = Lab::with(Options { bulk_items: 600, ..Options::default() }, "automation");
    let bulk = lab.vaults().into_iter().find(|vault| vault.name == "Bulk").unwrap();
    let overview = format!(r#"{{"title":"{}"}}"#, "\u{1f511}".repeat(2_000));
    for item in &bulk.items {
        lab.emulator.replace_item_text("Bulk", &item.id, Some(&overview), None).unwrap();
    }
    let first = lab.list(Some(&bulk.id)).unwrap();
    assert!(first.next.is_some() && (500..600).contains(&first.items.len()), "{}", first.items.len());
    assert_eq!(lab.list_all().unwrap().iter().filter(|item| item.vault_name.as_deref() == Some("Bulk")).count(), 600);
}

#[test]
fn every_login_resolves_to_what_it_holds() {
    let lab = Lab::new();
    for item in lab.vaults().into_iter().flat_map(|vault| vault.items) {
        if item.state != ItemState::Active || item.category != "login" {
            continue;
        }
        let fields = Selection { one_time_code: false, ..Selection::ALL };
        let resolved = lab.resolve(&item.reference, &fields).unwrap();
        assert_eq!(text(resolved.username.as_ref()), item.username.as_deref(), "{}", item.title);
        assert_eq!(text(resolved.password.as_ref()), item.password.as_deref(), "{}", item.title);
        assert_eq!(resolved.revision, "1");
    }
}

#[test]
fn one_time_codes_are_live() {
    let lab = Lab::new();
    let mut seen = 0;
    for item in lab.vaults().into_iter().flat_map(|vault| vault.items) {
        let Some(totp) = item.otpauth.as_deref().and_then(|otpauth| Totp::parse(otpauth).ok()) else { continue };
        if item.state != ItemState::Active {
            continue;
        }
        let code = lab
            .resolve(&item.reference, &Selection { one_time_code: true, ..Selection::NONE })
            .unwrap()
            .one_time_code
            .unwrap()
            .unwrap();
        let expected = totp.code_at(code.expires_at - 1);
        assert_eq!(text(Some(&code.code)), text(Some(&expected.code)), "{}", item.title);
        assert_eq!((code.expires_at, code.period_seconds), (expected.expires_at, expected.period_seconds));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(code.expires_at + 1 >= now && code.expires_at <= now + u64::from(code.period_seconds));
        seen += 1;
    }
    assert!(seen >= 6);
}

#[test]
fn only_what_is_asked_for_is_returned() {
    let lab = Lab::new();
    let reference = lab.reference(VAULT, ITEM);
    for bits in 0..8 {
        let fields = Selection {
            username: bits & 1 != 0,
            password: bits & 2 != 0,
            one_time_code: bits & 4 != 0,
            ..Selection::NONE
        };
        let resolved = lab.resolve(&reference, &fields).unwrap();
        assert_eq!(resolved.username.is_some(), fields.username);
        assert_eq!(resolved.password.is_some(), fields.password);
        assert_eq!(resolved.one_time_code.is_some(), fields.one_time_code);
        assert_eq!(resolved.revision, "1");
    }
}

#[test]
fn absent_is_absent_and_empty_is_empty() {
    let lab = Lab::new();
    let resolve = |title: &str| {
        let resolved = lab.resolve(&lab.reference(VAULT, title), &Selection::ALL).unwrap();
        [resolved.username, resolved.password].map(|value| text(value.as_ref()).map(str::to_owned))
    };
    assert_eq!(resolve("Legacy Mainframe"), [None, None], "custom-named fields are not read");
    assert_eq!(resolve("No Password"), [Some("readonly-kiosk".to_owned()), None]);
    assert_eq!(resolve("Empty Password"), [Some("pending".to_owned()), Some(String::new())]);
    assert_eq!(resolve("Runbook: order robots"), [None, None], "another category");
    assert_eq!(resolve("Door Code Server Room"), [None, Some("4711#".to_owned())], "the category Password");
    let plain = lab.resolve(&lab.reference(VAULT, "City Utilities"), &Selection::ALL).unwrap();
    assert_eq!(plain.one_time_code.unwrap().unwrap_err().reason, NoCodeReason::Absent);
}

#[test]
fn a_one_time_password_that_makes_no_codes_does_not_stand_in_the_way_of_the_rest() {
    let lab = Lab::new();
    let resolved = lab.resolve(&lab.reference(VAULT, "Counter-based Token"), &Selection::ALL).unwrap();
    assert!(resolved.username.is_some() && resolved.password.is_some());
    assert_eq!(resolved.one_time_code.unwrap().unwrap_err().reason, NoCodeReason::CounterBased);
}

#[test]
fn of_several_one_time_passwords_the_first_that_makes_a_code_is_taken() {
    const S: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    let lab = Lab::new();
    let item = lab.item(VAULT, ITEM);
    let resolve = |stored: &[&str]| {
        let field =
            |stored: &&str| format!(r#"{{"k":"concealed","n":"TOTP_{}","t":"x","v":"{stored}"}}"#, stored.len());
        let fields = stored.iter().map(field).collect::<Vec<_>>().join(",");
        let details = format!(
            r#"{{"fields":[{{"designation":"password","value":"kept"}}],"sections":[{{"fields":[{fields}]}}]}}"#
        );
        lab.emulator.replace_item_text(VAULT, &item.id, None, Some(&details)).unwrap();
        let resolved = lab.resolve(&item.reference, &Selection::ALL).unwrap();
        assert_eq!(text(resolved.password.as_ref()), Some("kept"), "a bad one-time password harms nothing else");
        resolved.one_time_code.unwrap()
    };
    let counter = format!("otpauth://hotp/x?secret={S}&counter=1");
    let (eight, seven) =
        (format!("otpauth://totp/x?secret={S}&digits=8"), format!("otpauth://totp/x?secret={S}&digits=7"));
    let length = |stored: &[&str]| text(Some(&resolve(stored).unwrap().code)).unwrap().len();
    assert_eq!(length(&[&counter, &eight]), 8);
    assert_eq!(length(&[&seven, &eight]), 7);
    assert_eq!(length(&[&format!("otpauth://totp/Steam:gamer?secret={S}&issuer=Steam")]), 5);
    assert_eq!(length(&[&format!("otpauth://totp/x?secret={S}&amp;digits=8")]), 8);
    for (stored, reason, word) in [
        (counter.as_str(), NoCodeReason::CounterBased, "HOTP"),
        (&format!("otpauth://totp/x?secret={S}&digits=10"), NoCodeReason::Other("unsupported".into()), "digits"),
        ("otpauth-migration://offline?data=x", NoCodeReason::Other("unsupported".into()), "migration"),
    ] {
        let none = resolve(&[stored]).unwrap_err();
        assert!(none.reason == reason && none.message.contains(word), "{none:?}");
    }
}

#[test]
fn an_item_that_is_no_login_says_so_when_it_is_checked_and_when_it_is_resolved() {
    let lab = Lab::new();
    let reference = lab.reference(VAULT, "Relecloud API Key");
    let checked = lab.resolve(&reference, &Selection::NONE).unwrap();
    assert_eq!(checked.attributes[0].name, "not-a-login");
    let resolved = lab.resolve(&reference, &Selection::ALL).unwrap();
    assert!(resolved.username.is_none() && resolved.password.is_none());
    let none = resolved.one_time_code.unwrap().unwrap_err();
    assert_eq!(none.reason, NoCodeReason::Other("not-a-login".into()));
    assert!(none.message.contains("API credential"), "{none:?}");
    let login = lab.resolve(&lab.reference(VAULT, ITEM), &Selection::NONE).unwrap();
    assert!(login.attributes.is_empty());
}

#[test]
fn archived_and_deleted_items_are_not_found_with_a_reason() {
    let lab = Lab::new();
    for (title, why) in [("Old Fax Gateway", "archive"), ("Trial Account (expired)", "deleted")] {
        let Error { code: ErrorCode::NotFound, message, .. } =
            error(lab.resolve(&lab.reference(VAULT, title), &Selection::ALL))
        else {
            panic!()
        };
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn what_is_missing_is_not_found_whatever_status_the_server_uses() {
    for (hidden_vault_status, missing_item_status) in [(404, 404), (404, 400), (403, 404)] {
        let lab = with_rules(Rules { hidden_vault_status, missing_item_status, ..Rules::default() });
        let vault = lab.vaults().into_iter().find(|vault| vault.name == VAULT).unwrap();
        let Error { code: ErrorCode::NotFound, message, .. } =
            error(lab.resolve(&format!("op://{}/{MISSING}", vault.id), &Selection::ALL))
        else {
            panic!()
        };
        assert!(message.contains("'Automation'"), "{message}");
        let missing = error(lab.resolve(&format!("op://{MISSING}/{MISSING}"), &Selection::ALL));
        match hidden_vault_status {
            403 => assert!(missing.code == ErrorCode::PermissionDenied),
            _ => assert!(missing.code == ErrorCode::NotFound),
        }
    }
}

#[test]
fn a_missing_item_costs_one_request_when_warm() {
    // The official client makes four more requests and reports something else.
    let lab = Lab::new().warm();
    let vault = lab.vaults().remove(0);
    let (result, calls) = lab.calls_of(|| lab.resolve(&format!("op://{}/{MISSING}", vault.id), &Selection::ALL));
    assert!(matches!(error(result), Error { code: ErrorCode::NotFound, .. }));
    assert_eq!(calls.total, 1);
}

#[test]
fn a_reference_that_is_none_makes_no_request() {
    let lab = Lab::new();
    let (result, calls) = lab.calls_of(|| lab.resolve("op://Automation/Northwind Supplier Portal", &Selection::ALL));
    assert!(matches!(error(result), Error { code: ErrorCode::InvalidReference, .. }));
    assert_eq!(calls.total, 0);
}

#[test]
fn a_change_by_somebody_else_shows_at_once_with_another_revision() {
    let lab = Lab::new().warm();
    let item = lab.item(VAULT, ITEM);
    let before = lab.resolve(&item.reference, &Selection::ALL).unwrap().revision;
    let change = ItemChange { password: Some("changed by a person".to_owned()), ..ItemChange::default() };
    lab.emulator.change_item(VAULT, &item.id, &change).unwrap();
    let after = lab.resolve(&item.reference, &Selection::ALL).unwrap();
    assert_eq!(text(after.password.as_ref()), Some("changed by a person"));
    assert_ne!(after.revision, before);
}

#[test]
fn access_that_is_granted_later_is_found() {
    let lab = Lab::with(Options::default(), "newcomer");
    assert!(lab.list(None).unwrap().items.is_empty());
    lab.emulator.set_access("newcomer", VAULT, Some(keyway_emulator_onepassword::VaultAccess::ReadOnly)).unwrap();
    let new = NewLogin { title: "New".into(), username: Some("u".into()), ..NewLogin::default() };
    let item = lab.emulator.add_login(VAULT, &new).unwrap();
    assert!(lab.list_all().unwrap().iter().any(|listed| listed.reference == item.reference));
    let resolved = lab.resolve(&item.reference, &Selection::ALL).unwrap();
    assert_eq!((text(resolved.username.as_ref()), resolved.password.is_none()), (Some("u"), true));
}

#[test]
fn vaults_beyond_those_whose_keys_are_kept_are_listed_read_and_written_as_the_others() {
    // Three from the catalogue, making one more than the 500 whose keys are kept.
    let lab = Lab::with(Options { bulk_vaults: 498, ..Options::default() }, "automation");
    assert_eq!(lab.verify().unwrap().vault_count, Some(501));
    let vault = lab.vaults().into_iter().max_by(|one, other| one.id.cmp(&other.id)).unwrap();
    let item = vault.items[0].clone();
    let resolved = lab.resolve(&item.reference, &Selection { password: true, ..Selection::NONE }).unwrap();
    assert_eq!(text(resolved.password.as_ref()), item.password.as_deref());
    lab.write(&item.reference, &password("new"), None).unwrap();
    assert!(lab.list(Some(&vault.id)).unwrap().items.iter().any(|listed| listed.reference == item.reference));
}
