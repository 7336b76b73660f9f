//! Questions of operators: is the server alive, is it ready, what does it do.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Answer, Api, ECHO_TOKEN, assert_without, component, send};

/// Asks until the answer is the expected one: findings are reused for a second.
async fn ready(api: &Api, status: u16) -> Answer {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = api.send("GET", "/readyz", &[], "").await;
        if answer.status == status || Instant::now() > deadline {
            assert_eq!(answer.status, status, "{answer:?}");
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn not_ready(api: &Api) -> String {
    let answer = ready(api, 503).await;
    // A restart would not help.
    assert_eq!(api.send("GET", "/healthz", &[], "").await.ok(200), json!({"status": "ok"}));
    answer.error(503, "NOT_READY")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_can_do_its_work_is_ready_without_a_key() {
    let (api, _) = Api::echo().await;
    assert_eq!(ready(&api, 200).await.json(), json!({"status": "ready"}));
    assert_eq!(api.send("GET", "/healthz", &[], "").await.ok(200), json!({"status": "ok"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_cannot_be_loaded_is_named_and_one_whose_predecessor_serves_is_not() {
    let (api, _) = Api::echo().await;
    let broken = api.folder.providers().join("broken.wasm");
    std::fs::write(&broken, "no component").unwrap();
    api.host.providers().unwrap().rescan().await.unwrap();
    let message = not_ready(&api).await;
    assert!(message.contains("broken.wasm is not loaded"), "{message}");
    std::fs::remove_file(&broken).unwrap();
    api.host.providers().unwrap().rescan().await.unwrap();
    ready(&api, 200).await;
    // A file whose provider type another file serves is not missed.
    std::fs::copy(component("fixtures/echo"), api.folder.providers().join("old-echo.wasm")).unwrap();
    api.host.providers().unwrap().rescan().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    ready(&api, 200).await;
    std::fs::remove_file(api.folder.providers().join("old-echo.wasm")).unwrap();
    // The earlier one still serves.
    std::fs::write(api.folder.providers().join("echo.wasm"), "no component").unwrap();
    api.host.providers().unwrap().rescan().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    ready(&api, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_log_that_cannot_be_written_is_named_and_ready_again_when_it_can() {
    let (api, connection) = Api::echo().await;
    ready(&api, 200).await;
    let folder = api.folder.path().join("audit");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    let message = not_ready(&api).await;
    assert!(message.contains("audit log") && !message.contains("database"), "{message}");
    let items = format!("/secret-providers/{}/items", connection.id);
    api.get(&items).await.error(503, "AUDIT_UNAVAILABLE");
    std::fs::remove_file(&folder).unwrap();
    let warned = ready(&api, 200).await.json();
    assert!(warned["warnings"][0].as_str().unwrap().contains("was removed from"), "what is missing stays: {warned}");
    api.get(&items).await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_is_named() {
    let (api, _) = Api::echo().await;
    ready(&api, 200).await;
    api.host.close().await;
    let message = not_ready(&api).await;
    assert!(message.contains("the database does not answer"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_secret_is_out_of_memory_soon_after_its_duration_although_nobody_asks() {
    let (api, connection) = Api::echo().await;
    let key = api.key_with(keyway::Scopes::ALL).await;
    let entry = json!({
        "permissioned_user_id": "a", "domain": "https://acme.com",
        "secret_provider_id": connection.id, "secret_ref": "echo://item/one", "secret_cache_ttl_seconds": 15,
    });
    let entry = api.post("/vault", &entry).await.ok(201);
    api.request("POST", "/vault/resolve", &key, &json!({"id": entry["id"], "fields": ["password"]})).await.ok(200);
    let deadline = Instant::now() + Duration::from_secs(60);
    // Their number is counted during maintenance, which runs every five seconds.
    for values in [1.0, 0.0] {
        while series(&api.send("GET", "/metrics", &[], "").await.text, "keyway_cache_values", &[]) != values {
            assert!(Instant::now() < deadline, "{values}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The value of a series; 0 when there is none.
pub(crate) fn series(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |line: &str| labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")));
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let values = text.lines().filter(of_name).filter(|line| has(line));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sandbox_ended_is_counted_by_limit_and_provider() {
    let fixtures = ["fixtures/allocates", "fixtures/huge-string", "fixtures/stack-overflow", "fixtures/echo"];
    let api = Api::start(&fixtures, None).await;
    let key = api.key_with(keyway::Scopes::ALL).await;
    for (provider, reference) in [
        ("allocates", "allocates://item/a"),
        ("allocates", "allocates://item/b"),
        ("huge-string", "huge-string://item/20"),
        ("stack-overflow", "stack-overflow://item/a"),
        ("echo", "echo://item/a"),
    ] {
        let connection = api.connect(provider, ECHO_TOKEN).await;
        let entry = json!({"permissioned_user_id": reference, "domain": "https://acme.com", "secret_provider_id": connection.id, "secret_ref": reference});
        let entry = api.post("/vault", &entry).await.ok(201);
        let answer = api.request("POST", "/vault/resolve", &key, &json!({"id": entry["id"]})).await;
        assert_eq!(answer.status, if provider == "echo" { 200 } else { 502 }, "{answer:?}");
    }
    let text = api.send("GET", "/metrics", &[], "").await.text;
    let hit =
        |provider, limit| series(&text, "keyway_sandbox_limits_hit_total", &[("provider", provider), ("limit", limit)]);
    assert_eq!(
        (hit("allocates", "memory"), hit("huge-string", "output"), hit("stack-overflow", "stack")),
        (2.0, 1.0, 1.0),
        "{text}"
    );
    assert_eq!(series(&text, "keyway_sandbox_limits_hit_total", &[]), 4.0, "{text}");
    let calls = |provider| {
        series(
            &text,
            "keyway_provider_call_duration_seconds_count",
            &[("provider", provider), ("operation", "resolve")],
        )
    };
    assert_eq!((calls("allocates"), calls("echo")), (2.0, 1.0), "{text}");
    assert_eq!(series(&text, "keyway_provider_call_errors_total", &[("error", "sandbox-limit")]), 3.0, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_metric_has_anything_of_what_clients_send() {
    let (api, connection) = Api::echo().await;
    let key = api.key_with(keyway::Scopes::ALL).await;
    let secret = "hunter2-hunter2-hunter2";
    let reference = format!("echo://item/{secret}");
    let entry = json!({"permissioned_user_id": secret, "domain": format!("https://{secret}.example"), "secret_provider_id": connection.id, "secret_ref": reference});
    let entry = api.post("/vault", &entry).await.ok(201);
    let resolved = api.request("POST", "/vault/resolve", &key, &json!({"id": entry["id"]})).await.ok(200);
    assert!(resolved["password"]["value"].as_str().unwrap().contains(secret));
    api.get(&format!("/{secret}")).await.error(404, "NOT_FOUND");
    api.get(&format!("/secret-providers/{secret}")).await.error(400, "BAD_REQUEST");
    api.send("HUNTER2-HUNTER2-HUNTER2", "/vault", &[("cc-key", secret), ("x-request-id", secret)], "")
        .await
        .error(405, "METHOD_NOT_ALLOWED");
    let text = api.send("GET", "/metrics", &[], "").await.text;
    assert_without(
        &text,
        &[secret, "HUNTER2", ECHO_TOKEN, &key, &connection.id.to_string(), entry["id"].as_str().unwrap()],
    );
    let of = |route, status| {
        series(&text, "keyway_http_request_duration_seconds_count", &[("route", route), ("status", status)])
    };
    assert_eq!(
        (of("unknown", "404"), of("/secret-providers/{id}", "400"), of("/vault", "405")),
        (1.0, 1.0, 1.0),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_has_one_id_in_its_answer_and_in_its_audit_record() {
    let (api, connection) = Api::echo().await;
    let key = api.key_with(keyway::Scopes::ALL).await;
    let items = format!("/secret-providers/{}/items", connection.id);
    let given = api.send("GET", &items, &[("cc-key", &key), ("x-request-id", "trace-me-1")], "").await;
    assert_eq!(given.headers["x-request-id"], "trace-me-1");
    let made = api.send("GET", &items, &[("cc-key", &key), ("x-request-id", "not one")], "").await;
    let made = made.headers["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(made.len(), 36);
    let records = api.request("GET", "/audit?operation=list_items&order=oldest", &key, &Value::Null).await.ok(200);
    let ids: Vec<_> =
        records["records"].as_array().unwrap().iter().map(|record| record["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["trace-me-1", &made]);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_an_address_of_their_own_and_are_nowhere_else() {
    let (api, _) = Api::echo().await;
    let (clients, operators) = (&api.url, &api.operators);
    assert_ne!(clients, operators);
    send(&format!("{clients}/metrics"), "GET", &[], "").await.error(404, "NOT_FOUND");
    let metrics = send(&format!("{operators}/metrics"), "GET", &[], "").await;
    assert!(metrics.text.ends_with("# EOF\n") && metrics.text.contains("keyway_build_info{"), "{metrics:?}");
    for url in [clients, operators] {
        send(&format!("{url}/readyz"), "GET", &[], "").await.ok(200);
    }
    send(&format!("{operators}/vault"), "GET", &[("cc-key", &api.key)], "").await.error(404, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_was_led_here_by_another_name_reads_no_metrics() {
    let (api, _) = Api::echo().await;
    let metrics = format!("{}/metrics", api.operators);
    let port = metrics.rsplit(':').next().unwrap().trim_end_matches("/metrics").to_owned();
    for (host, status) in
        [("evil.example", 403), ("localhost.evil.example", 403), ("localhost", 200), ("127.0.0.1", 200)]
    {
        let host = format!("{host}:{port}");
        assert_eq!(send(&metrics, "GET", &[("host", &host)], "").await.status, status, "{host}");
    }
    // Health tells nothing, so it may be asked for under any name.
    let health = format!("{}/healthz", api.operators);
    send(&health, "GET", &[("host", "keyway.internal")], "").await.ok(200);
}
