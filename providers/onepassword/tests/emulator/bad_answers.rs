//! A server that refuses, fails or answers nonsense.

use crate::lab::{ITEM, Lab, VAULT, error, password};
use keyway_emulator_onepassword::{Endpoint, Fault, FaultRule, RetryAfterForm};
use keyway_sdk::{Error, ErrorCode, Result, Selection};
use serde_json::json;

/// Every operation, by name.
fn operations(lab: &Lab) -> Vec<(&'static str, Result<()>)> {
    let reference = lab.reference(VAULT, ITEM);
    vec![
        ("resolve", lab.resolve(&reference, &Selection::ALL).map(drop)),
        ("list", lab.list(None).map(drop)),
        ("check", lab.check(&reference).map(drop)),
        ("verify", lab.verify().map(drop)),
        ("write", lab.write(&reference, &password("new"), None).map(drop)),
    ]
}

/// Asserts that the message contains no secret.
fn assert_no_secret(lab: &Lab, message: &str) {
    let account = lab.emulator.account("automation").unwrap();
    assert!(!message.contains("ops_") && !message.contains(&account.token[20..40]), "{message}");
    for item in account.vaults.into_iter().flat_map(|vault| vault.items) {
        for secret in [item.username, item.password].into_iter().flatten().filter(|secret| secret.len() > 5) {
            assert!(!message.contains(&secret), "{message}");
        }
        assert!(!message.contains(&item.id), "{message}");
    }
}

fn every_call_fails_with(fault: &Fault, expected: impl Fn(&Error) -> bool) {
    for warm in [false, true] {
        let lab = if warm { Lab::new().warm() } else { Lab::new() };
        lab.emulator.fault(FaultRule { times: None, ..FaultRule::next(fault.clone()) });
        for (operation, result) in operations(&lab) {
            let error = error(result);
            assert!(expected(&error), "{fault:?}, {operation}, warm: {warm}: {error:?}");
            assert_no_secret(&lab, &error.to_string());
        }
    }
}

#[test]
fn too_many_requests_are_reported_with_the_delay_wherever_it_stands() {
    for form in [RetryAfterForm::Header, RetryAfterForm::HeaderDate, RetryAfterForm::Body, RetryAfterForm::Both] {
        let fault = Fault::Status { status: 429, retry_after_seconds: Some(3_480), retry_after_in: form, body: None };
        every_call_fails_with(&fault, |error| {
            matches!(error, Error { code: ErrorCode::RateLimited, retry_after_seconds: Some(3_470..=3_480), .. })
        });
    }
    every_call_fails_with(&Fault::status(429), |error| {
        matches!(error, Error { code: ErrorCode::RateLimited, retry_after_seconds: None, .. })
    });
}

#[test]
fn a_limit_is_not_run_into_again() {
    // The official client turns such a refusal into three requests.
    let lab = Lab::new().warm();
    lab.emulator.fault(FaultRule { times: None, ..FaultRule::next(Fault::status(429)) });
    let (_, calls) = lab.calls_of(|| lab.resolve(&lab.reference(VAULT, ITEM), &Selection::ALL).map(drop));
    assert_eq!(calls.total, 1);
}

#[test]
fn a_server_that_is_out_of_order_is_unavailable() {
    for status in [500, 502, 503, 504, 408] {
        every_call_fails_with(&Fault::status(status), |error| error.code == ErrorCode::Unavailable);
    }
    every_call_fails_with(&Fault::Drop { handled: false }, |error| error.code == ErrorCode::Unavailable);
}

#[test]
fn nonsense_is_an_unexpected_answer() {
    for fault in [
        Fault::Garbage,
        Fault::ContentType { value: "text/html".to_owned() },
        Fault::ContentType { value: "image/png".to_owned() },
        Fault::status(418),
        Fault::Redirect { location: "https://evil.example/".to_owned() },
        Fault::status(204),
    ] {
        every_call_fails_with(&fault, |error| error.code == ErrorCode::UnexpectedAnswer);
    }
}

#[test]
fn half_an_answer_is_an_error_and_never_half_a_result() {
    every_call_fails_with(&Fault::Truncated, |error| {
        matches!(error.code, ErrorCode::UnexpectedAnswer | ErrorCode::Unavailable)
    });
}

#[test]
fn an_envelope_that_is_not_this_sessions_is_an_unexpected_answer() {
    for fault in [
        Fault::TamperedEnvelope,
        Fault::WrongEnvelopeKey,
        Fault::WrongEnvelopeKid,
        Fault::GarbagePlaintext,
        Fault::EnvelopeError { code: 999, message: "hunter2-in-a-message".to_owned() },
    ] {
        for endpoint in [Endpoint::Complete, Endpoint::Vault, Endpoint::Keysets, Endpoint::Item] {
            let lab = Lab::new();
            lab.emulator.fault(FaultRule::next_of(endpoint, fault.clone()));
            let error = error(lab.resolve(&lab.reference(VAULT, ITEM), &Selection::ALL));
            assert!(error.code == ErrorCode::UnexpectedAnswer, "{fault:?} {endpoint:?}: {error:?}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert_no_secret(&lab, &error.to_string());
        }
    }
}

#[test]
fn a_refusal_of_one_endpoint_names_what_to_do() {
    for (endpoint, status, word) in [
        (Endpoint::AuthStart, 403, "firewall"),
        (Endpoint::Vault, 403, "Read Items"),
        (Endpoint::Item, 403, "Read Items"),
        (Endpoint::Keysets, 403, "Read Items"),
    ] {
        let lab = Lab::new();
        lab.emulator.fault(FaultRule::next_of(endpoint, Fault::status(status)));
        let Error { code: ErrorCode::PermissionDenied, message, .. } =
            error(lab.resolve(&lab.reference(VAULT, ITEM), &Selection::ALL))
        else {
            panic!("{endpoint:?}")
        };
        assert!(message.contains(word), "{message}");
    }
}

/// A proxy's maintenance page, a firewall's refusal, a load balancer's JSON: whatever was asked,
/// the token and the vault are not to blame, and the next call works.
#[test]
fn a_refusal_that_is_not_the_servers_own_is_an_outage_whatever_was_asked() {
    let bodies = [json!("<html>Forbidden</html>"), json!({"message": "blocked", "ray": "7f"}), json!(null)];
    for status in [400, 401, 403, 404] {
        for body in &bodies {
            let fault = Fault::Status {
                status,
                retry_after_seconds: None,
                retry_after_in: RetryAfterForm::Header,
                body: Some(body.clone()),
            };
            every_call_fails_with(&fault, |error| error.code == ErrorCode::Unavailable);
        }
    }
}

#[test]
fn a_proxys_401_in_the_middle_of_a_session_costs_a_sign_in_and_nothing_else() {
    let lab = Lab::new().warm();
    let page = Fault::Status {
        status: 401,
        retry_after_seconds: None,
        retry_after_in: RetryAfterForm::Header,
        body: Some(json!("<html>")),
    };
    lab.emulator.fault(FaultRule::next_of(Endpoint::Item, page));
    let (result, calls) = lab.calls_of(|| lab.resolve(&lab.reference(VAULT, ITEM), &Selection::ALL));
    assert!(result.is_ok());
    assert_eq!((calls.total, calls.logins), (1 + 4 + 1, 1));
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let lab = Lab::new();
    let reference = lab.reference(VAULT, ITEM);
    for endpoint in [
        Endpoint::AuthStart,
        Endpoint::Auth,
        Endpoint::ConfirmKey,
        Endpoint::Complete,
        Endpoint::Vault,
        Endpoint::Keysets,
        Endpoint::Item,
    ] {
        lab.emulator.fault(FaultRule::next_of(endpoint, Fault::status(500)));
        assert!(
            matches!(error(lab.resolve(&reference, &Selection::ALL)), Error { code: ErrorCode::Unavailable, .. }),
            "{endpoint:?}"
        );
        assert!(lab.emulator.faults().is_empty());
    }
    assert!(lab.resolve(&reference, &Selection::ALL).is_ok());
}
