//! The contract beyond user names and passwords: references, versions, settings, further fields,
//! lifetimes, leases, durable state, and their secrecy.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyway_runtime::contract::{FieldKind, FieldValue, NoCodeReason, Selection, SettingKind};
use keyway_runtime::egress::{ConnectTo, EgressPolicy};
use keyway_runtime::store::{MemoryStore, StateStore};
use keyway_runtime::{
    CallError, ErrorCode, Fields, LoadError, OpenConnection, Provider, ProviderError, Runtime, SandboxError, Settings,
};
use secrecy::ExposeSecret;
use support::{TOKEN, connect, connect_with, limits, load, runtime, runtime_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing_subscriber::filter::LevelFilter;
use wit_parser::{Resolve, Type, TypeDefKind};

fn provider_error(error: CallError) -> ProviderError {
    match error {
        CallError::Provider(error) => error,
        other => panic!("{other}"),
    }
}

fn settings() -> Settings {
    Settings::new().with("region", "eu-1").with("token", TOKEN)
}

async fn paths() -> (Runtime, Provider, OpenConnection) {
    let runtime = runtime();
    let provider = load(&runtime, "paths").await;
    let connection = connect_with(&runtime, &provider, settings());
    (runtime, provider, connection)
}

async fn password(provider: &Provider, connection: &OpenConnection, reference: &str) -> String {
    let resolved = provider.resolve(connection, reference, Fields::CREDENTIALS).await.unwrap();
    resolved.password.unwrap().expose_secret().to_owned()
}

// ---- references --------------------------------------------------------------------------------

#[tokio::test]
async fn spellings_of_one_reference_have_one_normal_form() {
    let (_runtime, provider, _connection) = paths().await;
    for spelling in
        ["paths://kv/acme/prod", "PATHS://kv/acme/prod", "paths://kv//%61cme/prod/", "paths:///kv/acme/pr%6Fd"]
    {
        assert_eq!(provider.normalize_reference(spelling).await.unwrap(), "paths://kv/acme/prod", "{spelling}");
    }
    assert_eq!(provider.normalize_reference("paths://kv/a%2fb").await.unwrap(), "paths://kv/a%2Fb");
}

#[tokio::test]
async fn what_is_no_reference_is_the_providers_word() {
    let (_runtime, provider, _connection) = paths().await;
    for text in ["", "paths", "vault://kv/a", "paths://", "paths://kv/%zz", "paths://a\nb"] {
        let error = provider_error(provider.normalize_reference(text).await.unwrap_err());
        assert_eq!(error.code, ErrorCode::InvalidReference, "{text}");
        assert!(!error.message.contains("zz"), "{error}");
    }
}

#[tokio::test]
async fn a_provider_that_breaks_the_rules_of_normal_forms_is_told_apart() {
    let runtime = runtime();
    let provider = load(&runtime, "bad-references").await;
    for (case, what) in
        [("grows", "not its own normal form"), ("scheme", "does not begin with"), ("empty", "does not begin with")]
    {
        let error = provider.normalize_reference(&format!("bad-references://{case}")).await.unwrap_err();
        let CallError::Sandbox(SandboxError::InvalidAnswer(reason)) = error else { panic!("{case}: {error}") };
        assert!(reason.contains(what) && reason.contains("normalize-reference"), "{reason}");
    }
    let error = provider_error(provider.normalize_reference("bad-references://secret/Hunter2-99").await.unwrap_err());
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::InvalidReference, "'[REDACTED]' is not a reference."));
    let error = provider_error(provider.normalize_reference("bad-references://end/Hunter2-99").await.unwrap_err());
    assert_eq!(error.message, "The part '[REDACTED]' is wrong.");
    let error = provider.normalize_reference("bad-references://loops").await.unwrap_err();
    assert!(matches!(error, CallError::Sandbox(SandboxError::TimedOut { .. })), "{error}");
    assert_eq!(provider.normalize_reference("bad-references://GOOD").await.unwrap(), "bad-references://good");
}

// ---- versions ----------------------------------------------------------------------------------

#[tokio::test]
async fn a_component_of_a_later_minor_version_with_an_unknown_interface_works() {
    let runtime = runtime();
    let provider = load(&runtime, "later-minor").await;
    assert_eq!(provider.description().settings[0].kind, SettingKind::Other("fingerprint".into()));
    let connection = connect(&runtime, &provider);
    assert_eq!(password(&provider, &connection, "later-minor://item/one").await, "password-1");
}

#[tokio::test]
async fn a_component_of_the_version_before_works_through_its_adapter() {
    let runtime = runtime();
    let provider = load(&runtime, "previous-version").await;
    let description = provider.description();
    assert_eq!(description.destinations, ["https://*.example.com", "{address}"]);
    assert!(description.settings.iter().all(|spec| spec.pattern.is_none()), "it said that a host may check it");
    assert!(description.rate_limits.is_empty());
    let given = Settings::new().with("token", TOKEN).with("address", "vault.example.org");
    let connection = connect_with(&runtime, &provider, given);

    let verified = provider.verify(&connection).await.unwrap();
    assert_eq!((verified.vault_count, verified.account_key), (Some(2), None));
    let page = provider.list_items(&connection, None).await.unwrap();
    assert_eq!(page.items[0].vault_name.as_deref(), Some("Vault"));
    assert_eq!(provider.normalize_reference("PREVIOUS-VERSION://One").await.unwrap(), "previous-version://One");

    let resolved = provider.resolve(&connection, "previous-version://one", Fields::ALL).await.unwrap();
    assert_eq!(resolved.password.unwrap().expose_secret(), "password-1");
    assert_eq!(resolved.one_time_code.unwrap().unwrap().code.expose_secret(), "123456");
    let bare = provider.resolve(&connection, "previous-version://bare", Fields::ALL).await.unwrap();
    assert_eq!(bare.one_time_code.unwrap().unwrap_err().reason, NoCodeReason::Absent);
    let limited = provider.resolve(&connection, "previous-version://limited", Fields::ALL).await.unwrap_err();
    let limited = provider_error(limited);
    assert_eq!((limited.code.clone(), limited.retry_after), (ErrorCode::RateLimited, Some(Duration::from_secs(17))));

    let missing = provider_error(provider.list_fields(&connection, "previous-version://one").await.unwrap_err());
    assert_eq!(missing.code, ErrorCode::Unsupported);
}

#[tokio::test]
async fn a_component_of_another_shape_is_told_what_differs() {
    // Without functions, and with functions of other types.
    let functions = ["describe", "normalize-reference", "verify", "list-items", "resolve", "write"];
    let functions = functions.into_iter().chain(["check-write-access"]);
    let other: String = functions.map(|name| format!(r#"(export "{name}" (func $f))"#)).collect();
    for (version, functions) in [("0.1.0", ""), ("0.1.0", other.as_str()), ("0.2.0", ""), ("0.2.0", other.as_str())] {
        let export = format!("keyway:provider/secret-provider@{version}");
        let shape = format!(
            r#"(component
                (core module $m (func (export "f") (result i32) i32.const 0))
                (core instance $c (instantiate $m))
                (func $f (result u32) (canon lift (core func $c "f")))
                (instance $i {functions})
                (export "{export}" (instance $i)))"#
        );
        let error = runtime().load(&wat::parse_str(shape).unwrap()).await.unwrap_err();
        let LoadError::OtherShape { interface, mismatch } = &error else { panic!("{version}: {error}") };
        assert_eq!(*interface, export);
        let what = if functions.is_empty() { "describe" } else { "type mismatch" };
        assert!(mismatch.contains(what), "{mismatch}");
        assert!(error.to_string().contains("another shape than this host's"), "{error}");
    }
}

#[tokio::test]
async fn of_several_versions_that_a_component_exports_the_newest_counts() {
    for versions in [["0.1.0", "0.2.0"], ["0.2.0", "0.1.0"]] {
        let exports =
            versions.map(|version| format!(r#"(export "keyway:provider/secret-provider@{version}" (instance $i))"#));
        let both = format!("(component (instance $i) {})", exports.concat());
        let error = runtime().load(&wat::parse_str(both).unwrap()).await.unwrap_err();
        let LoadError::OtherShape { interface, .. } = &error else { panic!("{error}") };
        assert_eq!(interface, "keyway:provider/secret-provider@0.2.0");
    }
}

#[tokio::test]
async fn an_import_of_another_shape_is_no_newer_host() {
    let other = r#"(component
        (import "keyway:provider/session@0.2.0" (instance (export "counter" (func (result u32)))))
        (instance $i)
        (export "keyway:provider/secret-provider@0.2.0" (instance $i)))"#;
    let error = runtime().load(&wat::parse_str(other).unwrap()).await.unwrap_err();
    let LoadError::OtherShape { interface, mismatch } = &error else { panic!("{error}") };
    assert_eq!(interface, "keyway:provider/session@0.2.0");
    assert!(mismatch.contains("counter"), "{mismatch}");
}

#[tokio::test]
async fn a_component_that_needs_a_newer_host_is_told_what_is_missing() {
    let newer = r#"(component
        (import "keyway:provider/session@0.2.9" (instance (export "history" (func (result u64)))))
        (instance $i)
        (export "keyway:provider/secret-provider@0.2.9" (instance $i)))"#;
    let error = runtime().load(&wat::parse_str(newer).unwrap()).await.unwrap_err();
    assert!(matches!(&error, LoadError::MissingImport(what) if what.contains("history")), "{error}");
    assert!(error.to_string().contains("newer host"), "{error}");
}

// ---- settings ----------------------------------------------------------------------------------

#[tokio::test]
async fn settings_have_kinds_patterns_and_groups() {
    let (_runtime, provider, _connection) = paths().await;
    let check = |settings: &[(&str, &str)]| {
        let mut given = Settings::new();
        settings.iter().for_each(|(name, value)| given.set(*name, *value));
        provider.check_settings(&given).map_err(|error| (error.setting.clone().unwrap_or_default(), error.message))
    };
    assert_eq!(check(&[("region", "eu-1"), ("token", "x")]), Ok(()));
    assert_eq!(check(&[("region", "eu-1"), ("role_id", "x"), ("secret_id", "y")]), Ok(()));
    assert_eq!(check(&[("region", "eu-1"), ("token", "x"), ("proxy_user", "y")]), Ok(()));
    for (settings, setting, what) in [
        (&[("region", "EU 1"), ("token", "x")][..], "region", "form"),
        (&[("region", "eu-1"), ("token", "x"), ("engine", "v3")], "engine", "one of v1, v2"),
        (&[("region", "eu-1"), ("token", "x"), ("verbose", "yes")], "verbose", "true or false"),
        (&[("region", "eu-1"), ("token", "x"), ("key_file", "{")], "key_file", "JSON"),
        (&[("region", "eu-1")], "", "How to log in"),
        (&[("region", "eu-1"), ("role_id", "x")], "secret_id", "is missing"),
        (&[("region", "eu-1"), ("role_id", "x"), ("secret_id", "y"), ("token", "z")], "", "only one of these"),
        (&[("region", "eu-1"), ("token", "x"), ("proxy_password", "y")], "proxy_user", "or nothing"),
    ] {
        let (named, message) = check(settings).unwrap_err();
        assert!(named == setting && message.contains(what), "{settings:?}: {named}: {message}");
    }
}

#[tokio::test]
async fn destinations_are_made_of_settings_and_stay_in_their_domain() {
    let (_runtime, provider, connection) = paths().await;
    let approved: Vec<String> = connection.approved_destinations().iter().map(ToString::to_string).collect();
    assert_eq!(approved, ["https://secrets.eu-1.example.com"]);
    let with_key = settings().with("key_file", r#"{"token_uri":"https://oauth.example.org/token"}"#);
    assert_eq!(provider.description().approved_destinations(&with_key).unwrap().len(), 2);
    for (name, value, what) in [("region", "evil.example/", "`region`"), ("key_file", "{}", "`token_uri`")] {
        let error = provider.description().approved_destinations(&settings().with(name, value)).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
}

/// A server that answers every request on its connections with this body and a cookie, if the host
/// requested an uncompressed body.
async fn server(body: &'static str) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut request).await {
                    let asked = String::from_utf8_lossy(&request[..read]).to_ascii_lowercase();
                    let plain = asked.contains("accept-encoding: identity") && !asked.contains("gzip");
                    let status = if plain { "200 OK" } else { "406 Not Acceptable" };
                    let head = format!(
                        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nset-cookie: sid={COOKIE}; Path=/\r\ncontent-length"
                    );
                    let answer = format!("{head}: {}\r\n\r\n{body}", body.len());
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_request_reaches_the_destination_that_a_template_made() {
    let address = server("\"from the region\"").await;
    let connect_to: ConnectTo = format!("secrets.eu-1.example.com=http://{address}").parse().unwrap();
    let runtime = runtime_with(EgressPolicy::default().with_connect_to(connect_to));
    let provider = load(&runtime, "paths").await;
    let connection = connect_with(&runtime, &provider, settings());
    assert_eq!(password(&provider, &connection, "paths://remote/item").await, "\"from the region\"");
}

// ---- values ------------------------------------------------------------------------------------

#[tokio::test]
async fn further_fields_are_listed_and_resolved_by_name() {
    let (_runtime, provider, connection) = paths().await;
    assert!(provider.description().interfaces.item_fields);
    let fields = provider.list_fields(&connection, "paths://kv/acme").await.unwrap();
    assert_eq!(fields.len(), 6);
    assert_eq!((fields[1].name.as_str(), fields[1].label.as_str()), ("api-key", "API key"));
    assert_eq!(fields[1].kind, FieldKind::Secret);

    let further = ["api-key", "blob", "pin", "missing", "empty"].map(str::to_owned).into();
    let selection = Selection::from(Fields::default()).further(further);
    let resolved = provider.resolve(&connection, "paths://kv/acme", selection).await.unwrap();
    assert!(resolved.username.is_none() && resolved.password.is_none() && resolved.one_time_code.is_none());
    assert_eq!(resolved.further.len(), 4, "what the item lacks is absent");
    let value = |name: &str| &resolved.further.iter().find(|field| field.name == name).unwrap().value;
    assert!(matches!(value("api-key"), FieldValue::Text(text) if text.expose_secret() == "key-7f3e"));
    assert!(matches!(value("empty"), FieldValue::Text(text) if text.expose_secret().is_empty()));
    assert!(matches!(value("blob"), FieldValue::Binary(bytes) if bytes.expose_secret() == [0, 255, 10, 13]));
    assert!(matches!(value("pin"), FieldValue::OneTimeCode(Ok(code)) if code.code.expose_secret().len() == 6));
    assert!(!format!("{resolved:?}").contains("key-7f3e"));
}

#[tokio::test]
async fn a_list_of_fields_that_is_too_long_or_names_one_twice_breaks_the_contract() {
    let (_runtime, provider, connection) = paths().await;
    for (item, what) in [("many-fields", "more than 1000 further fields"), ("twice", "the same name, `note`")] {
        let error = provider.list_fields(&connection, &format!("paths://kv/{item}")).await.unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
    let many = Selection::from(Fields::default()).further((0..10_000).map(|n| n.to_string()).collect());
    let error = provider_error(provider.resolve(&connection, "paths://kv/a", many).await.unwrap_err());
    assert_eq!(error.code, ErrorCode::Unsupported);
}

#[tokio::test]
async fn values_may_have_a_lifetime_or_a_lease_and_codes_may_have_letters() {
    let (_runtime, provider, connection) = paths().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let short = provider.resolve(&connection, "paths://short/90", Fields::CREDENTIALS).await.unwrap();
    assert!((now + 89..now + 100).contains(&short.valid_until.unwrap()));
    let over = provider.resolve(&connection, "paths://short/0", Fields::CREDENTIALS).await.unwrap_err();
    assert!(over.to_string().contains("valid-until"), "{over}");

    let dynamic = provider.resolve(&connection, "paths://dynamic/db", Fields::CREDENTIALS).await.unwrap();
    let lease = dynamic.lease.unwrap();
    assert!(lease.renewable && lease.id == "lease-db-1");
    let renewed = provider.renew_lease(&connection, &lease.id, Some(7_200)).await.unwrap();
    assert!(renewed.expires_at > lease.expires_at);
    provider.revoke_lease(&connection, &lease.id).await.unwrap();
    let unknown = provider_error(provider.revoke_lease(&connection, "x").await.unwrap_err());
    assert_eq!(unknown.code, ErrorCode::NotFound);

    let steam = provider.resolve(&connection, "paths://steam/x", Fields::ONE_TIME_CODE).await.unwrap();
    assert_eq!(steam.one_time_code.unwrap().unwrap().code.expose_secret(), "FR8RV");
}

#[tokio::test]
async fn a_call_knows_how_much_time_it_has_left() {
    let (_runtime, provider, connection) = paths().await;
    let left: u64 = password(&provider, &connection, "paths://time").await.parse().unwrap();
    let limit = u64::try_from(limits().call_time.as_millis()).unwrap();
    assert!((limit / 2..=limit).contains(&left), "{left} of {limit} ms");
}

// ---- durable state -----------------------------------------------------------------------------

#[tokio::test]
async fn durable_state_is_kept_where_the_embedder_says() {
    let (runtime, provider, connection) = paths().await;
    let store = Arc::new(MemoryStore::default());
    let stored = connection.with_state_store(store.clone());
    assert_eq!(password(&provider, &stored, "paths://state/x").await, "1");
    // Another connection to the same account, as after a restart of the host.
    let again = connect_with(&runtime, &provider, settings()).with_state_store(store.clone());
    assert_eq!(password(&provider, &again, "paths://state/x").await, "2");
    provider.refresh(&again).await.unwrap();
    let state = store.get().await.unwrap().unwrap();
    assert_eq!((state.data.as_slice(), state.version), (&b"refresh-token-of-paths-3"[..], 3));
    assert!(state.refresh_by.is_some());
}

#[tokio::test]
async fn a_provider_that_wants_to_keep_something_is_told_when_nobody_keeps_it() {
    let (_runtime, provider, connection) = paths().await;
    let error = provider_error(provider.resolve(&connection, "paths://state/x", Fields::ALL).await.unwrap_err());
    assert_eq!(error.code, ErrorCode::Unsupported);
    assert!(error.message.contains("keeps no durable state"), "{error}");
}

// ---- leaks -------------------------------------------------------------------------------------

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The content of an item on the server; also inside other encodings, as AWS and GCP have it.
const BODY: &str = r#"{"username":"ada.lovelace","password":"Correct-Horse-99","inner":"{\"key\":\"inner-secret\"}","data":"ZW5jb2RlZC1zZWNyZXQ=","pin":48151623}"#;
const COOKIE: &str = "cookie-0f1e2d3c4b5a6978";
const SECRETS: [&str; 7] =
    [TOKEN, "ada.lovelace", "correct-horse-99", "inner-secret", "encoded-secret", "48151623", COOKIE];

#[tokio::test]
async fn nothing_of_what_a_sloppy_provider_tells_comes_out() {
    let address = server(BODY).await;
    let connect_to: ConnectTo = format!("leaks.example.com=http://{address}").parse().unwrap();
    let runtime = runtime_with(EgressPolicy::default().with_connect_to(connect_to));
    let provider = load(&runtime, "leaks").await;
    let given = Settings::new().with("token", TOKEN).with("address", "https://leaks.example.com");
    let connection = connect_with(&runtime, &provider, given.clone());

    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let mut told = String::new();
    let mut failed = |result: Result<(), CallError>| {
        let error = result.unwrap_err();
        told += &format!("{error} {error:?}");
    };
    let failing = connect_with(&runtime, &provider, given.with("fails", "true"));
    failed(provider.verify(&failing).await.map(drop));
    failed(provider.list_items(&connection, None).await.map(drop));
    failed(provider.renew_lease(&connection, "lease", None).await.map(drop));
    failed(provider.revoke_lease(&connection, "lease").await);
    for case in ["print", "panic", "log", "split", "shout", "cookie", "code", "attributes", "error"] {
        // Only a code is requested: the password never comes back, but is still secret.
        let answer = provider.resolve(&connection, &format!("leaks://item/{case}"), Fields::ONE_TIME_CODE).await;
        told += &match answer {
            Ok(resolved) => format!("{resolved:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
    }
    told += &format!("{:?}", provider.check_write_access(&connection, "leaks://item/x").await.unwrap());
    let logged = log.text();
    assert!(logged.contains("sid=[REDACTED]"), "{logged}");
    assert!(logged.contains("panicked at") && logged.contains("the item is "), "{logged}");
    for text in [&told, &logged] {
        assert!(text.contains("[REDACTED]"), "{text}");
        for secret in SECRETS {
            assert!(!text.to_ascii_lowercase().contains(secret), "{secret} in {text}");
        }
    }
    for level in ["ERROR", "WARN", "INFO", "DEBUG"] {
        assert!(logged.contains(level), "{level}: {logged}");
    }
}

#[tokio::test]
async fn what_a_provider_prints_is_for_debugging() {
    let runtime = runtime();
    let provider = load(&runtime, "secret-in-error").await;
    let connection = connect(&runtime, &provider);
    let logged = async |level: LevelFilter| {
        let log = Log::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false).with_max_level(level);
        let _guard = tracing::subscriber::set_default(lines.with_writer(move || writer.clone()).finish());
        provider.resolve(&connection, "secret-in-error://item/message", Fields::ALL).await.unwrap_err();
        log.text()
    };
    assert_eq!(logged(LevelFilter::INFO).await, "");
    let logged = logged(LevelFilter::DEBUG).await;
    let printed: Vec<_> = logged.lines().filter(|line| line.contains("the token is [REDACTED]")).collect();
    assert!(printed.len() == 2 && printed.iter().all(|line| line.contains(" DEBUG ")), "on both outputs: {logged}");
}

// ---- the WIT itself ----------------------------------------------------------------------------

fn contract_wit() -> Resolve {
    let mut resolve = Resolve::default();
    resolve.push_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/wit/0.2.0")).unwrap();
    resolve
}

/// Every type that this one uses, including itself.
fn collect(resolve: &Resolve, of: &Type, types: &mut BTreeMap<String, TypeDefKind>) {
    let Type::Id(id) = of else { return };
    let of = &resolve.types[*id];
    if let TypeDefKind::Type(alias) = &of.kind {
        return collect(resolve, alias, types);
    }
    if let Some(name) = &of.name
        && types.insert(name.clone(), of.kind.clone()).is_some()
    {
        return;
    }
    let parts: Vec<Type> = match &of.kind {
        TypeDefKind::Record(record) => record.fields.iter().map(|field| field.ty).collect(),
        TypeDefKind::Variant(variant) => variant.cases.iter().filter_map(|case| case.ty).collect(),
        TypeDefKind::Option(of) | TypeDefKind::List(of) => vec![*of],
        TypeDefKind::Result(result) => [result.ok, result.err].into_iter().flatten().collect(),
        TypeDefKind::Flags(_) | TypeDefKind::Enum(_) => Vec::new(),
        kind => panic!("the contract has no {}", kind.as_str()),
    };
    parts.iter().for_each(|part| collect(resolve, part, types));
}

#[test]
fn everything_that_a_component_returns_has_an_open_end() {
    let resolve = contract_wit();
    let package = resolve.packages.iter().find(|(_, package)| package.name.name == "provider").unwrap().1;
    let mut types = BTreeMap::new();
    for (name, interface) in &package.interfaces {
        for function in resolve.interfaces[*interface].functions.values() {
            match name.as_str() {
                // The host's imports: the component passes parameters to them.
                "session" | "durable-state" | "call-context" | "host-log" => {
                    function.params.iter().for_each(|param| collect(&resolve, &param.ty, &mut types));
                }
                _ => function.result.iter().for_each(|result| collect(&resolve, result, &mut types)),
            }
        }
    }
    assert!(types.contains_key("description") && types.contains_key("lease"), "{:?}", types.keys());
    for (name, kind) in &types {
        let open = match kind {
            TypeDefKind::Record(record) => record.fields.iter().any(|field| field.name == "attributes"),
            TypeDefKind::Variant(variant) => variant.cases.iter().any(|case| case.name == "other"),
            _ => true,
        };
        assert!(open || name == "attribute", "`{name}` cannot grow");
    }
}

#[test]
fn the_vendored_wit_needs_no_feature_to_be_resolved() {
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/wit/0.2.0/deps")).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("@unstable"), "{}: not every language's tools know features", path.display());
    }
}
