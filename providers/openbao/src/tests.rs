//! The provider against scripted answers: what the real server of `tests/e2e` does not do on
//! request.

use keyway_sdk::{
    Capabilities, Changes, ErrorCode, Host, Refresh, Result, SecretProvider, Selection, Settings,
    http::{HttpError, Request, Response},
    secrecy::ExposeSecret,
    session::SessionStore,
    testing::{TestHost, json_response},
};

use crate::OpenBao;

const MOUNT: &str = r#"{"data":{"type":"kv","options":{"version":"2"},"path":"secret/"}}"#;
const MOUNT_V1: &str = r#"{"data":{"type":"kv","options":null,"path":"secret/"}}"#;
const SECRET: &str = r#"{"data":{"data":{"username":"ada","password":"hunter2","n":1.50},"metadata":{"version":3,"created_time":"2026-01-02T03:04:05.6Z","deletion_time":""}}}"#;
const LOGIN: &str = r#"{"auth":{"client_token":"s.one","lease_duration":900,"renewable":true}}"#;
const REFERENCE: &str = "vault://secret/web/acme";

fn token() -> Settings {
    settings().with("token", "s.t0ken")
}

fn app_role() -> Settings {
    settings().with("role_id", "role").with("secret_id", "s3cret")
}

fn settings() -> Settings {
    [("username_keys", "username"), ("password_keys", "password"), ("otp_keys", "otp")]
        .into_iter()
        .fold(Settings::new(), |settings, (name, value)| settings.with(name, value))
        .with("address", "https://bao.example.com:8200/proxy")
}

/// A server that has one secret, and answers this to what it is about.
fn server(answer: impl Fn(&Request) -> Option<Response> + 'static) -> TestHost {
    TestHost::new(move |request| Ok(answer(request).unwrap_or_else(|| usual(request))))
}

fn usual(request: &Request) -> Response {
    let path = request.url.path().strip_prefix("/proxy/v1/").expect("the address has a path");
    match path {
        "auth/approle/login" | "auth/token/renew-self" => json_response(200, LOGIN),
        "secret/data/web/acme" => json_response(200, SECRET),
        _ if path.starts_with("sys/internal/ui/mounts/") => json_response(200, MOUNT),
        _ => json_response(404, r#"{"errors":[]}"#),
    }
}

fn resolve(host: &Host<'_>, settings: &Settings) -> Result<keyway_sdk::Resolved> {
    OpenBao::resolve(host, settings, REFERENCE, &Selection::ALL)
}

fn paths(sandbox: &TestHost) -> Vec<String> {
    sandbox.http.requests().iter().map(|request| format!("{} {}", request.method, request.url.path())).collect()
}

#[test]
fn it_describes_itself_as_it_is() {
    let description = OpenBao::describe();
    assert!(!description.capabilities.conditional_writes, "version 1 of the engine has none");
    assert_eq!(
        description.capabilities,
        Capabilities { list_items: true, write: true, one_time_codes: true, conditional_writes: false }
    );
    let named: Vec<_> = description.settings.iter().map(|setting| setting.name.as_str()).collect();
    for group in &description.setting_groups {
        for name in group.alternatives.iter().flat_map(|one| one.required.iter().chain(&one.optional)) {
            assert!(named.contains(&name.as_str()), "{name}");
        }
    }
}

#[test]
fn requests_carry_token_and_namespace_and_go_below_the_address() {
    let sandbox = server(|_| None);
    let resolved = resolve(&sandbox.host(), &token().with("namespace", "team/a")).unwrap();
    assert_eq!(resolved.password.unwrap().expose_secret(), "hunter2");
    assert_eq!(resolved.revision, "3@2026-01-02T03:04:05.6Z");
    for request in sandbox.http.requests().iter() {
        assert!(request.url.as_str().starts_with("https://bao.example.com:8200/proxy/v1/"), "{request:?}");
        for (name, value) in
            [("x-vault-token", "s.t0ken"), ("x-vault-namespace", "team/a"), ("x-vault-request", "true")]
        {
            assert_eq!(request.headers.get(name), Some(value));
        }
    }
}

#[test]
fn every_status_has_its_error() {
    let sealed = r#"{"errors":["Vault is sealed"]}"#;
    for (status, body, code) in [
        (403, r#"{"errors":["permission denied"]}"#, ErrorCode::Unauthenticated),
        (
            403,
            r#"{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}"#,
            ErrorCode::Unauthenticated,
        ),
        (403, r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#, ErrorCode::PermissionDenied),
        (403, "<html>Forbidden</html>", ErrorCode::Unavailable),
        (401, "{\"message\":\"proxy\"", ErrorCode::Unavailable),
        (400, r#"{"errors":["missing something"]}"#, ErrorCode::UnexpectedAnswer),
        (400, r#"{"errors":["Upgrading from non-versioned to versioned data."]}"#, ErrorCode::Unavailable),
        (404, r#"{"errors":["no handler for route \"secret/data/x\". route entry not found."]}"#, ErrorCode::NotFound),
        (404, "<html>Not found</html>", ErrorCode::Unavailable),
        (412, r#"{"errors":["required index state not present"]}"#, ErrorCode::Unavailable),
        (429, r#"{"errors":["rate limit quota exceeded"]}"#, ErrorCode::RateLimited),
        (472, "", ErrorCode::Unavailable),
        (473, "", ErrorCode::Unavailable),
        (500, r#"{"errors":["internal error"]}"#, ErrorCode::Unavailable),
        (503, sealed, ErrorCode::Unavailable),
        (200, "<html>Welcome</html>", ErrorCode::UnexpectedAnswer),
        (200, r#"{"data":{"data":"no"}}"#, ErrorCode::UnexpectedAnswer),
    ] {
        let sandbox = server(move |request| {
            let mut answer = json_response(status, body);
            answer.headers.set("retry-after", "7");
            request.url.path().contains("/data/").then_some(answer)
        });
        let error = resolve(&sandbox.host(), &token()).unwrap_err();
        assert_eq!(error.code, code, "{status} {body}: {error}");
        assert!(!error.message.contains("hunter2") && error.message.ends_with('.'), "{error}");
        let waits = matches!(status, 412 | 429 | 472 | 473 | 500 | 503);
        assert_eq!(error.retry_after_seconds, waits.then_some(7), "{status}");
    }
}

#[test]
fn a_redirect_of_a_standby_names_the_active_node_and_is_not_followed() {
    let sandbox = server(|_| {
        let mut answer = json_response(307, "");
        answer.headers.set("location", "https://active.example.com:8200/v1/secret/data/web/acme");
        Some(answer)
    });
    let error = resolve(&sandbox.host(), &token()).unwrap_err();
    assert!(error.code == ErrorCode::UnexpectedAnswer && error.message.contains("active.example.com"), "{error}");
    assert_eq!(sandbox.http.requests().len(), 1);
}

#[test]
fn a_refused_session_is_replaced_once_and_a_refused_setting_never() {
    let refuse = |request: &Request| {
        request.url.path().contains("/data/").then(|| json_response(403, r#"{"errors":["permission denied"]}"#))
    };
    let sandbox = server(refuse);
    assert_eq!(resolve(&sandbox.host(), &token()).unwrap_err().code, ErrorCode::Unauthenticated);
    assert_eq!(sandbox.http.requests().len(), 2, "{:?}", paths(&sandbox));

    let sandbox = server(|_| None);
    resolve(&sandbox.host(), &app_role()).unwrap();
    assert_eq!(sandbox.session.ttl_seconds(), Some(900));
    let before = sandbox.http.requests().len();
    resolve(&sandbox.host(), &app_role()).unwrap();
    assert_eq!((sandbox.session.logins(), sandbox.http.requests().len()), (1, before + 1), "{:?}", paths(&sandbox));
    let state = sandbox.session.get().unwrap();
    let sandbox = server(refuse);
    sandbox.session.put(&state.data, 900).unwrap();
    assert_eq!(resolve(&sandbox.host(), &app_role()).unwrap_err().code, ErrorCode::Unauthenticated);
    assert_eq!(
        paths(&sandbox),
        [
            "GET /proxy/v1/secret/data/web/acme",
            "POST /proxy/v1/auth/approle/login",
            "GET /proxy/v1/secret/data/web/acme"
        ]
    );
}

#[test]
fn a_login_is_renewed_after_two_thirds_of_its_life_and_made_anew_if_that_fails() {
    for (renewed, expected) in [(200, 1), (403, 2)] {
        let sandbox = server(move |request| {
            let of_renewal = request.url.path().ends_with("renew-self") && renewed != 200;
            of_renewal.then(|| json_response(renewed, r#"{"errors":["permission denied"]}"#))
        });
        resolve(&sandbox.host(), &app_role()).unwrap();
        sandbox.clock.set(1_700_000_000 + 599);
        resolve(&sandbox.host(), &app_role()).unwrap();
        assert!(!paths(&sandbox).iter().any(|path| path.ends_with("renew-self")));
        sandbox.clock.set(1_700_000_000 + 600);
        resolve(&sandbox.host(), &app_role()).unwrap();
        let made = paths(&sandbox);
        let count = |end: &str| made.iter().filter(|path| path.ends_with(end)).count();
        assert_eq!((count("renew-self"), count("login")), (1, expected), "{made:?}");
    }
}

#[test]
fn the_token_of_a_jwt_outlives_the_jwt_and_the_session() {
    let sandbox = server(|request| match request.url.path().strip_prefix("/proxy/v1/")? {
        "auth/jwt/login" => Some(json_response(200, LOGIN)),
        _ => None,
    });
    let settings = settings().with("jwt", "e.y.j");
    resolve(&sandbox.host(), &settings).unwrap();
    assert_eq!(sandbox.store.refresh_by(), Some(1_700_000_600));
    let (logins, renewals) = ("POST /proxy/v1/auth/jwt/login", "POST /proxy/v1/auth/token/renew-self");
    let made = |what: &str| paths(&sandbox).iter().filter(|path| *path == what).count();
    // The host restarts, and later asks for a renewal.
    sandbox.session.clear();
    sandbox.clock.set(1_700_000_500);
    resolve(&sandbox.host(), &settings).unwrap();
    assert_eq!((made(logins), made(renewals)), (1, 0));
    OpenBao::refresh(&sandbox.host(), &settings).unwrap();
    assert_eq!((made(logins), made(renewals), sandbox.store.refresh_by()), (1, 1, Some(1_700_001_100)));
    // A token that has ended is of no use.
    sandbox.session.clear();
    sandbox.clock.set(1_700_001_400);
    resolve(&sandbox.host(), &settings).unwrap();
    assert_eq!((made(logins), made(renewals)), (2, 1));
}

#[test]
fn a_login_that_is_refused_says_where() {
    for (status, body) in
        [(400, r#"{"errors":["invalid role or secret ID"]}"#), (403, r#"{"errors":["permission denied"]}"#)]
    {
        let sandbox = server(move |_| Some(json_response(status, body)));
        let error = resolve(&sandbox.host(), &app_role().with("approle_mount", "/corp/roles/")).unwrap_err();
        assert!(error.code == ErrorCode::Unauthenticated && error.message.contains("'corp/roles'"), "{error}");
        assert!(!error.message.contains("s3cret"));
        assert_eq!(paths(&sandbox), ["POST /proxy/v1/auth/corp/roles/login"]);
    }
}

#[test]
fn a_change_patches_with_the_version_and_writes_the_whole_secret_where_it_may_not_patch() {
    for (refusal, methods) in [(None, "PATCH"), (Some(403), "PATCH POST"), (Some(405), "PATCH POST")] {
        let sandbox = server(move |request| match request.method.as_str() {
            "PATCH" | "POST" if refusal.is_none() || request.method.as_str() == "POST" => {
                Some(json_response(200, r#"{"data":{"version":4,"created_time":"later","deletion_time":""}}"#))
            }
            "PATCH" => Some(json_response(
                refusal.unwrap_or(0),
                r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#,
            )),
            _ => None,
        });
        let changes = Changes { password: Some("new".into()), ..Changes::default() };
        let revision = OpenBao::write(&sandbox.host(), &token(), REFERENCE, &changes, Some("3@2026-01-02T03:04:05.6Z"));
        assert_eq!(revision.unwrap(), "4@later");
        let requests = sandbox.http.requests();
        let written: Vec<_> = requests.iter().filter(|request| !request.body.is_empty()).collect();
        let made: Vec<_> = written.iter().map(|request| request.method.as_str()).collect();
        assert_eq!(made.join(" "), methods);
        let bodies = [
            r#"{"data":{"password":"new"},"options":{"cas":3}}"#,
            r#"{"data":{"n":1.50,"password":"new","username":"ada"},"options":{"cas":3}}"#,
        ];
        for (request, body) in written.iter().zip(bodies) {
            assert_eq!(std::str::from_utf8(&request.body).unwrap(), body);
        }
        assert_eq!(written[0].headers.get("content-type"), Some("application/merge-patch+json"));
    }
}

#[test]
fn a_lost_race_is_repeated_without_an_expected_revision_and_a_conflict_with_one() {
    let conflict = r#"{"errors":["check-and-set parameter did not match the current version"]}"#;
    for (expected, writes) in [(None, 5), (Some("3@2026-01-02T03:04:05.6Z"), 1), (Some("2@x"), 0)] {
        let sandbox = server(move |request| (request.method.as_str() == "PATCH").then(|| json_response(400, conflict)));
        let changes = Changes { password: Some("new".into()), ..Changes::default() };
        let error = OpenBao::write(&sandbox.host(), &token(), REFERENCE, &changes, expected).unwrap_err();
        assert_eq!(error.code, ErrorCode::Conflict);
        let made = paths(&sandbox).iter().filter(|path| path.starts_with("PATCH")).count();
        assert_eq!(made, writes, "{expected:?}");
    }
}

#[test]
fn the_revision_of_version_1_is_no_hash_of_the_values_alone() {
    let revision = |settings: &Settings, body: &'static str| {
        let sandbox = server(move |request| {
            let is_mount = request.url.path().contains("/mounts/");
            Some(json_response(200, if is_mount { MOUNT_V1 } else { body }))
        });
        resolve(&sandbox.host(), settings).unwrap().revision
    };
    let first = revision(&token(), r#"{"data":{"password":"<"}}"#);
    assert_eq!(first, revision(&token(), r#"{"data":{"password":"\u003c"}}"#));
    for (settings, body) in [
        (settings().with("token", "s.other"), r#"{"data":{"password":"<"}}"#),
        (token(), r#"{"data":{"password":">"}}"#),
        (token(), r#"{"data":{"password":"<","b":null}}"#),
    ] {
        assert_ne!(first, revision(&settings, body), "{body}");
    }
}

#[test]
fn a_secret_that_deletes_itself_is_valid_until_then() {
    let sandbox = server(|request| {
        let body = SECRET.replace(r#""deletion_time":"""#, r#""deletion_time":"2026-01-02T03:04:06.5Z""#);
        request.url.path().contains("/data/").then(|| json_response(200, body))
    });
    assert_eq!(resolve(&sandbox.host(), &token()).unwrap().valid_until, Some(1_767_323_046));
}

#[test]
fn a_token_that_ends_is_scheduled_for_renewal_and_one_that_does_not_is_not() {
    for (ttl, renewable, refresh_by) in [(7_200, true, Some(1_700_003_600)), (0, true, None), (60, false, None)] {
        let sandbox = server(move |request| match request.url.path().strip_prefix("/proxy/v1/")? {
            "auth/token/lookup-self" => Some(json_response(
                200,
                format!(
                    r#"{{"data":{{"display_name":"token","ttl":{ttl},"renewable":{renewable},"expire_time":null}}}}"#
                ),
            )),
            "sys/internal/ui/mounts" => {
                Some(json_response(200, r#"{"data":{"secret":{"secret/":{"type":"kv","options":null}}}}"#))
            }
            _ => None,
        });
        let verified = OpenBao::verify(&sandbox.host(), &token()).unwrap();
        assert_eq!((verified.account.as_str(), verified.vault_count), ("token at bao.example.com", Some(1)));
        assert_eq!(sandbox.store.refresh_by(), refresh_by);
        if refresh_by.is_some() {
            sandbox.clock.set(1_700_003_600);
            OpenBao::refresh(&sandbox.host(), &token()).unwrap();
            assert_eq!(sandbox.store.refresh_by(), Some(1_700_003_600 + 450));
            assert_eq!(sandbox.log.lines().len(), 1, "it is renewed for less than before");
        }
    }
}

#[test]
fn a_code_of_a_server_that_says_no_end_ends_with_the_period_of_its_key() {
    for (of_key, expected) in [(Some(60), 1_700_000_040), (None, 1_700_000_010)] {
        let sandbox = server(move |request| match (request.url.path().strip_prefix("/proxy/v1/")?, of_key) {
            ("totp/code/acme", _) => Some(json_response(200, r#"{"data":{"code":"123456"}}"#)),
            ("totp/keys/acme", Some(period)) => {
                Some(json_response(200, format!(r#"{{"data":{{"period":{period}}}}}"#)))
            }
            ("totp/keys/acme", None) => Some(json_response(403, r#"{"errors":["1 error occurred"]}"#)),
            _ => Some(json_response(200, r#"{"data":{"type":"totp","options":{},"path":"totp/"}}"#)),
        });
        let resolved = OpenBao::resolve(&sandbox.host(), &token(), "vault://totp/acme", &Selection::ALL).unwrap();
        let code = resolved.one_time_code.unwrap().unwrap();
        assert_eq!((code.code.expose_secret(), code.expires_at), ("123456", expected));
    }
}

#[test]
fn a_broken_connection_is_an_error_of_the_contract() {
    let sandbox = TestHost::new(|_| Err(HttpError::Timeout));
    assert_eq!(resolve(&sandbox.host(), &token()).unwrap_err().code, ErrorCode::Unavailable);
}

#[test]
fn a_server_without_scan_lists_folder_by_folder() {
    // Vault reads the folder where it does not know the parameter.
    for (status, body) in [
        (405, r#"{"errors":["unsupported operation"]}"#),
        (404, r#"{"errors":[]}"#),
        (200, r#"{"data":{"current_version":1}}"#),
        (403, r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#),
    ] {
        lists_folder_by_folder(status, body);
    }
}

fn lists_folder_by_folder(status: u16, body: &'static str) {
    let sandbox = server(move |request| {
        let keys = match (request.url.path().strip_prefix("/proxy/v1/")?, request.url.query()) {
            ("sys/internal/ui/mounts", _) => {
                let body = r#"{"data":{"secret":{"secret/":{"type":"kv","options":{"version":"2"}}}}}"#;
                return Some(json_response(200, body));
            }
            (_, Some("scan=true")) => return Some(json_response(status, body)),
            ("secret/metadata", _) => r#"["b/","a","b"]"#,
            ("secret/metadata/b", _) => r#"["c"]"#,
            _ => return None,
        };
        Some(json_response(200, format!(r#"{{"data":{{"keys":{keys}}}}}"#)))
    });
    let page = OpenBao::list_items(&sandbox.host(), &token(), None).unwrap();
    let listed: Vec<_> = page.items.iter().map(|item| item.reference.as_str()).collect();
    assert_eq!(listed, ["vault://secret/a", "vault://secret/b", "vault://secret/b/c"]);
    assert_eq!(page.next, None);
}
