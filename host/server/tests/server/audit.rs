//! The audit log as people and programs see it: `keyway audit` and `GET /audit`.

use std::path::{Path, PathBuf};

use keyway::Scope;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::cli_database::change;
use crate::support::{Answer, Api, ECHO_TOKEN, Folder, Ran, assert_without};

const VERIFY: [&str; 3] = ["audit", "verify", "--json"];

fn segments(folder: &Folder) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder.path().join("audit")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// The lines of the only segment; record n is at index n.
fn lines(folder: &Folder) -> Vec<String> {
    let [segment] = &segments(folder)[..] else { panic!("{:?}", segments(folder)) };
    std::fs::read_to_string(segment).unwrap().lines().map(str::to_owned).collect()
}

fn write(folder: &Folder, lines: &[String]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&segments(folder)[0], text).unwrap();
}

#[test]
fn a_folder_without_a_database_is_no_log_in_which_all_is_well() {
    let folder = Folder::with(&[]);
    let mistyped = folder.path().join("mistyped");
    for command in ["verify", "list"] {
        let ran = folder.run(&["--data-dir", mistyped.to_str().unwrap(), "audit", command]).failed(3);
        assert!(ran.stderr.contains("there is no database"), "{ran:#?}");
    }
    assert!(!mistyped.exists());
}

#[test]
fn the_command_line_lists_what_it_did_itself() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let entry = folder.bind("somebody", "echo://item/one");
    folder.run(&["resolve", &entry]).ok();
    folder.run(&["resolve", &entry]).ok();
    let all = folder.run(&["audit", "list", "--json", "--order", "oldest"]).ok();
    let operations: Vec<_> = all.json()["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["operation"].as_str().unwrap().to_owned())
        .collect();
    let changes = ["create_workspace", "connect", "create_entry"].map(|name| [name, name]).concat();
    assert_eq!(operations, [changes, vec!["resolve"; 2]].concat());
    assert_without(&all.all(), &[ECHO_TOKEN, "password-one", "user-one"]);

    let releases = folder
        .run(&["audit", "list", "--operation", "resolve", "--entry", &entry, "--limit", "1", "--json"])
        .ok()
        .json();
    assert_eq!(releases["records"].as_array().unwrap().len(), 1);
    assert_eq!(releases["records"][0]["actor"]["name"], "command line");
    assert_eq!(releases["records"][0]["source"], "live");
    let next = releases["next"].as_str().unwrap();
    let rest = folder.run(&["audit", "list", "--operation", "resolve", "--cursor", next, "--json"]).ok().json();
    assert_eq!(rest["records"].as_array().unwrap().len(), 1);
    let text = folder.run(&["audit", "list", "--operation", "resolve"]).ok().stdout;
    assert!(text.contains("command line") && text.contains(&entry), "{text}");
    folder.run(&["audit", "list", "--operation", "sudo"]).failed(2);
    // Each process continues the same segment.
    assert_eq!(segments(&folder).len(), 1);
    let verified = folder.run(&VERIFY).ok().json();
    assert_eq!((&verified["good"], &verified["records"], &verified["segments"]), (&true.into(), &8.into(), &1.into()));
}

#[test]
fn whatever_is_done_to_the_log_is_found_and_the_first_bad_record_named() {
    let folder = Folder::connected(&["fixtures/echo"]);
    for user in ["a", "b", "c"] {
        folder.bind(user, "echo://item/one");
    }
    let original = lines(&folder);
    let touched = |change: &dyn Fn(&mut Vec<String>)| -> Ran {
        let mut lines = original.clone();
        change(&mut lines);
        write(&folder, &lines);
        let verified = folder.run(&VERIFY).failed(8);
        assert_eq!(verified.json()["good"], false);
        // The text output agrees.
        assert!(folder.run(&["audit", "verify"]).failed(8).stdout.contains("Bad:"));
        verified
    };
    let first = |ran: &Ran| ran.json()["findings"][0].clone();
    let changed = touched(&|lines| lines[3] = lines[3].replace("connect", "disconn"));
    assert_eq!((&first(&changed)["problem"], &first(&changed)["number"]), (&"changed".into(), &3.into()));
    assert!(changed.stderr.contains("record 3 was changed"), "{}", changed.stderr);
    let removed = touched(&|lines| drop(lines.remove(4)));
    assert_eq!((&first(&removed)["problem"], &first(&removed)["first"]), (&"missing".into(), &4.into()));
    let inserted = touched(&|lines| lines.insert(5, lines[2].clone()));
    assert_eq!((&first(&inserted)["problem"], &first(&inserted)["number"]), (&"out_of_place".into(), &2.into()));
    let moved = touched(&|lines| lines.swap(5, 6));
    assert_eq!((&first(&moved)["problem"], &first(&moved)["first"]), (&"missing".into(), &5.into()));
    let cut_off = touched(&|lines| lines.truncate(8));
    assert_eq!((&first(&cut_off)["problem"], &first(&cut_off)["first"]), (&"missing".into(), &8.into()));

    write(&folder, &original);
    folder.run(&VERIFY).ok();
    let file = segments(&folder).remove(0);
    std::fs::remove_file(&file).unwrap();
    let gone = folder.run(&VERIFY).failed(8);
    assert_eq!(first(&gone)["problem"], "series_missing");
}

/// Copies the database and the log into another folder, or back.
fn copy_data(from: &Path, to: &Path) {
    for file in ["keyway.db", "keyway.db-wal", "keyway.db-shm"] {
        let _ = std::fs::remove_file(to.join(file));
        if from.join(file).exists() {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
    }
    let _ = std::fs::remove_dir_all(to.join("audit"));
    std::fs::create_dir(to.join("audit")).unwrap();
    for file in std::fs::read_dir(from.join("audit")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join("audit").join(file.file_name())).unwrap();
    }
}

#[test]
fn an_earlier_copy_of_everything_is_found_with_the_root_that_was_kept_elsewhere() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let elsewhere = Folder::with(&[]);
    let (copy, kept) = (elsewhere.path(), elsewhere.path().join("root.json"));
    let early = folder.run(&["audit", "root"]).ok().stdout;
    copy_data(folder.path(), copy);
    folder.bind("somebody", "echo://item/one");
    let root = folder.run(&["audit", "root", "--json"]).ok();
    assert_eq!(root.stdout.lines().count(), 1);
    assert_eq!(root.stdout, folder.run(&["audit", "root"]).ok().stdout, "it is the same line with --json");
    assert_eq!((&root.json()["heads"]["1"]["number"], root.json()["mac"].as_str().unwrap().len()), (&6.into(), 64));
    std::fs::write(&kept, &root.stdout).unwrap();
    let verify = ["audit", "verify", "--root", kept.to_str().unwrap()];
    let text = folder.run(&verify).ok().stdout;
    assert!(text.contains("Good:") && text.contains("compared with root"), "{text}");

    copy_data(copy, folder.path());
    // Without a root nobody can know, and it says so.
    let text = folder.run(&["audit", "verify"]).ok().stdout;
    assert!(text.contains("an earlier copy of log and database together would look the same"), "{text}");
    folder.run_with(&["audit", "verify", "--root", "-"], &early).ok();
    for step in 0..2 {
        let ran = folder.run(&[&verify[..], &["--json"]].concat()).failed(8);
        assert_eq!(ran.json()["good"], false);
        let found = ran.json()["findings"].as_array().unwrap().clone();
        // Afterwards other records stand where those were that are gone.
        let expected = if step == 0 { "rolled_back" } else { "changed" };
        assert!(found.iter().any(|finding| finding["problem"] == expected), "{found:?}");
        for user in ["a", "b", "c", "d"] {
            folder.bind(&format!("{user}{step}"), "echo://item/one");
        }
    }

    // A root that is not this log's, and what is no root.
    std::fs::write(&kept, root.stdout.replace("\"root\":", "\"root\":9")).unwrap();
    let foreign = folder.run(&verify).failed(8);
    assert!(foreign.stderr.contains("was not made by this log, or was changed"), "{}", foreign.stderr);
    std::fs::write(&kept, "{}").unwrap();
    folder.run(&verify).failed(4);
    std::fs::remove_file(&kept).unwrap();
    folder.run(&verify).failed(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_erased_with_its_root_is_missed_although_every_other_row_was_put_aside() {
    let folder = Folder::connected(&["fixtures/echo"]);
    std::fs::remove_dir_all(folder.path().join("audit")).unwrap();
    change(
        &folder,
        "CREATE TABLE aside AS SELECT * FROM workspaces; DELETE FROM workspaces; DELETE FROM audit_roots;
         DELETE FROM audit_anchors;",
    )
    .await;
    // A new log begins, as if the database was new.
    folder.run(&["workspace", "create", "Other"]).ok();
    change(&folder, "INSERT INTO workspaces SELECT * FROM aside; DROP TABLE aside;").await;
    for name in ["Another", "A third"] {
        let verified = folder.run(&VERIFY).failed(8).json();
        assert_eq!(verified["findings"][0]["problem"], "log_missing", "{verified:#}");
        folder.run(&["workspace", "create", name]).ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_was_replaced_by_an_older_one_is_found_after_short_commands_too() {
    let folder = Folder::connected(&["fixtures/echo"]);
    change(&folder, "CREATE TABLE aside AS SELECT * FROM audit_roots;").await;
    for user in ["a", "b"] {
        folder.bind(user, "echo://item/one");
    }
    assert_eq!(segments(&folder).len(), 1, "no command begins a segment");
    folder.run(&VERIFY).ok();
    change(&folder, "UPDATE audit_roots SET root = (SELECT root FROM aside);").await;
    for user in ["c", "d"] {
        let verified = folder.run(&VERIFY).failed(8).json();
        assert_eq!(verified["findings"][0]["problem"], "root_older", "{verified:#}");
        folder.bind(user, "echo://item/one");
    }
}

#[test]
fn each_call_names_the_component_that_served_it_and_each_change_of_the_component_is_recorded() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let entry = folder.bind("somebody", "echo://item/one");
    let list = |arguments: &[&str]| {
        let all = [&["audit", "list", "--order", "oldest", "--json"], arguments].concat();
        folder.run(&all).ok().json()["records"].as_array().unwrap().clone()
    };
    let digest = || folder.run(&["provider", "list", "--json"]).ok().json()[0]["digest"].as_str().unwrap().to_owned();
    let (former, changes) = (digest(), ["--operation", "component_changed"]);
    folder.run(&["resolve", &entry]).ok();
    assert_eq!(list(&["--operation", "resolve"])[0]["component"], former[..12]);
    assert_eq!(list(&["--operation", "connect"])[1]["component"], former[..12]);
    assert!(list(&changes).is_empty(), "it is the first one");

    // The same component with one more custom section.
    let file = std::fs::read_dir(folder.providers()).unwrap().next().unwrap().unwrap();
    let mut bytes = std::fs::read(file.path()).unwrap();
    bytes.extend_from_slice(b"\x00\x05\x04note");
    std::fs::write(file.path(), bytes).unwrap();
    let new = digest();
    assert_ne!(new, former);
    for _ in 0..2 {
        folder.run(&["resolve", &entry]).ok();
    }
    let [change] = &list(&changes)[..] else { panic!("it is recorded once") };
    assert_eq!((&change["component"], &change["former_component"]), (&json!(new), &json!(former)));
    assert_eq!((&change["provider_type"], &change["file"]), (&json!("echo"), &json!(file.file_name().to_str())));
    assert_eq!(change["actor"]["type"], "system");
    let served: Vec<_> = list(&["--operation", "resolve"]).iter().map(|record| record["component"].clone()).collect();
    assert_eq!(served, [&former[..12], &new[..12], &new[..12]]);
    let text = folder.run(&["audit", "list"]).ok().stdout;
    assert!(text.contains(&format!("{} -> {}", &former[..12], &new[..12])), "{text}");
}

#[test]
fn a_log_is_verified_in_a_folder_in_which_nothing_can_be_written() {
    let folder = Folder::connected(&["fixtures/echo"]);
    // In its place SQLite would make a file to be able to write.
    std::fs::create_dir(folder.path().join("keyway.db-shm")).unwrap();
    let database = std::fs::read(folder.path().join("keyway.db")).unwrap();
    let verified = folder.run(&VERIFY).ok().json();
    assert_eq!((&verified["good"], &verified["records"]), (&true.into(), &4.into()));
    folder.run(&["audit", "list"]).ok();
    folder.run(&["audit", "root"]).ok();
    assert_eq!(std::fs::read(folder.path().join("keyway.db")).unwrap(), database);
}

async fn audit(api: &Api, key: &str, query: &str) -> Answer {
    api.send("GET", &format!("/audit{query}"), &[("cc-key", key), ("x-request-id", "of-the-reader")], "").await
}

async fn admin(api: &Api) -> String {
    let created = api.host.broker().api_keys().create(&api.access, "auditor", Scope::Admin).await.unwrap();
    created.api_key.expose_secret().to_owned()
}

#[tokio::test]
async fn the_log_is_for_keys_with_admin_scope_and_shows_requests_by_their_id() {
    let (api, connection) = Api::echo().await;
    let path = format!("/secret-providers/{}/items", connection.id);
    api.send("GET", &path, &[("cc-key", &api.key), ("x-request-id", "of-the-listing")], "").await.ok(200);
    let ordinary = api.key.clone();
    for query in ["", "?limit=nonsense"] {
        audit(&api, &ordinary, query).await.error(403, "FORBIDDEN");
    }
    api.send("GET", "/audit", &[], "").await.error(401, "UNAUTHENTICATED");
    api.send("POST", "/audit", &[("cc-key", &ordinary)], "").await.error(405, "METHOD_NOT_ALLOWED");

    let admin = admin(&api).await;
    audit(&api, &admin, "?operation=sudo").await.error(400, "VALIDATION_FAILED");
    audit(&api, &admin, "?cursor=1-5").await.error(400, "VALIDATION_FAILED");
    let page = audit(&api, &admin, "?operation=list_items").await.ok(200);
    let listing = &page["records"][0];
    assert_eq!((&listing["request_id"], &listing["outcome"]), (&"of-the-listing".into(), &"ok".into()));
    assert_eq!((&listing["actor"]["type"], &listing["count"]), (&"api_key".into(), &3.into()));
    assert_eq!(listing["connection"], connection.id.to_string());
    let refused = audit(&api, &admin, "?outcome=forbidden&order=oldest").await.ok(200);
    assert_eq!(refused["records"].as_array().unwrap().len(), 2);
    assert_eq!(refused["records"][0]["request_id"], "of-the-reader");

    // Paging returns the same as one large page.
    let all = audit(&api, &admin, "?order=oldest&until=2100-01-01T00:00:00Z").await.ok(200);
    let mut paged: Vec<Value> = Vec::new();
    let mut query = "?order=oldest&limit=3".to_owned();
    while paged.len() < all["records"].as_array().unwrap().len() {
        let page = audit(&api, &admin, &query).await.ok(200);
        paged.extend(page["records"].as_array().unwrap().iter().cloned());
        query = format!("?order=oldest&limit=3&cursor={}", page["next"].as_str().unwrap());
    }
    assert_eq!(paged[..all["records"].as_array().unwrap().len()], all["records"].as_array().unwrap()[..]);
    assert_without(
        &audit(&api, &admin, "?limit=1000").await.text,
        &[ECHO_TOKEN, &api.key, &admin, &api.encryption_key],
    );
}

#[tokio::test]
async fn a_refusal_names_the_scope_that_the_key_lacks() {
    let (api, connection) = Api::echo().await;
    api.request("POST", "/vault/resolve", &api.key, &json!({})).await.error(403, "FORBIDDEN");
    api.request("DELETE", &format!("/secret-providers/{}", connection.id), &api.key, &Value::Null)
        .await
        .error(403, "FORBIDDEN");
    let resolver = api.key_with(Scope::Resolve).await;
    api.request("GET", "/vault", &resolver, &Value::Null).await.error(403, "FORBIDDEN");

    let page = audit(&api, &admin(&api).await, "?outcome=forbidden&order=oldest").await.ok(200);
    let refused: Vec<_> = page["records"].as_array().unwrap().iter().map(|r| (&r["operation"], &r["scope"])).collect();
    let expected = [("authorize", "resolve"), ("authorize", "admin"), ("authorize", "api")];
    let expected = expected.map(|(operation, scope)| (json!(operation), json!(scope)));
    assert_eq!(refused, expected.each_ref().map(|(operation, scope)| (operation, scope)));
    let text = api.folder.run(&["audit", "list", "--operation", "authorize"]).ok().stdout;
    assert!(text.contains("needs the scope resolve") && text.contains("needs the scope admin"), "{text}");
}

#[tokio::test]
async fn the_log_of_a_rotation_has_its_steps_and_nothing_else() {
    let (api, _) = Api::echo().await;
    let pair = ["--user", "acme-prod", "--domain", "https://acme.com"];
    let create = [&["entry", "create", "--password-file", "-"], &pair[..]].concat();
    api.folder.run_with(&create, "hunter2-hunter2").ok();
    let rotate = || {
        let begun = api.folder.run(&[&["rotation", "begin", "--json"], &pair[..]].concat()).ok().json();
        let id = begun["id"].as_str().unwrap().to_owned();
        api.folder.run(&["rotation", "commit", &id]).ok();
        id
    };
    let (first, _) = (rotate(), rotate());

    let admin = admin(&api).await;
    let page = audit(&api, &admin, &format!("?rotation={first}&order=oldest")).await.ok(200);
    let steps: Vec<_> = page["records"].as_array().unwrap().iter().map(|record| &record["operation"]).collect();
    assert_eq!(steps, ["begin_rotation", "begin_rotation", "commit_rotation", "commit_rotation"]);
    assert!(page["records"].as_array().unwrap().iter().all(|record| record["rotation"] == *first));
    let list = ["audit", "list", "--rotation", &first, "--order", "oldest", "--json"];
    let listed = api.folder.run(&list).ok().json()["records"].clone();
    let times = |records: &Value| -> Vec<_> {
        records.as_array().unwrap().iter().map(|record| (record["at"].clone(), record["operation"].clone())).collect()
    };
    assert_eq!(times(&listed), times(&page["records"]));
    // A workspace does not see how many records there are.
    // The commands have a series of their own beside the server.
    assert_eq!((&listed[0]["series"], &page["records"][0]["series"]), (&2.into(), &0.into()));
    assert_ne!(listed[0]["number"], page["records"][0]["number"]);
    assert_eq!(page["records"][1]["begun"], page["records"][0]["number"]);
    audit(&api, &admin, "?rotation=first").await.error(400, "VALIDATION_FAILED");
    api.folder.run(&["audit", "list", "--rotation", "first"]).failed(2);
}

#[tokio::test]
async fn another_workspace_is_not_in_the_log() {
    let (api, _) = Api::echo().await;
    let other = api.host.broker().workspaces().create("Other", keyway::Scopes::ALL).await.unwrap();
    let page = audit(&api, other.api_key.expose_secret(), "").await.ok(200);
    let workspaces: Vec<_> =
        page["records"].as_array().unwrap().iter().map(|record| record["workspace"].as_str().unwrap()).collect();
    assert_eq!(workspaces, vec![other.workspace.id.to_string(); 2]);
}

#[tokio::test]
async fn without_its_log_the_server_releases_nothing_says_so_and_goes_on_when_it_can() {
    let (api, connection) = Api::echo().await;
    let path = format!("/secret-providers/{}/items", connection.id);
    let bound = json!({
        "permissioned_user_id": "acme-prod", "domain": "https://acme.com",
        "secret_provider_id": connection.id, "secret_ref": "echo://item/one",
    });
    let id = api.post("/vault", &bound).await.ok(201)["id"].clone();
    let resolver = api.key_with(Scope::Resolve).await;
    let resolve = || async { api.request("POST", "/vault/resolve", &resolver, &json!({ "id": id })).await };
    let code = "/vault/tfa-code?permissioned_user_id=acme-prod&domain=https://acme.com";
    resolve().await.ok(200);
    let folder = api.folder.path().join("audit");
    std::fs::rename(&folder, api.folder.path().join("moved")).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    for _ in 0..2 {
        // Including cached values.
        for refused in [api.get(&path).await, resolve().await, api.get(code).await] {
            let message = refused.error(503, "AUDIT_UNAVAILABLE");
            assert!(message.starts_with("the audit log cannot be written"), "{message}");
            assert_eq!(refused.headers["retry-after"], "1");
            assert_without(&refused.text, &["echo://", "user-one", "password-one"]);
        }
    }
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(api.folder.path().join("moved"), &folder).unwrap();
    api.get(&path).await.ok(200);
    assert_eq!(resolve().await.ok(200)["password"]["value"], "password-one");
    assert_eq!(api.get(code).await.ok(200)["code"].as_str().unwrap().len(), 6);
    assert!(api.host.broker().audit().verify().await.unwrap().is_good());
}

#[tokio::test]
async fn the_command_line_is_audited_beside_a_server_that_runs() {
    let (api, _) = Api::echo().await;
    for name in ["one", "two"] {
        api.folder.run(&["workspace", "create", name]).ok();
    }
    let verified = api.folder.run(&VERIFY).ok().json();
    assert_eq!((&verified["good"], verified["heads"].as_array().unwrap().len()), (&true.into(), 2));
    assert_eq!(verified["heads"][1]["number"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_a_pipe_is_left_out_and_told_and_the_others_are_listed() {
    let (api, _) = Api::echo().await;
    let key = api.key_with(Scope::Admin).await;
    let list = async || api.request("GET", "/audit", &key, &Value::Null).await.ok(200);
    let before = list().await;
    assert!(before.get("segments_left_out").is_none() && !before["records"].as_array().unwrap().is_empty());
    let pipe = api.folder.path().join("audit/00007-00000001.jsonl");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let listed = list().await;
    assert_eq!((&listed["segments_left_out"], listed["records"].as_array().unwrap().is_empty()), (&json!(1), false));
    let all = api.folder.run(&["audit", "list"]).ok();
    assert!(all.stdout.contains("00007-00000001.jsonl cannot be read and was left out"), "{all:#?}");
    let json = api.folder.run(&["audit", "list", "--json"]).ok().json();
    assert_eq!(json["left_out"], json!(["00007-00000001.jsonl"]));
}
