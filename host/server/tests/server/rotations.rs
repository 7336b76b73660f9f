//! Password rotation over HTTP, on the command line, and with a server that is killed in the
//! middle.

use std::os::unix::fs::PermissionsExt;

use keyway::{EntryContent, Scopes};
use keyway_emulator_onepassword::{Emulator, Endpoint, Fault, FaultRule, VaultAccess};
use rustix::process::Signal;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::serve::Process;
use crate::support::{Answer, Api, Folder, assert_without, send};

const VAULT: &str = "Automation";
const ITEM: &str = "Northwind Supplier Portal";
const OLD: &str = "7Tq-wren-obelisk-41";
const PATH: &str = "/vault/rotations";

/// The item's password, read from the emulator alone.
fn item_password(emulator: &Emulator) -> String {
    let details: Value = serde_json::from_str(&emulator.item(VAULT, ITEM).unwrap().details).unwrap();
    let fields = details["fields"].as_array().unwrap();
    let field = fields.iter().find(|field| field["designation"] == "password").unwrap();
    field["value"].as_str().unwrap().to_owned()
}

fn reference(emulator: &Emulator, vault: &str, title: &str) -> String {
    emulator.account("automation").unwrap().vault(vault).unwrap().item(title).unwrap().reference.clone()
}

/// A server with an entry bound to the item, and keys of several scopes.
struct Rotations {
    api: Api,
    entry: String,
    rotate: String,
    admin: String,
}

impl Rotations {
    async fn new() -> Self {
        let (api, connection) = Api::onepassword().await;
        let new =
            EntryContent::bound("acme-prod", "https://acme.com", connection.id, reference(api.emulator(), VAULT, ITEM));
        let entry = api.host.broker().entries().create(&api.access, new).await.unwrap().id.to_string();
        let (rotate, admin) = (key(&api, "rotate").await, key(&api, "admin").await);
        Self { api, entry, rotate, admin }
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = [("cc-key", &*self.rotate), ("content-type", "application/json")];
        self.api.send("POST", path, &headers, body.to_string()).await
    }

    async fn get_with(&self, key: &str, path: &str) -> Answer {
        self.api.send("GET", path, &[("cc-key", key)], "").await
    }

    async fn begin(&self) -> (String, String) {
        let begun = self.post(PATH, &json!({"entry_id": self.entry})).await.ok(201);
        (path_of(&begun), begun["password"].as_str().unwrap().to_owned())
    }
}

fn path_of(rotation: &Value) -> String {
    format!("{PATH}/{}", rotation["id"].as_str().unwrap())
}

async fn key(api: &Api, scopes: &str) -> String {
    let scopes = scopes.parse::<Scopes>().unwrap();
    let created = api.host.broker().api_keys().create(&api.access, "rotations", scopes).await.unwrap();
    created.api_key.expose_secret().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_begun_committed_and_done() {
    let test = Rotations::new().await;
    let pair = json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com", "length": 32, "symbols": ""});
    let answer = test.post(PATH, &pair).await;
    let begun = answer.ok(201);
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!((&begun["state"], &begun["entry_id"]), (&json!("prepared"), &json!(test.entry)));
    let password = begun["password"].as_str().unwrap();
    assert!(password.len() == 32 && password.chars().all(|c| c.is_ascii_alphanumeric()), "{password}");

    let path = path_of(&begun);
    let seen = test.get_with(&test.rotate, &path).await;
    assert_eq!(seen.ok(200)["state"], "prepared");
    let listed = test.get_with(&test.rotate, &format!("{PATH}?state=open&entry_id={}", test.entry)).await;
    assert_eq!(listed.ok(200), json!({"rotations": [seen.ok(200)], "next": null}));
    for answer in [&seen, &listed] {
        assert_without(&answer.text, &[password, OLD]);
    }
    let refused = test.post(PATH, &json!({"entry_id": test.entry})).await.error(409, "CONFLICT");
    assert!(refused.contains("is open; commit, retry or abandon it"), "{refused}");

    let commit = format!("{path}/commit");
    let headers = [("cc-key", &*test.rotate)];
    let done = test.api.send("POST", &commit, &headers, "").await.ok(200);
    assert_eq!(done["state"], "done", "without a body and a content type");
    assert_eq!(item_password(test.api.emulator()), password);
    assert_eq!(test.post(&commit, &json!({})).await.ok(200), done, "again, and nothing changes");
    assert_eq!(test.get_with(&test.rotate, &format!("{PATH}?state=open")).await.ok(200)["rotations"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_vault_is_skipped_and_no_write_is_seen() {
    let test = Rotations::new().await;
    test.api.emulator().set_access("automation", VAULT, Some(VaultAccess::ReadOnly)).unwrap();
    test.api.emulator().reset_calls();
    let skipped = test.post(PATH, &json!({"entry_id": test.entry})).await.ok(201);
    assert_eq!((&skipped["state"], &skipped["password"]), (&json!("skipped"), &Value::Null));
    assert!(skipped["message"].as_str().unwrap().contains("Write Items"), "{skipped}");
    assert_eq!(test.api.emulator().calls().of(Endpoint::PatchItems), 0);
    let message = test.post(&format!("{}/commit", path_of(&skipped)), &json!({})).await.error(409, "CONFLICT");
    assert!(message.contains("skipped"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_written_is_listed_revealed_to_an_admin_only_and_retried() {
    let test = Rotations::new().await;
    let (path, password) = test.begin().await;
    test.api.emulator().set_access("automation", VAULT, Some(VaultAccess::ReadOnly)).unwrap();
    let waiting = test.post(&format!("{path}/commit"), &json!({})).await.ok(200);
    assert_eq!((&waiting["state"], &waiting["reason"]), (&json!("committing"), &json!("permission-denied")));
    assert!(waiting["message"].as_str().unwrap().contains("Write Items"), "{waiting}");
    let listed = test.get_with(&test.rotate, &format!("{PATH}?state=committing")).await.ok(200);
    assert_eq!(listed["rotations"][0], waiting);
    let secret = format!("{path}/password");
    test.get_with(&test.rotate, &secret).await.error(403, "FORBIDDEN");
    let revealed = test.get_with(&test.admin, &secret).await;
    assert_eq!(revealed.ok(200), json!({"password": password}));
    assert_eq!(revealed.headers["cache-control"], "no-store");
    let abandon = format!("{path}/abandon");
    assert!(test.post(&abandon, &json!({})).await.error(409, "CONFLICT").contains("discarded"));

    test.api.emulator().set_access("automation", VAULT, Some(VaultAccess::ReadWrite)).unwrap();
    let done = test.post(&format!("{path}/retry"), &json!({"overwrite": false})).await.ok(200);
    // A body of `null` counts as none.
    assert_eq!(test.post(&format!("{path}/retry"), &json!(null)).await.ok(200), done);
    assert_eq!(done["state"], "done");
    assert_eq!(item_password(test.api.emulator()), password);
    test.get_with(&test.admin, &secret).await.error(409, "CONFLICT");
    test.post(&abandon, &json!({"discard_password": true})).await.error(409, "CONFLICT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_the_item_does_not_have_yet_is_not_said_to_be_from_the_cache() {
    let test = Rotations::new().await;
    let resolve = key(&test.api, "resolve").await;
    let headers = [("cc-key", &*resolve), ("content-type", "application/json")];
    let body =
        json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com", "fields": ["username", "password"]});
    let resolved = async || test.api.send("POST", "/vault/resolve", &headers, body.to_string()).await.ok(200);
    resolved().await;
    assert_eq!(resolved().await["password"]["source"], "cached");
    let (path, password) = test.begin().await;
    test.api.emulator().set_access("automation", VAULT, Some(VaultAccess::ReadOnly)).unwrap();
    test.post(&format!("{path}/commit"), &json!({})).await.ok(200);
    let ahead = resolved().await;
    assert_eq!(ahead["username"]["source"], "cached");
    let of_rotation = &ahead["password"];
    assert_eq!((&of_rotation["value"], &of_rotation["source"]), (&json!(password), &json!("live")));
    assert_eq!(of_rotation["age_seconds"].as_f64(), Some(0.0));
    assert_eq!(path_of(&json!({"id": ahead["rotation"]})), path);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_told_in_the_envelope() {
    let test = Rotations::new().await;
    let (path, password) = test.begin().await;
    test.api.send("POST", PATH, &[("content-type", "application/json")], "{").await.error(401, "UNAUTHENTICATED");
    let resolve = key(&test.api, "api resolve").await;
    for (method, path) in [
        ("POST", PATH.to_owned()),
        ("GET", PATH.to_owned()),
        ("GET", path.clone()),
        ("POST", format!("{path}/commit")),
        ("POST", format!("{path}/abandon")),
        ("POST", format!("{path}/retry")),
        ("GET", format!("{path}/password")),
    ] {
        let body = if path == PATH { json!({"entry_id": test.entry}).to_string() } else { String::new() };
        let headers = [("cc-key", &*resolve), ("content-type", "application/json")];
        test.api.send(method, &path, &headers, body).await.error(403, "FORBIDDEN");
        test.api.send("PUT", &path, &headers, "").await.error(405, "METHOD_NOT_ALLOWED");
    }
    for (body, word) in [
        (json!({}), "entry_id"),
        (json!({"entry_id": "x"}), "UUID"),
        (json!({"entry_id": 7}), "entry_id"),
        (json!({"permissioned_user_id": "acme-prod"}), "domain"),
        (json!({"entry_id": test.entry, "domain": "https://acme.com"}), "entry_id"),
        (json!({"entry_id": test.entry, "length": true}), "length"),
        (json!({"entry_id": test.entry, "length": "20"}), "length"),
        (json!({"entry_id": test.entry, "length": 4}), "between 12 and 128"),
        (json!({"entry_id": test.entry, "length": i64::MAX}), "between 12 and 128"),
        (json!({"entry_id": test.entry, "symbols": false}), "symbols"),
        (json!({"entry_id": test.entry, "symbols": "\u{e4}"}), "ASCII"),
        (json!({"entry_id": test.entry, "digits": 1}), "digits"),
        (json!({"entry_id": test.entry, "password": "x", "length": 20}), "generated"),
        (json!({"entry_id": test.entry, "passwort": "x"}), "passwort"),
    ] {
        let message = test.post(PATH, &body).await.error(400, "VALIDATION_FAILED");
        assert!(message.contains(word), "{message}");
    }
    test.post(PATH, &json!({"entry_id": test.entry, "password": "hunter2-hunter2"})).await.error(401, "NOT_ENCRYPTED");
    let unknown = "25290e80-bbd5-41b3-861e-dea30cc26e27";
    test.post(PATH, &json!({"entry_id": unknown})).await.error(404, "NOT_FOUND");
    test.get_with(&test.rotate, &format!("{PATH}/{unknown}")).await.error(404, "NOT_FOUND");
    test.get_with(&test.rotate, &format!("{PATH}/nonsense")).await.error(400, "BAD_REQUEST");
    test.get_with(&test.rotate, &format!("{PATH}?state=rotated")).await.error(400, "VALIDATION_FAILED");
    test.post(&format!("{path}/retry"), &json!({"overwrite": "yes"})).await.error(400, "VALIDATION_FAILED");
    let headers = [("cc-key", &*test.rotate), ("content-type", "text/plain")];
    let answer = test.api.send("POST", &format!("{path}/abandon"), &headers, "discard_password=true").await;
    answer.error(415, "UNSUPPORTED_MEDIA_TYPE");
    // None of these requests changed the rotation.
    assert_eq!(test.get_with(&test.admin, &format!("{path}/password")).await.ok(200), json!({"password": password}));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_workspaces_rotation_is_answered_like_one_that_does_not_exist() {
    let test = Rotations::new().await;
    let (path, password) = test.begin().await;
    let other = test.api.host.broker().workspaces().create("Other", Scopes::ALL).await.unwrap();
    let stranger = other.api_key.expose_secret();
    let unknown = test.get_with(stranger, &format!("{PATH}/25290e80-bbd5-41b3-861e-dea30cc26e27")).await;
    assert_eq!(test.get_with(stranger, &path).await.text, unknown.text);
    for action in ["commit", "abandon", "retry"] {
        let answer = test.api.send("POST", &format!("{path}/{action}"), &[("cc-key", stranger)], "").await;
        assert_eq!(answer.text, unknown.text);
    }
    let secret = format!("{path}/password");
    let refused = test.get_with(stranger, &secret).await;
    refused.error(404, "NOT_FOUND");
    assert_eq!(refused.text, unknown.text);
    assert_eq!(test.get_with(&test.admin, &secret).await.ok(200), json!({"password": password}), "it is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_workspaces_entry_is_not_rotated_and_is_answered_like_one_that_does_not_exist() {
    let test = Rotations::new().await;
    let other = test.api.host.broker().workspaces().create("Other", Scopes::ALL).await.unwrap();
    let stranger = other.api_key.expose_secret();
    let begin = async |entry: &str| {
        let answer = test.api.request("POST", PATH, stranger, &json!({"entry_id": entry})).await;
        answer.error(404, "NOT_FOUND");
        answer.text
    };
    let unknown = begin("25290e80-bbd5-41b3-861e-dea30cc26e27").await;
    assert_eq!(begin(&test.entry).await, unknown);
    let pair = json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com"});
    assert_eq!(test.api.request("POST", PATH, stranger, &pair).await.text, unknown);
    let nothing = json!({"rotations": [], "next": null});
    assert_eq!(test.get_with(&test.rotate, PATH).await.ok(200), nothing);
    assert_eq!(test.get_with(stranger, &format!("{PATH}?entry_id={}", test.entry)).await.ok(200), nothing);
}

/// A data folder with a workspace, a connection to an emulator and a bound entry, created on the
/// command line.
struct Site {
    emulator: Emulator,
    folder: Folder,
    rule: String,
    entry: String,
}

impl Site {
    fn new() -> Self {
        let emulator = Emulator::start().unwrap();
        let rule = format!("{}={}", emulator.host(), emulator.url());
        let folder = Folder::with(&["onepassword"]);
        folder.run(&["workspace", "create", "Acme"]).ok();
        let token = emulator.token("automation").unwrap().expose().to_owned();
        folder.run_with(&["connect", "--token-file", "-", "--connect-to", &rule], &token).ok();
        let entry = folder.bind("acme-prod", &reference(&emulator, VAULT, ITEM));
        Self { emulator, folder, rule, entry }
    }

    fn run(&self, arguments: &[&str]) -> crate::support::Ran {
        let all: Vec<_> = arguments.iter().copied().chain(["--connect-to", &self.rule]).collect();
        self.folder.run(&all)
    }

    fn serve(&self) -> Process {
        Process::start(&self.folder, &["--connect-to", &self.rule])
    }

    fn key(&self, scopes: &str) -> String {
        let created = self.folder.run(&["key", "create", scopes, "--scopes", scopes, "--json"]).ok().json();
        created["api_key"].as_str().unwrap().to_owned()
    }
}

#[test]
fn the_command_line_rotates_and_prints_the_password_only_when_asked() {
    let site = Site::new();
    let begun = site.run(&["rotation", "begin", &site.entry, "--json"]).ok();
    let id = begun.json()["id"].as_str().unwrap().to_owned();
    assert_eq!((&begun.json()["state"], begun.json().get("password")), (&json!("prepared"), None));
    let shown = site.run(&["rotation", "show", &id]).ok();
    let revealed = site.run(&["rotation", "show", &id, "--reveal", "--json"]).ok().json();
    let password = revealed["password"].as_str().unwrap().to_owned();
    assert_without(&(begun.all() + &shown.all()), &[&password]);
    assert!(shown.stdout.contains("prepared") && shown.stdout.contains(&format!("keyway rotation commit {id}")));

    let file = site.folder.path().join("new-password");
    let path = file.to_str().unwrap();
    let kept = site.run(&["rotation", "show", &id, "--out", path]).ok();
    assert_without(&kept.all(), &[&password]);
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim_end(), password);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(site.run(&["rotation", "show", &id, "--out", path]).failed(4).stderr.contains("exists"));

    let refused = site.run(&["rotation", "begin", &site.entry]).failed(4);
    assert!(refused.stderr.contains("`keyway rotation list --open`"), "{refused:#?}");
    site.run(&["rotation", "abandon", &id]).ok();
    site.run(&["rotation", "commit", &id]).failed(4);
    let listed = site.run(&["rotation", "list", "--state", "abandoned,done", "--json"]).ok().json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["id"]), (1, &json!(id)));
    assert_eq!(site.run(&["rotation", "list", "--open", "--json"]).ok().json(), json!([]));

    let given = ["rotation", "begin", &site.entry, "--password-file", "-", "--json"];
    let begun = site.folder.run_with(&[&given[..], &["--connect-to", &site.rule]].concat(), "a given one 4711\n").ok();
    assert_without(&begun.all(), &["a given one 4711"]);
    site.run(&["rotation", "commit", begun.json()["id"].as_str().unwrap()]).ok();
    assert_eq!(item_password(&site.emulator), "a given one 4711");
}

#[test]
fn exit_codes_say_what_became_of_a_rotation() {
    let site = Site::new();
    let access = |access| site.emulator.set_access("automation", VAULT, Some(access)).unwrap();
    access(VaultAccess::ReadOnly);
    let file = site.folder.path().join("new-password");
    let skipped = site.run(&["rotation", "begin", &site.entry, "--json", "--out", file.to_str().unwrap()]).ok();
    assert_eq!(skipped.json()["state"], "skipped");
    assert!(skipped.stderr.contains("Write Items") && skipped.stderr.contains("do not change it"), "{skipped:#?}");
    assert!(!file.exists(), "there is no password to keep");

    access(VaultAccess::ReadWrite);
    let begun = site.run(&["rotation", "begin", &site.entry, "--json"]).ok().json();
    let id = begun["id"].as_str().unwrap();
    site.run(&["rotation", "retry", id]).failed(4);
    site.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::status(503)).always());
    let waiting = site.run(&["rotation", "commit", id, "--json"]).failed(6);
    assert_eq!(waiting.json()["state"], "committing");
    site.emulator.clear_faults();
    access(VaultAccess::ReadOnly);
    let refused = site.run(&["rotation", "retry", id, "--json"]).failed(6).json();
    assert_eq!((&refused["state"], &refused["reason"]), (&json!("committing"), &json!("permission-denied")));
    site.run(&["rotation", "abandon", id]).failed(4);
    access(VaultAccess::ReadWrite);
    assert_eq!(site.run(&["rotation", "retry", id, "--json"]).ok().json()["state"], "done");
    site.run(&["rotation", "show", "25290e80-bbd5-41b3-861e-dea30cc26e27"]).failed(3);
    site.run(&["rotation", "list", "--state", "rotated"]).failed(2);
    site.run(&["rotation", "begin"]).failed(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_at_any_step_loses_no_password_and_writes_none_twice() {
    let site = Site::new();
    let (rotate, admin) = (site.key("rotate"), site.key("admin"));
    let post = async |url: String| send(&url, "POST", &[("cc-key", &rotate)], "").await.ok(200);
    let mut said = String::new();
    let mut passwords = vec![OLD.to_owned()];
    // Killed after it has begun; during a write that is lost; during a write that arrives.
    for fault in [None, Some(Fault::Hang { milliseconds: 60_000 }), Some(Fault::Delay { milliseconds: 300 })] {
        let before = site.emulator.item(VAULT, ITEM).unwrap().item_version;
        let server = site.serve();
        let headers = [("cc-key", &*rotate), ("content-type", "application/json")];
        let body = json!({"entry_id": site.entry}).to_string();
        let begun = send(&format!("{}{PATH}", server.url), "POST", &headers, body).await.ok(201);
        let (path, password) = (path_of(&begun), begun["password"].as_str().unwrap().to_owned());
        if let Some(fault) = &fault {
            site.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, fault.clone()));
            let (url, key) = (format!("{}{path}/commit", server.url), rotate.clone());
            // It receives no answer.
            tokio::spawn(async move { send(&url, "POST", &[("cc-key", &key)], "").await });
            while !site.emulator.faults().is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
        let (code, log) = tokio::task::spawn_blocking(|| server.end(Signal::KILL)).await.unwrap();
        assert_eq!(code, -1, "the kill ended it");
        said += &log;

        let server = site.serve();
        let state = server.get(&path, &rotate).await.ok(200)["state"].clone();
        assert_eq!(state, if fault.is_none() { "prepared" } else { "committing" });
        let revealed = server.get(&format!("{path}/password"), &admin).await.ok(200);
        assert_eq!(revealed["password"], password.as_str());
        site.emulator.clear_faults();
        if fault.is_some() {
            assert_eq!(post(format!("{}{path}/retry", server.url)).await["state"], "done");
        } else {
            assert_eq!(post(format!("{}{path}/commit", server.url)).await["state"], "done");
        }
        assert_eq!(item_password(&site.emulator), password);
        assert_eq!(site.emulator.item(VAULT, ITEM).unwrap().item_version, before + 1, "{fault:?}");
        server.get(&format!("{path}/password"), &admin).await.error(409, "CONFLICT");
        said += &tokio::task::spawn_blocking(|| server.end(Signal::TERM)).await.unwrap().1;
        passwords.push(password);
    }
    let secrets: Vec<&str> = passwords.iter().map(String::as_str).collect();
    assert_without(&said, &secrets);
    for name in ["keyway.db", "keyway.db-wal"] {
        let data = std::fs::read(site.folder.path().join(name)).unwrap_or_default();
        assert_without(&String::from_utf8_lossy(&data), &secrets);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_writes_back_by_itself_when_the_outage_is_over_also_after_a_restart() {
    let site = Site::new();
    let begun = site.run(&["rotation", "begin", &site.entry, "--json", "--reveal"]).ok().json();
    let id = begun["id"].as_str().unwrap();
    site.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::status(503)).always());
    site.run(&["rotation", "commit", id]).failed(6);
    site.emulator.clear_faults();
    // The command line has ended; only the server can do it.
    let server = site.serve();
    let rotate = site.key("rotate");
    let path = format!("{PATH}/{id}");
    while server.get(&path, &rotate).await.ok(200)["state"] != "done" {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(item_password(&site.emulator), begun["password"].as_str().unwrap());
    server.end(Signal::TERM);
}
