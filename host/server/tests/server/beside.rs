//! Commands beside a `keyway serve`: the running server follows their changes within moments.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::serve::Process;
use crate::support::{Answer, Folder, send};

/// The server asks the database once a second whether another process has changed anything.
const MOMENTS: Duration = Duration::from_secs(5);

struct World {
    folder: Folder,
    server: Process,
    key_id: String,
    key: String,
    entry: String,
}

impl World {
    /// A server that answers an entry's password from its cache.
    async fn new() -> Self {
        let folder = Folder::connected(&["fixtures/echo"]);
        let entry = folder.bind("acme-prod", "echo://item/one");
        let created = folder.run(&["key", "create", "resolver", "--scopes", "resolve", "--json"]).ok().json();
        let text = |name: &str| created[name].as_str().unwrap().to_owned();
        let (key_id, key) = (text("id"), text("api_key"));
        let world = Self { server: Process::start(&folder, &[]), folder, key_id, key, entry };
        for source in ["live", "cached", "cached"] {
            let answer = world.resolve().await;
            assert_eq!(password(&answer), ("password-one".into(), source.into()));
        }
        world
    }

    async fn resolve(&self) -> Answer {
        let body = json!({ "id": self.entry, "fields": ["password"] }).to_string();
        let headers = [("cc-key", &*self.key), ("content-type", "application/json")];
        send(&format!("{}/vault/resolve", self.server.url), "POST", &headers, body).await
    }

    /// Resolves until the answer reflects the change that a command has made.
    async fn until(&self, expected: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + MOMENTS;
        loop {
            let answer = self.resolve().await;
            if expected(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "the server still does not know: {answer:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn end(self) {
        assert_eq!(self.server.end(Signal::TERM).0, 0);
    }
}

/// The password and its source.
fn password(answer: &Answer) -> (String, String) {
    let password = &answer.ok(200)["password"];
    let text = |name: &str| password[name].as_str().unwrap().to_owned();
    (text("value"), text("source"))
}

fn is_live(answer: &Answer) -> bool {
    password(answer).1 == "live"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_asks_the_secret_manager_again_when_a_command_has_cleared_the_cache() {
    let world = World::new().await;
    world.folder.run(&["connection", "clear-cache"]).ok();
    world.until(is_live).await;
    assert!(!is_live(&world.resolve().await), "and caches again");
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_caches_nothing_any_more_when_a_command_has_switched_it_off() {
    let world = World::new().await;
    world.folder.run(&["connection", "update", "--cache-ttl", "off"]).ok();
    world.until(is_live).await;
    for _ in 0..3 {
        assert!(is_live(&world.resolve().await));
    }
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_refuses_a_key_that_a_command_has_revoked() {
    let world = World::new().await;
    world.folder.run(&["key", "revoke", &world.key_id]).ok();
    let refused = world.until(|answer| answer.status != 200).await;
    refused.error(401, "UNAUTHENTICATED");
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gives_the_other_items_value_when_a_command_has_bound_the_entry_to_it() {
    let world = World::new().await;
    world.folder.run(&["entry", "update", &world.entry, "--bind", "echo://item/other"]).ok();
    let other = world.until(|answer| password(answer).0 != "password-one").await;
    assert_eq!(password(&other), ("password-other".into(), "live".into()));
    world.end();
}
