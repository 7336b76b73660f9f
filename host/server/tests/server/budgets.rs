//! Budgets, back-off and the breaker as clients and scripts see them.

use keyway::Scope;
use keyway::budgets::{BudgetOptions, BudgetScope, RateLimits, RequestKind};
use keyway::connections::Connection;
use keyway_emulator_onepassword::{Emulator, Endpoint, Fault, FaultRule, RetryAfterForm};
use serde_json::{Value, json};

use crate::sloppy::secret_manager;
use crate::support::{Answer, Api, Folder, assert_without};

const ITEM: &str = "Northwind Supplier Portal";

fn retry_after(answer: &Answer) -> u64 {
    answer.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_secret_manager_asks_to_wait_clients_are_told_how_long_and_it_is_not_asked() {
    let (api, connection) = Api::onepassword().await;
    let items = format!("/secret-providers/{}/items", connection.id);
    let emulator = api.emulator();
    emulator.fault(FaultRule::next(Fault::rate_limited(600, RetryAfterForm::Header)));
    api.get(&items).await.error(429, "RATE_LIMITED");
    emulator.reset_calls();
    for _ in 0..3 {
        let answer = api.get(&items).await;
        let message = answer.error(429, "RATE_LIMITED");
        assert!(message.contains("too many") && message.contains("Try again in 10 minutes"), "{message}");
        assert!((590..=600).contains(&retry_after(&answer)), "{answer:?}");
    }
    assert_eq!(emulator.calls().total, 0);
    let budget = api.get(&format!("/secret-providers/{}/budget", connection.id)).await.ok(200);
    assert_eq!(budget["pause"]["reason"], "rate-limited");
    assert!(budget["credentials"].as_str().is_some_and(|fingerprint| fingerprint.len() == 32), "{budget}");
    assert!(budget["pause"]["until"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap() > jiff::Timestamp::now());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_and_its_series_name_the_same_credentials() {
    let (api, one) = Api::onepassword().await;
    let token = api.emulator().token("auditor").unwrap().expose().to_owned();
    let other = api.connect("1password", &token).await;
    let metrics = api.send("GET", "/metrics", &[], "").await.text;
    let mut fingerprints = Vec::new();
    for connection in [one, other] {
        let budget = api.get(&format!("/secret-providers/{}/budget", connection.id)).await.ok(200);
        let fingerprint = budget["credentials"].as_str().unwrap().to_owned();
        let label = format!("credentials=\"{fingerprint}\"");
        for name in ["keyway_budget_limit{", "keyway_budget_remaining{", "keyway_breaker_state{"] {
            assert!(metrics.lines().any(|line| line.starts_with(name) && line.contains(&label)), "{name}: {metrics}");
        }
        fingerprints.push(fingerprint);
    }
    assert_ne!(fingerprints[0], fingerprints[1]);
    // No series is of any other credentials.
    let of_others = |line: &&str| {
        line.contains("credentials=\"") && !fingerprints.iter().any(|known| line.contains(known.as_str()))
    };
    assert_eq!(metrics.lines().find(of_others), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_outage_the_answer_becomes_a_503_that_says_when_to_come_back() {
    let (api, connection) = Api::onepassword().await;
    let items = format!("/secret-providers/{}/items", connection.id);
    let emulator = api.emulator();
    emulator.fault(FaultRule::next(Fault::status(503)).always());
    emulator.reset_calls();
    // The first is attempted twice.
    for _ in 0..4 {
        api.get(&items).await.error(502, "PROVIDER_UNAVAILABLE");
    }
    assert_eq!(emulator.calls().total, 5);
    let answer = api.get(&items).await;
    let message = answer.error(503, "PROVIDER_PAUSED");
    assert!(message.contains("several times in a row") && message.contains("Try again in"), "{message}");
    assert!((1..=2).contains(&retry_after(&answer)));
    assert_eq!(emulator.calls().total, 5);
}

/// An entry bound to an item; resolves request its code, which is never cached, so each makes a
/// request.
struct Resolving {
    api: Api,
    key: String,
    body: Value,
    password: String,
}

impl Resolving {
    async fn new((api, connection): (Api, Connection)) -> Self {
        let account = api.emulator().account("automation").unwrap();
        let item = account.vault("Automation").unwrap().item(ITEM).unwrap().clone();
        let bound = json!({
            "permissioned_user_id": "acme-prod", "domain": "https://acme.com",
            "secret_provider_id": connection.id, "secret_ref": item.reference,
        });
        let body = json!({ "id": api.post("/vault", &bound).await.ok(201)["id"] });
        let key = api.key_with(Scope::Resolve).await;
        api.emulator().reset_calls();
        Self { api, key, body, password: item.password.unwrap() }
    }

    async fn resolve(&self) -> Answer {
        self.api.request("POST", "/vault/resolve", &self.key, &self.body).await
    }

    /// The message and the time to wait of a resolve that makes no request to the secret manager.
    async fn refused(&self, status: u16, code: &str) -> (String, u64) {
        let asked = self.api.emulator().calls().total;
        let answer = self.resolve().await;
        assert_without(&answer.text, &[&self.password]);
        assert_eq!(self.api.emulator().calls().total, asked);
        (answer.error(status, code), retry_after(&answer))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolve_beyond_the_budget_is_a_429_that_says_which_limit_it_is_and_when_to_come_back() {
    // Six to connect, and fourteen more.
    let hour = std::time::Duration::from_secs(3_600);
    let limits = RateLimits::UNLIMITED.limit(20, hour, RequestKind::Read, BudgetScope::Credential);
    let budgets = BudgetOptions::default().limits("1password", limits);
    let world = Resolving::new(Api::onepassword_with(budgets).await).await;
    for _ in 0..14 {
        world.resolve().await.ok(200);
    }
    for _ in 0..2 {
        let (message, wait) = world.refused(429, "RATE_LIMITED").await;
        let expected = "the secret manager was not asked, because its limit of 20 reading requests with this \
                        connection's credentials in 60 minutes is used up. Try again in ";
        assert!(message.starts_with(expected), "{message}");
        assert!(message.ends_with("; a longer cache duration makes fewer requests"), "{message}");
        // The hour of the first request ends one slot later at the latest.
        assert!((3_500..=3_720).contains(&wait), "{wait}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_that_a_foreign_provider_declares_is_a_429_that_says_when_to_come_back() {
    let rule = format!("secrets.eu-1.example.com=http://{}", secret_manager());
    let api = Api::start_through(&["fixtures/paths"], rule).await;
    let admin = api.key_with(keyway::Scopes::ALL).await;
    let settings = json!({ "region": "eu-1", "token": "a-token-of-paths" });
    let new = json!({ "name": "Paths", "provider_type": "paths", "settings": settings, "cache_ttl_seconds": 0 });
    let connection = api.request("POST", "/secret-providers", &admin, &new).await.ok(201)["id"].clone();
    let bound = json!({
        "permissioned_user_id": "acme-prod", "domain": "https://acme.com",
        "secret_provider_id": connection, "secret_ref": "paths://remote/item",
    });
    let entry = json!({ "id": api.post("/vault", &bound).await.ok(201)["id"] });
    let resolve = async || api.request("POST", "/vault/resolve", &admin, &entry).await;
    // Its first tier, the default: five reads an hour.
    for _ in 0..5 {
        resolve().await.ok(200);
    }
    let refused = resolve().await;
    let message = refused.error(429, "RATE_LIMITED");
    assert!(message.contains("its limit of 5 reading requests with this connection's credentials"), "{message}");
    assert!((3_500..=3_720).contains(&retry_after(&refused)), "{refused:?}");
    let budget = api.get(&format!("/secret-providers/{}/budget", connection.as_str().unwrap())).await.ok(200);
    let reads = &budget["allowances"][0];
    assert_eq!((&reads["limit"], &reads["remaining"]), (&json!(5), &json!(0)), "{budget}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolve_in_a_pause_is_a_429_or_a_503_that_says_when_to_come_back() {
    let world = Resolving::new(Api::onepassword().await).await;
    let emulator = world.api.emulator();
    emulator.fault(FaultRule::next(Fault::status(503)).always());
    for _ in 0..4 {
        world.resolve().await.error(502, "PROVIDER_UNAVAILABLE");
    }
    let (message, wait) = world.refused(503, "PROVIDER_PAUSED").await;
    assert!(message.contains("several times in a row") && message.contains("Try again in"), "{message}");
    assert!((1..=2).contains(&wait), "{wait}");

    let world = Resolving::new(Api::onepassword().await).await;
    world.api.emulator().fault(FaultRule::next(Fault::rate_limited(600, RetryAfterForm::Header)));
    let answer = world.resolve().await;
    answer.error(429, "RATE_LIMITED");
    assert_eq!(retry_after(&answer), 600);
    let (message, wait) = world.refused(429, "RATE_LIMITED").await;
    assert!(message.contains("too many") && message.contains("Try again in 10 minutes"), "{message}");
    assert!((590..=600).contains(&wait), "{wait}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_ends_a_pause_with_one_request_and_is_told_if_its_cause_is_still_there() {
    let (api, connection) = Api::onepassword().await;
    let path = format!("/secret-providers/{}", connection.id);
    let admin = api.key_with(Scope::Admin).await;
    let retry = async || api.request("POST", &format!("{path}/retry"), &admin, &Value::Null).await;
    let emulator = api.emulator();
    let asked = Fault::rate_limited(3_000, RetryAfterForm::Header);
    emulator.fault(FaultRule::next(asked.clone()));
    api.get(&format!("{path}/items")).await.error(429, "RATE_LIMITED");
    api.get(&format!("{path}/items")).await.error(429, "RATE_LIMITED");
    assert_eq!(retry().await.ok(200)["id"], connection.id.to_string());
    api.get(&format!("{path}/items")).await.ok(200);
    assert_eq!(api.get(&format!("{path}/budget")).await.ok(200)["pause"], Value::Null);

    emulator.fault(FaultRule::next(asked).always());
    let refused = retry().await;
    refused.error(429, "RATE_LIMITED");
    assert_eq!(retry_after(&refused), 3_000);
    emulator.clear_faults();
    retry().await.ok(200);
    let recorded = api.request("GET", "/audit?operation=retry_connection", &admin, &Value::Null).await.ok(200);
    assert_eq!(recorded["records"].as_array().unwrap().len(), 6, "each as begun and as ended: {recorded}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_are_a_502_that_says_when_they_are_tried_again() {
    let (api, connection) = Api::onepassword().await;
    let items = format!("/secret-providers/{}/items", connection.id);
    let emulator = api.emulator();
    emulator.revoke_token("automation", 401).unwrap();
    emulator.expire_sessions();
    api.get(&items).await.error(502, "PROVIDER_REFUSED");
    emulator.reset_calls();
    let answer = api.get(&items).await;
    let message = answer.error(502, "PROVIDER_REFUSED");
    assert!(message.contains("repeatedly") && message.contains("Replace them"), "{message}");
    // The second pause has two to four seconds.
    assert!((1..=4).contains(&retry_after(&answer)), "{answer:?}");
    assert_eq!(emulator.calls().total, 0);
    let document = api.send("GET", "/openapi.json", &[], "").await.ok(200);
    let described = &document["paths"]["/secret-providers/{id}/items"]["get"]["responses"]["502"];
    assert!(described["headers"]["retry-after"].is_object(), "{described}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_can_be_read_with_an_ordinary_key_and_costs_nothing() {
    let (api, connection) = Api::onepassword().await;
    let path = format!("/secret-providers/{}/budget", connection.id);
    api.emulator().reset_calls();
    let allowance = |scope: &str, requests: &str, limit: u32, used: u32, window: u32| {
        json!({
            "scope": scope, "requests": requests, "limit": limit, "used": used, "remaining": limit - used,
            "window_seconds": window,
        })
    };
    let answer = api.get(&path).await;
    let expected = json!({
        "allowances": [
            allowance("credential", "reads", 10_000, 6, 3_600),
            allowance("credential", "writes", 1_000, 0, 3_600),
            allowance("account", "all", 50_000, 6, 86_400),
        ],
        "pause": null,
        "credentials": answer.ok(200)["credentials"],
    });
    assert_eq!(answer.ok(200), expected);
    assert_eq!(api.emulator().calls().total, 0);
    assert_without(&answer.text, &[api.emulator().token("automation").unwrap().expose()]);
    api.get(&format!("/secret-providers/{}/items", connection.id)).await.ok(200);
    let used = 6 + api.emulator().calls().total;
    assert_eq!(api.get(&path).await.ok(200)["allowances"][0]["used"], used);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_that_was_chosen_can_be_reset_to_the_default() {
    let (api, connection) = Api::onepassword().await;
    let admin = api.key_with(Scope::Admin).await;
    let path = format!("/secret-providers/{}", connection.id);
    let change = async |tier: Value| {
        let changed = api.request("PATCH", &path, &admin, &json!({ "rate_limit_tier": tier })).await.ok(200);
        let budget = api.get(&format!("{path}/budget")).await.ok(200);
        (changed["rate_limit_tier"].clone(), budget["allowances"][0]["limit"].clone())
    };
    assert_eq!(change("teams".into()).await, ("teams".into(), 1_000.into()));
    assert_eq!(change(Value::Null).await, (Value::Null, 10_000.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_of_another_workspaces_connection_is_not_found() {
    let (api, connection) = Api::echo().await;
    let other = api.host.broker().workspaces().create("Other", keyway::Scope::Api).await.unwrap();
    let key = secrecy::ExposeSecret::expose_secret(&other.api_key).to_owned();
    let path = format!("/secret-providers/{}/budget", connection.id);
    api.send("GET", &path, &[("cc-key", &key)], "").await.error(404, "NOT_FOUND");
    api.send("GET", &path, &[], "").await.error(401, "UNAUTHENTICATED");
    api.get("/secret-providers/nonsense/budget").await.error(400, "BAD_REQUEST");
    // A provider with unknown limits is counted, and not limited.
    assert_eq!(api.get(&path).await.ok(200)["allowances"][0]["limit"], Value::Null);
}

#[test]
fn the_command_line_shows_what_is_left_and_takes_the_plan() {
    let emulator = Emulator::start().unwrap();
    let folder = Folder::with(&["onepassword"]);
    let rule = format!("{}={}", emulator.host(), emulator.url());
    folder.run(&["workspace", "create", "Acme"]).ok();
    let token = emulator.token("automation").unwrap();
    let connect = ["connect", "1password", "--token-file", "-", "--connect-to", &rule];
    folder.run_with(&connect, token.expose()).ok();
    let shown = folder.run(&["connection", "budget", "--json", "--default-rate-limit-tier", "1password=families"]).ok();
    let budget = &shown.json()[0];
    // Reads, writes, and the account's requests.
    let allowances = |budget: &Value, what: &str| [0, 1, 2].map(|n| budget["allowances"][n][what].clone());
    assert_eq!(allowances(budget, "limit"), [1_000, 100, 1_000].map(Value::from));
    assert_eq!(budget["name"], "1Password");
    assert_eq!(allowances(budget, "used")[0], emulator.calls().total, "{shown:?}");
    assert_without(&shown.all(), &[token.expose()]);
    let table = folder.run(&["connection", "budget"]).ok();
    assert!(table.stdout.contains("of 10000") && table.stdout.contains("of 50000"), "{table:?}");
    assert!(table.stdout.contains("1 h") && table.stdout.contains("24 h"), "{table:?}");
    let unknown = folder.run(&["connection", "budget", "--default-rate-limit-tier", "1password=golden"]).failed(2);
    assert!(unknown.stderr.contains("business, teams, families"), "{unknown:?}");
    folder.run(&["connection", "update", "--rate-limit-tier", "teams"]).ok();
    let chosen =
        folder.run(&["connection", "budget", "--json", "--default-rate-limit-tier", "1password=families"]).ok();
    assert_eq!(allowances(&chosen.json()[0], "limit")[2], 5_000, "the connection's own choice counts");
    folder.run(&["connection", "update", "--rate-limit-tier", "golden"]).failed(4);
    folder.run(&["connection", "update", "--rate-limit-tier", ""]).ok();
    let reset = folder.run(&["connection", "budget", "--json"]).ok();
    assert_eq!(allowances(&reset.json()[0], "limit")[2], 50_000, "the default again");
    assert_eq!(emulator.calls().of(Endpoint::Item), 0);

    // Each command is a separate process. It returns its unused reservations, even when it fails.
    let items = ["items", "--json", "--connect-to", &rule];
    folder.run(&items).ok();
    emulator.fault(FaultRule::next(Fault::status(503)).times(2));
    folder.run(&items).failed(6);
    let budget = &folder.run(&["connection", "budget", "--json"]).ok().json()[0];
    let total = json!(emulator.calls().total);
    assert_eq!(allowances(budget, "used"), [total.clone(), json!(0), total]);

    let elsewhere = format!("{}=http://127.0.0.1:1", emulator.host());
    let failed = folder.run(&["items", "--connect-to", &elsewhere]).failed(6);
    assert!(failed.stderr.contains("redirected") && failed.stderr.contains(&elsewhere), "{failed:#?}");
}
