//! `/metrics`, read by the parser of the Prometheus project.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::send;
use crate::python;
use crate::world::{DOMAIN, World};

pub(crate) struct Samples(Vec<(String, Value, f64)>);

impl Samples {
    pub(crate) fn read(text: &str) -> Self {
        let mut command = python::program("python");
        let mut parser = command.arg("metrics.py").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = parser.wait_with_output().unwrap();
        assert!(output.status.success(), "this is not OpenMetrics: {text}");
        Self(serde_json::from_slice(&output.stdout).unwrap())
    }

    /// The sum of the series with these labels.
    pub(crate) fn sum(&self, name: &str, labels: Value) -> f64 {
        let has = |of: &Value| labels.as_object().unwrap().iter().all(|(label, value)| &of[label] == value);
        self.0.iter().filter(|(of, labels, _)| of == name && has(labels)).map(|(_, _, value)| value).sum()
    }
}

#[test]
fn after_known_traffic_the_numbers_are_those_of_the_traffic() {
    let world = World::start();
    let key = world.keyway(&["key", "create", "all", "--scopes", "api,admin,resolve"]);
    let key = key["api_key"].as_str().unwrap();
    let ask =
        |method: &str, path: &str, key: &str, body: Value| send(&world.url, method, path, key, &body.to_string()).0;
    let read = || Samples::read(&send(&world.operators, "GET", "/metrics", "", "").1);
    let before = read();
    assert_eq!(before.sum("keyway_provider_call_duration_seconds_count", json!({})), 0.0);

    let entry = json!({
        "permissioned_user_id": "a", "domain": DOMAIN, "secret_provider_id": world.connection, "secret_ref": world.item().reference,
    });
    assert_eq!(ask("POST", "/vault", key, entry), 201);
    let resolve = json!({"permissioned_user_id": "a", "domain": DOMAIN, "fields": ["username", "password"]});
    let requests_before = world.emulator.requests().len();
    for _ in 0..5 {
        assert_eq!(ask("POST", "/vault/resolve", key, resolve.clone()), 200);
    }
    let sent = world.emulator.requests().len() - requests_before;
    assert_eq!(ask("POST", "/vault/resolve", "sk_wrong", resolve.clone()), 401);
    assert_eq!(ask("GET", "/nowhere", key, json!({})), 404);
    let nothing = json!({
        "permissioned_user_id": "b", "domain": DOMAIN, "secret_provider_id": world.connection, "secret_ref": "op://mhlxx5y45opqk7p7prulriztqq/ch4arxhoemrdclbxyixyesgyt4",
    });
    assert_eq!(ask("POST", "/vault", key, nothing), 201);
    let nothing = json!({"permissioned_user_id": "b", "domain": DOMAIN, "fields": ["password"]});
    assert_ne!(ask("POST", "/vault/resolve", key, nothing), 200);

    let now = read();
    let requests = |method: &str, route: &str, status: &str| {
        now.sum(
            "keyway_http_request_duration_seconds_count",
            json!({"method": method, "route": route, "status": status}),
        )
    };
    assert_eq!(requests("POST", "/vault", "201"), 2.0);
    assert_eq!(requests("POST", "/vault/resolve", "200"), 5.0);
    assert_eq!(requests("POST", "/vault/resolve", "401"), 1.0);
    assert_eq!(requests("GET", "unknown", "404"), 1.0);
    // The previous request.
    assert_eq!(requests("GET", "/metrics", "200"), 1.0);

    let lookups = |result: &str| now.sum("keyway_cache_lookups_total", json!({ "result": result }));
    assert_eq!((lookups("hit"), lookups("miss"), lookups("off")), (4.0, 2.0, 0.0));
    let calls = |operation: &str| {
        let labels = json!({"provider": "1password", "operation": operation});
        now.sum("keyway_provider_call_duration_seconds_count", labels)
    };
    assert_eq!((calls("resolve"), calls("list-items"), calls("write")), (2.0, 0.0, 0.0));
    assert_eq!(now.sum("keyway_provider_call_errors_total", json!({})), 1.0);
    assert!(now.sum("keyway_provider_requests_total", json!({"provider": "1password"})) >= sent as f64);

    let hourly_reads = json!({ "scope": "credential", "requests": "reads", "window": "3600s" });
    let left = now.sum("keyway_budget_remaining", hourly_reads.clone());
    let limit = now.sum("keyway_budget_limit", hourly_reads.clone());
    assert_eq!(limit, 10_000.0);
    let path = format!("/secret-providers/{}/budget", world.connection);
    let budget: Value = serde_json::from_str(&send(&world.url, "GET", &path, key, "").1).unwrap();
    let mut of_credentials = hourly_reads.clone();
    of_credentials["credentials"] = budget["credentials"].clone();
    assert_eq!(now.sum("keyway_budget_limit", of_credentials), limit, "the API and the metrics name them alike");
    assert!(left <= limit - sent as f64, "{left} {sent}");
    let breaker = |state: &str| now.sum("keyway_breaker_state", json!({ "state": state }));
    assert_eq!(
        (breaker("closed"), breaker("unavailable"), breaker("rate-limited"), breaker("refused")),
        (1.0, 0.0, 0.0, 0.0)
    );
    // Usage by a process beside the server appears within seconds.
    let requests_before = world.emulator.requests().len();
    world.keyway(&["items"]);
    let used = (world.emulator.requests().len() - requests_before) as f64;
    let started = Instant::now();
    let left_now = || read().sum("keyway_budget_remaining", hourly_reads.clone());
    while left_now() != left - used {
        assert!(started.elapsed() < Duration::from_secs(30), "{} {left} {used}", left_now());
        std::thread::sleep(Duration::from_millis(200));
    }

    assert_eq!(now.sum("keyway_audit_failures_total", json!({})), 0.0);
    assert!(now.sum("keyway_audit_records_total", json!({})) >= 7.0);
    assert_eq!(now.sum("keyway_provider_info", json!({"provider": "1password"})), 1.0);
    assert_eq!(now.sum("keyway_build_info", json!({"version": env!("CARGO_PKG_VERSION")})), 1.0);
}
