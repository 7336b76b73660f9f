//! The book's page on metrics matches the code. `KEYWAY_UPDATE_DOCS=1` writes it. The other pages
//! are compared in `src/cli/reference_tests.rs`.

use std::collections::BTreeSet;
use std::fmt::Write;

use keyway::Scope;
use keyway_emulator_onepassword::{Emulator, Fault, FaultRule, RetryAfterForm};
use serde_json::json;

use crate::page::compare;
use crate::support::{Api, ECHO_TOKEN};

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_metrics_is_what_the_code_makes() {
    compare("metrics.md", &page_of_metrics(&metrics().await));
}

/// The output of `/metrics` after an event of every kind: a metric without a value shows no labels.
async fn metrics() -> String {
    let emulator = Emulator::start().unwrap();
    let token = emulator.token("automation").unwrap().expose().to_owned();
    let api = Api::start(&["onepassword", "fixtures/allocates"], Some(emulator)).await;
    let limited = api.connect("1password", &token).await;
    api.emulator().fault(FaultRule::next(Fault::rate_limited(600, RetryAfterForm::Header)));
    // A call that fails, and a call that is not made.
    for _ in 0..2 {
        api.get(&format!("/secret-providers/{}/items", limited.id)).await.error(429, "RATE_LIMITED");
    }
    // A call that the sandbox ends.
    let allocates = api.connect("allocates", ECHO_TOKEN).await;
    let entry = json!({
        "permissioned_user_id": "a", "domain": "https://acme.com",
        "secret_provider_id": allocates.id, "secret_ref": "allocates://item/a",
    });
    let entry = api.post("/vault", &entry).await.ok(201);
    let key = api.key_with(Scope::Resolve).await;
    api.request("POST", "/vault/resolve", &key, &json!({"id": entry["id"]})).await.error(502, "PROVIDER_FAULT");
    api.send("GET", "/metrics", &[], "").await.text
}

fn page_of_metrics(text: &str) -> String {
    let mut page = String::from(
        "# Metrics\n\nMade from what `GET /metrics` says. [Operation](../operation.md#metrics) has the values of \
         the labels.\n\n| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n",
    );
    let described = |kind: &str, name: &str| {
        let start = format!("# {kind} {name} ");
        text.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_default()
    };
    let names: BTreeSet<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    for (name, kind) in names {
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels = labels(text, name).iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let meaning = described("HELP", name).trim_end_matches('.');
        writeln!(page, "| `{name}{suffix}` | {kind} | {labels} | {meaning} |").unwrap();
    }
    page
}

/// The names of a metric's labels, except those of histogram buckets.
fn labels(text: &str, name: &str) -> BTreeSet<String> {
    let suffixes = ["", "_total", "_info", "_count"];
    let mut labels = BTreeSet::new();
    for line in text.lines() {
        let Some((series, rest)) = line.split_once('{') else { continue };
        if suffixes.iter().any(|suffix| series.strip_suffix(suffix) == Some(name)) {
            let of_series = rest.split('}').next().unwrap().split("\",");
            labels.extend(of_series.map(|label| label.split('=').next().unwrap().to_owned()));
        }
    }
    labels.remove("");
    labels
}
