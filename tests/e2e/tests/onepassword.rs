//! The compiled 1Password provider in its sandbox, against the emulator. The provider's own tests
//! cover the details natively; these show that they hold for the component.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyway_e2e::Lab;
use keyway_emulator_onepassword::{Calls, Endpoint, Fault, FaultRule, Options, RetryAfterForm, WrongToken};
use keyway_runtime::contract::{Changes, WriteAccess};
use keyway_runtime::{CallError, ErrorCode, Fields, Limits, OpenConnection, ProviderError, Runtime};
use secrecy::ExposeSecret;

const VAULT: &str = "Automation";
const READ_ONLY: &str = "Finance (read-only)";
const ITEM: &str = "Northwind Supplier Portal";

async fn lab() -> (Lab, OpenConnection, String) {
    let mut limits = Limits::default();
    limits.call_time = Duration::from_secs(10);
    limits.answer_time = Duration::from_secs(2);
    let lab = Lab::start_with(Options::default(), Runtime::builder().limits(limits)).await.unwrap();
    let connection = lab.connect("automation").unwrap();
    let reference = lab.reference(VAULT, ITEM).unwrap();
    (lab, connection, reference)
}

fn provider_error<T: std::fmt::Debug>(result: Result<T, CallError>) -> ProviderError {
    match result {
        Err(CallError::Provider(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// The calls since the last time.
fn calls(lab: &Lab) -> Calls {
    let calls = lab.emulator.calls();
    lab.emulator.reset_calls();
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_resolve_makes_seven_requests_and_a_warm_one_makes_one() {
    let (lab, connection, reference) = lab().await;
    let resolved = lab.provider.resolve(&connection, &reference, Fields::ALL).await.unwrap();
    assert!(resolved.username.is_some() && resolved.password.is_some() && resolved.one_time_code.is_some());
    let cold = calls(&lab);
    assert_eq!((cold.total, cold.logins), (7, 1), "{cold:?}");
    lab.provider.resolve(&connection, &reference, Fields::ALL).await.unwrap();
    let warm = calls(&lab);
    assert_eq!((warm.total, warm.logins, warm.of(Endpoint::Item)), (1, 0, 1), "{warm:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_cold_calls_log_in_once_and_fifty_with_an_expired_session_once_more() {
    let (lab, connection, reference) = lab().await;
    for round in ["cold", "expired"] {
        let burst: Vec<_> = (0..50)
            .map(|_| {
                let (provider, connection, reference) = (lab.provider.clone(), connection.clone(), reference.clone());
                tokio::spawn(async move { provider.resolve(&connection, &reference, Fields::CREDENTIALS).await })
            })
            .collect();
        for call in burst {
            call.await.unwrap().unwrap();
        }
        assert_eq!(calls(&lab).logins, 1, "{round}");
        lab.emulator.expire_sessions();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_three_mistakes_with_a_token_are_told_apart() {
    let (lab, _, _) = lab().await;
    let good = lab.emulator.token("automation").unwrap();
    let verify = async |token: &str| provider_error(lab.provider.verify(&lab.connect_with(token).unwrap()).await);
    for (token, word) in [("ghp_abcdef", "ops_"), ("", "token"), (&good.expose()[..good.expose().len() / 2], "in full")]
    {
        let error = verify(token).await;
        assert_eq!((&error.code, error.setting.as_deref()), (&ErrorCode::InvalidSettings, Some("token")));
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(calls(&lab).total, 0, "no request is made for a token that cannot be right");
    let refused = lab.emulator.wrong_token("automation", WrongToken::SrpX).unwrap();
    assert_eq!(verify(refused.expose()).await.code, ErrorCode::Unauthenticated);
    lab.emulator.revoke_token("automation", 401).unwrap();
    assert_eq!(verify(good.expose()).await.code, ErrorCode::Unauthenticated);
    let error = verify(&lab.emulator.account("newcomer").unwrap().token).await;
    assert!(error.code == ErrorCode::PermissionDenied && error.message.contains("Read Items"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn write_access_is_that_of_the_items_own_vault() {
    let (lab, connection, reference) = lab().await;
    assert_eq!(lab.provider.check_write_access(&connection, &reference).await.unwrap(), WriteAccess::Granted);
    let account = lab.emulator.account("automation").unwrap();
    let read_only = account.vault(READ_ONLY).unwrap().items.iter().find(|item| item.category == "login").unwrap();
    match lab.provider.check_write_access(&connection, &read_only.reference).await.unwrap() {
        WriteAccess::Denied(reason) => {
            assert!(reason.contains(READ_ONLY) && reason.contains("Write Items"), "{reason}")
        }
        WriteAccess::Granted => panic!("a read-only vault cannot be written"),
    }
    let changes = Changes::default().password("x");
    let error = provider_error(lab.provider.write(&connection, &read_only.reference, changes, None).await);
    assert_eq!(error.code, ErrorCode::PermissionDenied, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_keeps_what_it_does_not_understand_byte_for_byte() {
    let (lab, connection, reference) = lab().await;
    let (vault, item) = reference.strip_prefix("op://").unwrap().split_once('/').unwrap();
    let odd = r#"{ "fields":[{"type":"T","designation":"username","id":"username","name":"username","value":"bob","x-unknown":[1.50,1E3,"\u00e9\/"]},
        {"type":"P","designation":"password","id":"password","name":"password","value":"old"}],"unknown" : {"a":1,"a":2} ,"passwordHistory":[],"big":12345678901234567890.10 }"#;
    lab.emulator.replace_item_text(vault, item, None, Some(odd)).unwrap();
    let changes = Changes::default().username("carol");
    lab.provider.write(&connection, &reference, changes, None).await.unwrap();
    let after = lab.emulator.item(vault, item).unwrap().details;
    assert_eq!(after, odd.replace(r#""value":"bob""#, r#""value":"carol""#));
}

/// Possible faults of a server, and the errors of the contract that describe them correctly.
#[tokio::test(flavor = "multi_thread")]
async fn each_misbehaviour_of_the_server_is_one_clear_error_and_the_next_call_works() {
    let (lab, connection, reference) = lab().await;
    lab.provider.resolve(&connection, &reference, Fields::ALL).await.unwrap();
    for (fault, codes) in [
        (Fault::rate_limited(17, RetryAfterForm::Header), &["rate-limited"][..]),
        (Fault::status(503), &["unavailable"]),
        (Fault::Garbage, &["unexpected-answer"]),
        (Fault::Truncated, &["unexpected-answer", "unavailable"]),
        (Fault::ContentType { value: "text/html".into() }, &["unexpected-answer"]),
        (Fault::TamperedEnvelope, &["unexpected-answer"]),
        (Fault::WrongEnvelopeKey, &["unexpected-answer"]),
        (Fault::WrongEnvelopeKid, &["unexpected-answer"]),
        (Fault::Redirect { location: "https://evil.example/".into() }, &["unexpected-answer"]),
        (Fault::Hang { milliseconds: 4_000 }, &["unavailable"]),
        (Fault::Drop { handled: false }, &["unavailable"]),
    ] {
        // On a connection that has answered before, the last two are tried once more on a new one.
        lab.emulator.fault(FaultRule::next_of(Endpoint::Item, fault.clone()).times(2));
        let error = provider_error(lab.provider.resolve(&connection, &reference, Fields::ALL).await);
        assert!(codes.contains(&error.code()), "{fault:?}: {error:?}");
        if error.code == ErrorCode::RateLimited {
            assert_eq!(error.retry_after, Some(Duration::from_secs(17)));
        }
        lab.emulator.clear_faults();
        lab.provider.resolve(&connection, &reference, Fields::ALL).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_breaks_off_or_goes_silent_costs_a_read_one_more_request_and_nothing_else() {
    let (lab, connection, reference) = lab().await;
    lab.provider.resolve(&connection, &reference, Fields::ALL).await.unwrap();
    for fault in [Fault::Hang { milliseconds: 4_000 }, Fault::Drop { handled: false }] {
        calls(&lab);
        lab.emulator.fault(FaultRule::next_of(Endpoint::Item, fault.clone()));
        lab.provider.resolve(&connection, &reference, Fields::ALL).await.unwrap();
        let made = calls(&lab);
        assert_eq!((made.total, made.of(Endpoint::Item)), (2, 2), "{fault:?}: {made:?}");
    }
}

/// Everything logged during the test.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn no_secret_of_the_account_is_in_a_message_or_a_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let (mut secrets, code, messages) = tracing::subscriber::with_default(subscriber, || {
        let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        reactor.block_on(async {
            let (lab, connection, reference) = lab().await;
            let account = lab.emulator.account("automation").unwrap();
            let mut messages = Vec::new();
            for endpoint in [Endpoint::AuthStart, Endpoint::Complete, Endpoint::Keysets, Endpoint::Item] {
                for fault in [
                    Fault::Garbage,
                    Fault::TamperedEnvelope,
                    Fault::status(500),
                    Fault::status(401),
                    Fault::status(403),
                ] {
                    lab.emulator.fault(FaultRule::next_of(endpoint, fault));
                    messages.push(format!("{:?}", lab.provider.resolve(&connection, &reference, Fields::ALL).await));
                    lab.emulator.clear_faults();
                    connection.clear_session();
                }
            }
            let resolved = lab.provider.resolve(&connection, &reference, Fields::ALL).await.unwrap();
            messages.push(format!("{resolved:?} {connection:?}"));
            let mut secrets = vec![account.token.clone(), account.token[40..80].to_owned()];
            let code = resolved.one_time_code.unwrap().unwrap().code.expose_secret().to_owned();
            let values = [resolved.username.unwrap(), resolved.password.unwrap()].map(|s| s.expose_secret().to_owned());
            secrets.extend(values);
            (secrets, code, messages)
        })
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("resolve"), "the log is not just empty: {log}");
    secrets.retain(|secret| secret.len() > 4);
    for text in messages.iter().chain([&log]) {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{text}");
        }
        // Six digits often occur by chance within the random numbers and times of a log, but rarely
        // as a separate word.
        let mut words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
        assert!(words.all(|word| word != code), "{code} is in: {text}");
    }
}
