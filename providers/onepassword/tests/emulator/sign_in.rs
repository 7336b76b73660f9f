//! Signing in, sessions, and the number of requests.

use crate::lab::{ITEM, Lab, READ_ONLY_VAULT, VAULT, error, password, text};
use keyway_emulator_onepassword::{
    CounterRule, DeviceState, Endpoint, Fault, FaultRule, ItemState, Options, Rules, WrongToken,
};
use keyway_sdk::{Error, ErrorCode, Selection, WriteAccess};

#[test]
fn a_cold_resolve_takes_seven_requests_and_a_warm_one_takes_one() {
    let lab = Lab::new();
    let reference = lab.reference(VAULT, ITEM);
    let (resolved, calls) = lab.calls_of(|| lab.resolve(&reference, &Selection::ALL).unwrap());
    assert_eq!(text(resolved.password.as_ref()), lab.item(VAULT, ITEM).password.as_deref());
    assert_eq!((calls.total, calls.logins), (7, 1));
    for endpoint in [Endpoint::Vault, Endpoint::Keysets, Endpoint::Item] {
        assert_eq!(calls.of(endpoint), 1, "{endpoint:?}");
    }
    let (_, calls) = lab.calls_of(|| lab.resolve(&reference, &Selection::ALL).unwrap());
    assert_eq!((calls.total, calls.of(Endpoint::Item)), (1, 1));
}

#[test]
fn another_vault_costs_one_request_more_once() {
    let lab = Lab::new();
    lab.resolve(&lab.reference(VAULT, ITEM), &Selection::ALL).unwrap();
    let other = lab.reference(READ_ONLY_VAULT, "Ledger Cloud");
    let (_, calls) = lab.calls_of(|| lab.resolve(&other, &Selection::ALL).unwrap());
    assert_eq!((calls.total, calls.of(Endpoint::Vault), calls.of(Endpoint::Item)), (2, 1, 1));
    let (_, calls) = lab.calls_of(|| lab.resolve(&other, &Selection::ALL).unwrap());
    assert_eq!(calls.total, 1);
}

#[test]
fn every_operation_takes_as_many_requests_as_the_documentation_says() {
    let lab = Lab::new();
    let reference = lab.reference(VAULT, ITEM);
    let (_, calls) = lab.calls_of(|| lab.verify().unwrap());
    assert_eq!((calls.total, calls.logins), (6, 1), "verify");
    let (_, calls) = lab.calls_of(|| lab.list(None).unwrap());
    assert_eq!(calls.total, 1 + 3, "a page of three vaults");
    let (_, calls) = lab.calls_of(|| lab.check(&reference).unwrap());
    assert_eq!(calls.total, 2, "check_write_access");
    let (_, calls) = lab.calls_of(|| lab.write(&reference, &password("new"), None).unwrap());
    assert_eq!(calls.total, 3, "write");
    let (_, calls) = lab.calls_of(|| lab.resolve(&reference, &Selection::NONE).unwrap());
    assert_eq!(calls.total, 1, "just the revision");
}

#[test]
fn what_the_first_call_opened_serves_all_that_follow() {
    let lab = Lab::new().warm();
    for vault in lab.vaults() {
        let item = vault.items.iter().find(|item| item.state == ItemState::Active).unwrap();
        let (_, calls) = lab.calls_of(|| lab.resolve(&item.reference, &Selection::ALL).unwrap());
        assert_eq!(calls.total, 1, "{}", vault.name);
    }
}

#[test]
fn fifty_concurrent_cold_readers_sign_in_once() {
    let lab = Lab::new();
    let reference = lab.reference(VAULT, ITEM);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| lab.resolve(&reference, &Selection::ALL).unwrap());
        }
    });
    assert_eq!(lab.emulator.calls().logins, 1);
    assert_eq!(lab.native.session().logins(), 1);
}

#[test]
fn concurrent_cold_readers_of_different_items_ask_for_the_keys_once() {
    let lab = Lab::new();
    let vault = lab.vaults().into_iter().find(|vault| vault.name == VAULT).unwrap();
    // The sign-in takes long enough for all calls to wait for it.
    lab.emulator.fault(FaultRule::next_of(Endpoint::AuthStart, Fault::Delay { milliseconds: 300 }));
    let items: Vec<_> = vault.items.iter().filter(|item| item.state == ItemState::Active).collect();
    std::thread::scope(|scope| {
        for item in &items {
            let lab = &lab;
            scope.spawn(move || {
                lab.resolve(&item.reference, &Selection { one_time_code: false, ..Selection::ALL }).unwrap()
            });
        }
    });
    let calls = lab.emulator.calls();
    assert_eq!((calls.logins, calls.of(Endpoint::Vault), calls.of(Endpoint::Keysets)), (1, 1, 1));
    assert_eq!(calls.of(Endpoint::Item), items.len() as u64);
}

#[test]
fn a_sign_in_is_kept_even_if_the_call_that_made_it_fails() {
    let lab = Lab::new();
    lab.emulator.fault(FaultRule::next_of(Endpoint::Vault, Fault::status(500)));
    let reference = lab.reference(VAULT, ITEM);
    assert!(matches!(error(lab.resolve(&reference, &Selection::ALL)), Error { code: ErrorCode::Unavailable, .. }));
    let (_, calls) = lab.calls_of(|| lab.resolve(&reference, &Selection::ALL).unwrap());
    assert_eq!((calls.total, calls.logins), (3, 0));
}

#[test]
fn an_expired_session_leads_to_one_new_sign_in_and_the_call_is_made_again() {
    let lab = Lab::new().warm();
    let reference = lab.reference(VAULT, ITEM);
    lab.emulator.expire_sessions();
    let (result, calls) = lab.calls_of(|| lab.resolve(&reference, &Selection::ALL));
    assert!(result.is_ok());
    assert_eq!((calls.total, calls.logins), (1 + 4 + 1, 1), "the keys are kept");
    let (_, calls) = lab.calls_of(|| lab.resolve(&reference, &Selection::ALL).unwrap());
    assert_eq!(calls.total, 1);
}

#[test]
fn fifty_concurrent_calls_with_an_expired_session_sign_in_once() {
    let lab = Lab::new().warm();
    let reference = lab.reference(VAULT, ITEM);
    lab.emulator.expire_sessions();
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| lab.resolve(&reference, &Selection::ALL).unwrap());
        }
    });
    assert_eq!(lab.emulator.calls().logins, 1);
}

#[test]
fn a_session_that_expires_between_reading_and_writing_is_replaced_too() {
    let lab = Lab::new().warm();
    let reference = lab.reference(VAULT, ITEM);
    lab.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::status(401)));
    let (result, calls) = lab.calls_of(|| lab.write(&reference, &password("after expiry"), None));
    assert_eq!(result.unwrap(), "2");
    assert_eq!((calls.total, calls.logins), (3 + 4 + 1, 1));
    assert_eq!(lab.item(VAULT, ITEM).password.as_deref(), Some("after expiry"));
    // The same refusal in another form.
    lab.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::FailedItems { code: 1 }));
    assert_eq!(lab.write(&reference, &password("again"), None).unwrap(), "3");
}

#[test]
fn an_expiry_inside_an_envelope_counts_as_one() {
    let lab = Lab::new().warm();
    let fault = Fault::EnvelopeError { code: 102, message: "Authentication required.".to_owned() };
    lab.emulator.fault(FaultRule::next_of(Endpoint::Item, fault));
    let (result, calls) = lab.calls_of(|| lab.resolve(&lab.reference(VAULT, ITEM), &Selection::ALL));
    assert!(result.is_ok());
    assert_eq!(calls.logins, 1);
}

#[test]
fn a_session_that_is_refused_right_after_the_sign_in_ends_the_call() {
    let lab = Lab::new().warm();
    lab.emulator.fault(FaultRule { times: None, ..FaultRule::next_of(Endpoint::Item, Fault::status(401)) });
    let (result, calls) = lab.calls_of(|| lab.resolve(&lab.reference(VAULT, ITEM), &Selection::ALL));
    assert!(matches!(error(result), Error { code: ErrorCode::Unauthenticated, .. }));
    assert_eq!((calls.total, calls.logins), (1 + 4 + 1, 1));
}

#[test]
fn a_refused_token_says_so_and_is_not_retried() {
    for status in [401, 400] {
        let lab = Lab::new().warm();
        let reference = lab.reference(VAULT, ITEM);
        lab.emulator.revoke_token("automation", status).unwrap();
        let (result, calls) = lab.calls_of(|| lab.resolve(&reference, &Selection::ALL));
        let Error { code: ErrorCode::Unauthenticated, message, .. } = error(result) else { panic!() };
        assert!(message.contains("revoked"), "{message}");
        assert_eq!(calls.total, 2, "the refused call and the refused sign-in");
        lab.emulator.restore_token("automation").unwrap();
        assert!(lab.resolve(&reference, &Selection::ALL).is_ok());
    }
}

#[test]
fn a_refusal_is_shared_by_all_who_wait_for_the_sign_in() {
    let lab = Lab::new();
    let reference = lab.reference(VAULT, ITEM);
    lab.emulator.revoke_token("automation", 401).unwrap();
    lab.emulator.fault(FaultRule::next_of(Endpoint::AuthStart, Fault::Delay { milliseconds: 500 }));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                assert!(matches!(
                    error(lab.resolve(&reference, &Selection::ALL)),
                    Error { code: ErrorCode::Unauthenticated, .. }
                ))
            });
        }
    });
    assert!(lab.emulator.calls().of(Endpoint::AuthStart) < 8);
}

#[test]
fn each_wrong_token_has_its_own_error() {
    let mut lab = Lab::new();
    for (wrong, requests) in [(WrongToken::SrpX, 3), (WrongToken::Account, 1)] {
        lab.use_token(lab.emulator.wrong_token("automation", wrong).unwrap().expose().to_owned().as_str());
        let (result, calls) = lab.calls_of(|| lab.verify());
        assert!(matches!(error(result), Error { code: ErrorCode::Unauthenticated, .. }), "{wrong:?}");
        assert_eq!(calls.total, requests, "{wrong:?}");
    }
    lab.use_token(lab.emulator.wrong_token("automation", WrongToken::SecretKey).unwrap().expose().to_owned().as_str());
    assert!(matches!(error(lab.verify()), Error { code: ErrorCode::Unauthenticated, .. }));
    for wrong in [WrongToken::CutOff, WrongToken::SignInAddress] {
        lab.use_token(lab.emulator.wrong_token("automation", wrong).unwrap().expose().to_owned().as_str());
        let (result, calls) = lab.calls_of(|| lab.verify());
        assert!(matches!(error(result), Error { code: ErrorCode::InvalidSettings, .. }), "{wrong:?}");
        assert_eq!(calls.total, 0, "{wrong:?}");
    }
}

#[test]
fn a_wrong_master_key_is_noticed_when_connecting() {
    let mut lab = Lab::new();
    lab.use_token(lab.emulator.wrong_token("automation", WrongToken::Muk).unwrap().expose().to_owned().as_str());
    for result in [
        lab.verify().map(drop),
        lab.list(None).map(drop),
        lab.resolve(&lab.reference(VAULT, ITEM), &Selection::ALL).map(drop),
    ] {
        let Error { code: ErrorCode::UnexpectedAnswer, message, .. } = error(result) else { panic!() };
        assert!(
            message.contains("create a new service account") || message.contains("Create a new service account"),
            "{message}"
        );
    }
}

#[test]
fn an_unknown_device_is_registered_and_a_deleted_one_reauthorised() {
    for (state, endpoint) in
        [(DeviceState::NotRegistered, Endpoint::RegisterDevice), (DeviceState::Deleted, Endpoint::ReauthorizeDevice)]
    {
        let lab = Lab::new();
        lab.emulator.set_device("automation", state).unwrap();
        let (result, calls) = lab.calls_of(|| lab.verify());
        assert!(result.is_ok(), "{state:?}");
        assert_eq!((calls.of(endpoint), calls.of(Endpoint::AuthStart), calls.total), (1, 2, 8), "{state:?}");
    }
}

#[test]
fn a_server_that_cannot_prove_itself_gets_nothing_more() {
    for (endpoint, fault, requests) in
        [(Endpoint::Auth, Fault::ZeroPublicValue, 2), (Endpoint::ConfirmKey, Fault::WrongServerProof, 3)]
    {
        let lab = Lab::new();
        lab.emulator.fault(FaultRule::next_of(endpoint, fault));
        let (result, calls) = lab.calls_of(|| lab.verify());
        assert!(matches!(error(result), Error { code: ErrorCode::UnexpectedAnswer, .. }));
        assert_eq!(calls.total, requests);
    }
}

#[test]
fn an_account_without_vaults_is_told_what_to_grant() {
    let lab = Lab::with(Options::default(), "newcomer");
    let Error { code: ErrorCode::PermissionDenied, message, .. } = error(lab.verify()) else { panic!() };
    assert_eq!(message, "This service account can't read any vault. Grant Read Items on at least one vault.");
    assert!(lab.list(None).unwrap().items.is_empty());
}

#[test]
fn verify_counts_vaults_and_signs_in_each_time() {
    let lab = Lab::new();
    for _ in 0..2 {
        let (verified, calls) = lab.calls_of(|| lab.verify().unwrap());
        assert_eq!(verified.account, "my.1password.com");
        assert_eq!((verified.vault_count, verified.writable_vault_count), (Some(3), Some(2)));
        assert_eq!(calls.logins, 1);
    }
    let auditor = Lab::with(Options::default(), "auditor").verify().unwrap();
    assert_eq!((auditor.vault_count, auditor.writable_vault_count), (Some(2), Some(0)));
    // Many accounts share the address, so it does not identify one; the server's id does.
    let key = lab.verify().unwrap().account_key;
    assert!(key.is_some() && key == auditor.account_key && key.as_deref() != Some("my.1password.com"), "{key:?}");
    let sign_in_address = Some("acme.1password.com".to_owned());
    let team = Lab::with(Options { sign_in_address, ..Options::default() }, "automation").verify().unwrap();
    assert_eq!(team.account_key.as_deref(), Some("acme.1password.com"));
}

#[test]
fn a_server_that_insists_on_ascending_counters_is_content_with_calls_one_after_the_other() {
    let options =
        Options { rules: Rules { counters: CounterRule::Ascending, ..Rules::default() }, ..Options::default() };
    let lab = Lab::with(options, "automation");
    let reference = lab.reference(VAULT, ITEM);
    for _ in 0..3 {
        lab.list(None).unwrap();
        lab.resolve(&reference, &Selection::ALL).unwrap();
        assert_eq!(lab.check(&reference).unwrap(), WriteAccess::Granted);
        lab.emulator.expire_sessions();
    }
}
