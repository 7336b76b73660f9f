use serde::Deserialize;

use super::*;
use crate::ErrorCode;
use crate::testing::{TestHost, json_response};

const SECRET: &str = "hunter2";

/// The result when the server at `https://vault.example.com/base` answers with this response.
fn answer(response: impl Fn() -> std::result::Result<Response, HttpError> + 'static) -> Result<Answer> {
    let sandbox = TestHost::new(move |_| response());
    let base = Url::parse("https://vault.example.com/base").unwrap();
    sandbox.host().client(base).get("items").segment(SECRET).query("token", SECRET).header("x", SECRET).send()
}

fn answer_of(status: u16, headers: &'static [(&str, &str)], body: &'static str) -> Answer {
    answer(move || {
        let mut response = Response { status, body: Zeroizing::new(body.into()), ..Response::default() };
        for (name, value) in headers {
            response.headers.append(*name, *value);
        }
        Ok(response)
    })
    .unwrap()
}

#[test]
fn paths_segments_and_queries_stay_in_their_places() {
    let sandbox = TestHost::new(|_| Ok(json_response(200, "{}")));
    for base in ["https://vault.example.com/base", "https://vault.example.com/base/?x=1#y"] {
        let client = sandbox.host().client(Url::parse(base).unwrap());
        for path in ["v1/items", "/v1/items", "v1/items/"] {
            let request = client.get(path).segment("../a?b#c/d %").query("q&", "ü=").build().unwrap();
            assert_eq!(
                request.url.as_str(),
                "https://vault.example.com/base/v1/items/..%2Fa%3Fb%23c%2Fd%20%25?q%26=%C3%BC%3D",
                "{base} {path}"
            );
        }
    }
}

#[test]
fn a_segment_cannot_climb() {
    for segment in ["", ".", ".."] {
        let sandbox = TestHost::new(|_| panic!("nothing may be sent"));
        let client = sandbox.host().client(Url::parse("https://vault.example.com").unwrap());
        let error = client.get("items").segment(segment).send().unwrap_err();
        assert!(error.code == ErrorCode::Other("invalid-request".into()), "{segment:?}");
    }
}

#[test]
fn a_header_of_the_request_replaces_the_default_one() {
    let sandbox = TestHost::new(|_| Ok(json_response(200, "{}")));
    let client =
        sandbox.host().client(Url::parse("https://h").unwrap()).default_header("A", "1").default_header("b", "2");
    let request = client.post("x").header("a", "3").json(&["y"]).build().unwrap();
    assert_eq!(request.headers.get("a"), Some("3"));
    assert_eq!(request.headers.get("b"), Some("2"));
    assert_eq!(request.headers.get("content-type"), Some("application/json"));
    assert_eq!(request.body.as_slice(), br#"["y"]"#);
    assert_eq!(request.method, Method::Post);
}

#[test]
fn timeouts_of_the_client_are_those_of_its_requests() {
    let sandbox = TestHost::new(|_| Ok(json_response(200, "{}")));
    let quick = Timeouts { connect: std::time::Duration::from_secs(1), ..Timeouts::default() };
    let client = sandbox.host().client(Url::parse("https://h").unwrap()).timeouts(quick);
    assert_eq!(client.get("x").build().unwrap().timeouts, quick);
    assert_eq!(client.get("x").timeouts(Timeouts::default()).build().unwrap().timeouts, Timeouts::default());
}

#[test]
fn each_failure_of_the_network_is_the_right_error() {
    type Case = fn(&Error) -> bool;
    let cases: [(HttpError, Case); 10] = [
        (HttpError::Denied, |e| e.code == ErrorCode::PermissionDenied),
        (HttpError::Timeout, |e| e.code == ErrorCode::Unavailable),
        (HttpError::Dns, |e| e.code == ErrorCode::Unavailable),
        (HttpError::Connection, |e| e.code == ErrorCode::Unavailable),
        (HttpError::Tls, |e| e.code == ErrorCode::Unavailable),
        (HttpError::Incomplete, |e| e.code == ErrorCode::UnexpectedAnswer),
        (HttpError::TooLarge, |e| e.code == ErrorCode::UnexpectedAnswer),
        (HttpError::Protocol, |e| e.code == ErrorCode::UnexpectedAnswer),
        (HttpError::InvalidRequest("x".into()), |e| matches!(e.code, ErrorCode::Other(_))),
        (HttpError::Other("x".into()), |e| e.code == ErrorCode::Unavailable),
    ];
    for (failure, expected) in cases {
        let error = answer({
            let failure = failure.clone();
            move || Err(failure.clone())
        })
        .unwrap_err();
        assert!(expected(&error), "{failure:?}: {error:?}");
        assert!(error.to_string().contains("vault.example.com"), "{error}");
        assert!(!error.to_string().contains(SECRET), "{error}");
    }
}

#[test]
fn each_status_is_the_right_error() {
    type Case = fn(&Error) -> bool;
    let cases: [(u16, Case); 16] = [
        (301, |e| e.code == ErrorCode::UnexpectedAnswer),
        (304, |e| e.code == ErrorCode::UnexpectedAnswer),
        (400, |e| e.code == ErrorCode::UnexpectedAnswer),
        (401, |e| e.code == ErrorCode::Unauthenticated),
        (403, |e| e.code == ErrorCode::PermissionDenied),
        (404, |e| e.code == ErrorCode::NotFound),
        (408, |e| e.code == ErrorCode::Unavailable),
        (409, |e| e.code == ErrorCode::Conflict),
        (410, |e| e.code == ErrorCode::NotFound),
        (412, |e| e.code == ErrorCode::Conflict),
        (418, |e| e.code == ErrorCode::UnexpectedAnswer),
        (429, |e| e.code == ErrorCode::RateLimited && e.retry_after_seconds.is_none()),
        (500, |e| e.code == ErrorCode::Unavailable),
        (503, |e| e.code == ErrorCode::Unavailable),
        (599, |e| e.code == ErrorCode::Unavailable),
        (600, |e| e.code == ErrorCode::UnexpectedAnswer),
    ];
    for (status, expected) in cases {
        let error = answer_of(status, &[("location", SECRET)], SECRET).success().unwrap_err();
        assert!(expected(&error), "{status}: {error:?}");
        assert!(!error.to_string().contains(SECRET), "{error}");
    }
    for status in [200, 201, 204, 299] {
        assert!(answer_of(status, &[], "").success().is_ok());
    }
}

#[test]
fn a_rate_limit_says_when_to_come_back() {
    let seconds = answer_of(429, &[("Retry-After", "17")], "").success().unwrap_err();
    assert!(seconds.retry_after_seconds == Some(17), "{seconds:?}");

    // The clock of the sandbox stands at 1,700,000,000, which is 22:13:20.
    let date = answer_of(429, &[("retry-after", "Tue, 14 Nov 2023 22:14:20 GMT")], "").success().unwrap_err();
    assert!(date.retry_after_seconds == Some(60), "{date:?}");
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[test]
fn json_is_read_whatever_its_content_type_says_beside_it() {
    for content_type in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"] {
        let sandbox = TestHost::new(move |_| {
            let headers = Headers::new().with("content-type", content_type);
            Ok(Response { status: 200, headers, body: Zeroizing::new(br#"{"name":"Ada","more":1}"#.to_vec()) })
        });
        let answer = sandbox.host().client(Url::parse("https://h").unwrap()).get("x").send().unwrap();
        assert_eq!(answer.json::<Named>().unwrap().name, "Ada", "{content_type}");
    }
}

#[test]
fn what_is_not_the_expected_json_is_an_error_without_a_word_of_it() {
    const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
    for (answer, expected) in [
        (answer_of(200, &[], r#"{"name":"hunter2"}"#), "not JSON"),
        (answer_of(200, &[("content-type", "text/html")], "<p>hunter2</p>"), "not JSON"),
        (answer_of(200, &[("content-type", "application/jsonp")], r#"{"name":"hunter2"}"#), "not JSON"),
        (answer_of(200, JSON, r#"{"name":"hunter2"#), "truncated JSON"),
        (answer_of(200, JSON, ""), "truncated JSON"),
        (answer_of(200, JSON, r#"{"name":["hunter2"]}"#), "unexpected form"),
        (answer_of(200, JSON, r#"{"hunter2":1}"#), "unexpected form"),
        (answer_of(200, JSON, r#"{"name":hunter2}"#), "invalid JSON"),
        (answer_of(200, JSON, r#"{"name":"a"} hunter2"#), "invalid JSON"),
    ] {
        let error = answer.json::<Named>().unwrap_err();
        assert!(
            matches!(&error, Error { code: ErrorCode::UnexpectedAnswer, message, .. } if message.contains(expected)),
            "{error:?}"
        );
        assert!(!error.to_string().contains(SECRET), "{error}");
    }
}

#[test]
fn requests_and_answers_print_no_secret() {
    let sandbox = TestHost::new(|_| Ok(json_response(200, SECRET)));
    let client = sandbox.host().client(Url::parse("https://h").unwrap()).default_header("authorization", SECRET);
    let answer = client.post("x").query("q", SECRET).json(&SECRET).send().unwrap();
    let printed = format!("{:?} {answer:?}", sandbox.http.requests());
    assert!(!printed.contains(SECRET), "{printed}");
    assert!(printed.contains("authorization"), "{printed}");
}
