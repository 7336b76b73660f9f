use super::*;
use keyway_sdk::ErrorCode;
use keyway_sdk::http::Headers;

fn response(status: u16, headers: Headers, body: &str) -> Response {
    Response { status, headers, body: zeroize::Zeroizing::new(body.as_bytes().to_vec()) }
}

fn refusal(status: u16, body: &str) -> Option<Refusal> {
    Refusal::of(&response(status, Headers::new(), body), 0)
}

#[test]
fn every_status_has_its_meaning() {
    for (status, expected) in [
        (200, None),
        (204, None),
        (302, Some(Refusal::Unexpected(302))),
        (400, Some(Refusal::BadRequest)),
        (401, Some(Refusal::Unauthorized)),
        (403, Some(Refusal::Forbidden)),
        (404, Some(Refusal::NotFound)),
        (408, Some(Refusal::OutOfOrder(408))),
        (409, Some(Refusal::Conflict)),
        (418, Some(Refusal::Unexpected(418))),
        (429, Some(Refusal::RateLimited(None))),
        (500, Some(Refusal::OutOfOrder(500))),
        (503, Some(Refusal::OutOfOrder(503))),
    ] {
        assert_eq!(refusal(status, "{}"), expected, "{status}");
    }
}

#[test]
fn only_the_servers_own_form_refuses_and_everything_else_is_an_outage() {
    let foreign = [
        ("", "an empty body"),
        ("<html><h1>403 Forbidden</h1></html>", "a web page"),
        (r#"{"error":"forbidden","reason":"waf"}"#, "unknown form"),
        (r#"{"errorCode":"E1020"}"#, "unknown form"),
        (r#"["errorCode"]"#, "unknown form"),
        ("Forbidden", "not JSON"),
        (r#"{"errorCode":1"#, "incomplete"),
    ];
    for status in [400, 401, 403, 404, 410] {
        for (body, word) in foreign {
            let Some(refusal @ Refusal::Foreign(seen, _)) = refusal(status, body) else { panic!("{status} {body}") };
            assert_eq!(seen, status);
            for asked in [Asked::SignIn, Asked::Account, Asked::Vault(None), Asked::Item(None), Asked::Change(None)] {
                let error = Failure::Refused(refusal).into_error("my.1password.com", asked);
                assert!(error.code == ErrorCode::Unavailable, "{status} {body} {asked:?}: {error:?}");
                assert!(error.message.contains(word), "{error:?}");
                assert!(error.message.contains(&status.to_string()), "{error:?}");
            }
        }
        for own in ["{}", r#"{"errorCode":102,"errorMessage":"x","requestId":1}"#, r#"{"reason":"x"}"#] {
            assert!(!matches!(refusal(status, own), Some(Refusal::Foreign(..))), "{status} {own}");
        }
    }
}

#[test]
fn an_error_object_says_what_an_old_servers_400_means() {
    let object = |code: i64| format!(r#"{{"errorCode":{code},"errorMessage":"Not found.","requestId":5}}"#);
    assert_eq!(refusal(400, &object(117)), Some(Refusal::NotFound));
    assert_eq!(refusal(400, &object(102)), Some(Refusal::Unauthorized));
    assert_eq!(refusal(400, &object(999)), Some(Refusal::Code(999)));
    assert_eq!(refusal(400, r#"{"reason":"invalid_sk_prefix_format"}"#), Some(Refusal::BadRequest));
    assert_eq!(error_code(b"[]"), None);
    assert_eq!(error_code(format!(r#"{{"errorCode":1,"x":"{}"}}"#, "x".repeat(5000)).as_bytes()), None);
}

#[test]
fn the_delay_of_a_429_comes_from_the_header_else_from_the_body_else_is_absent() {
    let limited = |headers, body| Refusal::of(&response(429, headers, body), 784_111_777);
    let header = |value: &str| Headers::new().with("Retry-After", value);
    assert_eq!(limited(header("3480"), "{}"), Some(Refusal::RateLimited(Some(3480))));
    assert_eq!(limited(header("Sun, 06 Nov 1994 08:51:37 GMT"), ""), Some(Refusal::RateLimited(Some(120))));
    assert_eq!(limited(header("7"), r#"{"retryAfter":9}"#), Some(Refusal::RateLimited(Some(7))));
    for body in [r#"{"retryAfter":8.2}"#, r#"{"retry_after":9}"#, r#"{"retryAfterSeconds":9,"errorCode":1}"#] {
        assert_eq!(limited(Headers::new(), body), Some(Refusal::RateLimited(Some(9))), "{body}");
    }
    for body in ["", "busy", "{}", r#"{"retryAfter":"soon"}"#, r#"{"retryAfter":-1}"#, r#"{"retryAfter":1e99}"#] {
        assert_eq!(limited(Headers::new(), body), Some(Refusal::RateLimited(None)), "{body}");
    }
}

#[test]
fn a_refusal_becomes_the_case_that_a_host_can_act_on() {
    let case = |refusal: Refusal, asked| Failure::Refused(refusal).into_error("my.1password.com", asked);
    let vault = Some("Automation");
    for asked in [Asked::SignIn, Asked::Account, Asked::Item(vault)] {
        assert!(
            matches!(case(Refusal::Unauthorized, asked), Error { code: ErrorCode::Unauthenticated, message: text, .. } if text.contains("revoked"))
        );
    }
    for refusal in [Refusal::BadRequest, Refusal::NotFound] {
        assert!(matches!(case(refusal, Asked::SignIn), Error { code: ErrorCode::Unauthenticated, .. }));
    }
    let Error { code: ErrorCode::PermissionDenied, message: text, .. } = case(Refusal::Forbidden, Asked::Change(vault))
    else {
        panic!()
    };
    assert_eq!(text, "The service account can only read the vault 'Automation'. Grant it Write Items on that vault.");
    let Error { code: ErrorCode::PermissionDenied, message: text, .. } = case(Refusal::Forbidden, Asked::Item(None))
    else {
        panic!()
    };
    assert_eq!(text, "The service account cannot read the item's vault. Grant it Read Items on that vault.");
    let Error { code: ErrorCode::NotFound, message: text, .. } = case(Refusal::NotFound, Asked::Item(vault)) else {
        panic!()
    };
    assert_eq!(
        text,
        "There is no such item in the vault 'Automation'. It may have been deleted or moved to another vault, or the service account can no longer read it."
    );
    let Error { code: ErrorCode::RateLimited, retry_after_seconds: Some(3480), message, .. } =
        case(Refusal::RateLimited(Some(3480)), Asked::SignIn)
    else {
        panic!()
    };
    assert!(message.contains("58 minutes"), "{message}");
    assert!(
        matches!(case(Refusal::OutOfOrder(502), Asked::Account), Error { code: ErrorCode::Unavailable, message: text, .. } if text.contains("502"))
    );
    assert!(
        matches!(case(Refusal::Conflict, Asked::Change(vault)), Error { code: ErrorCode::Conflict, message: text, .. } if text.contains("written"))
    );
    for asked in [Asked::SignIn, Asked::Account, Asked::Vault(vault), Asked::Item(vault)] {
        let error = case(Refusal::Conflict, asked);
        assert!(
            matches!(&error, Error { code: ErrorCode::Unavailable, message: text, .. } if text.contains("409")),
            "{asked:?}: {error:?}"
        );
    }
    for refusal in [Refusal::Unexpected(302), Refusal::Unexpected(418), Refusal::BadRequest, Refusal::Code(7)] {
        assert!(matches!(case(refusal, Asked::Account), Error { code: ErrorCode::UnexpectedAnswer, .. }));
    }
}

#[test]
fn a_change_without_a_clear_answer_says_that_it_may_have_been_made() {
    let case = |failure: Failure| failure.into_error("my.1password.com", Asked::Change(None));
    for failure in [
        Failure::Transport(HttpError::Timeout),
        Failure::Transport(HttpError::Incomplete),
        Failure::Transport(HttpError::Connection),
        Failure::Refused(Refusal::OutOfOrder(504)),
    ] {
        let Error { code: ErrorCode::Unavailable, message: text, .. } = case(failure) else { panic!() };
        assert!(text.contains("may or may not"), "{text}");
    }
    let Error { code: ErrorCode::UnexpectedAnswer, message: text, .. } = case(Failure::Garbled("half an answer"))
    else {
        panic!()
    };
    assert!(text.contains("unknown"), "{text}");
    // The request was never sent.
    assert!(matches!(case(Failure::Transport(HttpError::Denied)), Error { code: ErrorCode::PermissionDenied, .. }));
    assert!(
        matches!(case(Failure::Transport(HttpError::Dns)), Error { code: ErrorCode::Unavailable, message: text, .. } if !text.contains("may or may not"))
    );
}
