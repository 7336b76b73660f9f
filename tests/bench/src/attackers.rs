//! Who attacks: strangers without a key, and a workspace with a valid one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use keyway::entries::AttributeKind;
use keyway::{Access, CacheTtl, EntryContent, EntryId, NewConnection, Scopes};
use keyway_e2e::Lab;
use keyway_emulator_onepassword::{NewLogin, WrongToken};
use keyway_runtime::Settings;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::attack::{Deed, Group};
use crate::sandbox::VAULT;
use crate::server::{Client, Data, request, resolve_live};

/// The connections of the hostile workspace to its secret manager, and the items of each. Together
/// more calls than a workspace has turns (128), within what a connection may call at once (64).
const CONNECTIONS: usize = 4;
const ITEMS: usize = 64;

/// Its largest entries, and the bytes in them: nearly the 2 MiB that an entry may have.
const LARGE: usize = 8;
const LARGE_BYTES: usize = 2_000_000;

const DOMAIN: &str = "https://example.com";

/// The pauses: of a few clients, of many, and of those that only keep a connection open.
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(20);

/// Clients without a key, with this many sockets: silent, in the middle of a head, or guessing.
pub(crate) fn strangers(sockets: usize) -> Vec<Arc<Group>> {
    let guess = request(&"sk_guessed".into(), "GET", "/vault", "");
    let group = |name, deed| Arc::new(Group { name, clients: sockets / 3, pause: LONG, deed });
    vec![
        group("silent", Deed::Stall(Vec::new())),
        group("half a head", Deed::Stall(b"GET /vault HTTP/1.1\r\nhost: loc".into())),
        group("invalid keys", Deed::Ask(vec![guess])),
    ]
}

/// A workspace whose clients have a key with all scopes.
pub(crate) struct Hostile {
    key: SecretString,
    /// Entries whose values are always live, by connection.
    live: Vec<Vec<EntryId>>,
    /// Tokens that cannot log in.
    wrong_tokens: Vec<String>,
}

impl Hostile {
    /// Creates it beside the measured workspace, with a token of its own.
    pub(crate) async fn create(lab: &Lab, data: &Data) -> Result<Self> {
        let created = data.broker.workspaces().create("Hostile", Scopes::ALL).await?;
        let access = Access::operator(created.workspace.id, "benchmark");
        let (connections, entries) = (data.broker.connections(), data.broker.entries());
        let token = lab.emulator.account("auditor")?.token;
        let mut live = Vec::new();
        for number in 0..CONNECTIONS {
            let settings = Settings::new().with("token", token.as_str());
            let new = NewConnection::new(format!("Slow {number}"), "1password", settings).cache_ttl(CacheTtl::OFF);
            let connection = connections.create(&access, new).await?.id;
            let mut of_connection = Vec::new();
            for item in 0..ITEMS {
                let title = format!("Slow {number}-{item}");
                let otpauth = Some("otpauth://totp/Slow?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ".to_owned());
                let login = NewLogin { title: title.clone(), otpauth, ..NewLogin::default() };
                let reference = lab.emulator.add_login(VAULT, &login)?.reference;
                let new = EntryContent::bound(title, DOMAIN, connection, reference);
                of_connection.push(entries.create(&access, new).await?.id);
            }
            live.push(of_connection);
        }
        for number in 0..LARGE {
            let mut new = EntryContent::new(large(number), DOMAIN);
            new.attributes.set("cookies", AttributeKind::BrowserState, &cookies())?;
            entries.create(&access, new).await?;
        }
        let wrong = [WrongToken::SrpX, WrongToken::Account, WrongToken::SecretKey];
        let wrong = wrong.map(|wrong| anyhow::Ok(lab.emulator.wrong_token("newcomer", wrong)?.expose().to_owned()));
        let wrong_tokens = wrong.into_iter().collect::<Result<_>>()?;
        Ok(Self { key: created.api_key, live, wrong_tokens })
    }

    /// Logs in to the secret manager while it is still fast.
    pub(crate) async fn log_in(&self, address: &str) -> Result<()> {
        let mut client = Client::connect(address).await?;
        for entry in self.live.iter().filter_map(|entries| entries.first()) {
            client.expect(&resolve_live(&self.key, *entry)).await.context("a live resolve of the hostile workspace")?;
        }
        Ok(())
    }

    /// Its clients. `neighbour` is the key of the measured workspace: its first characters are no
    /// secret, and guesses that begin with them are about that workspace.
    pub(crate) fn groups(&self, neighbour: &SecretString) -> Vec<Arc<Group>> {
        let ask = |method: &str, path: &str, body: &str| request(&self.key, method, path, body);
        let live = self.live.iter().flatten().map(|entry| resolve_live(&self.key, *entry)).collect();
        let body = " ".repeat(100);
        let mut head = ask("POST", "/vault", &body);
        head.truncate(head.len() - body.len());
        let large = (0..LARGE).map(|number| {
            let body = format!(
                r#"{{"permissioned_user_id":"{}","domain":"{DOMAIN}","cookies":{}}}"#,
                large(number),
                cookies()
            );
            ask("PUT", "/vault", &body)
        });
        let checks = self.wrong_tokens.iter().map(|token| {
            let new = json!({"name": "Wrong", "provider_type": "1password", "settings": {"token": token}});
            ask("POST", "/secret-providers", &new.to_string())
        });
        let guesses = [&self.key, neighbour].map(|key| request(&guess(key), "GET", "/vault", ""));
        let audit =
            ["/audit?limit=1000", "/audit?limit=1000&operation=begin_rotation"].map(|path| ask("GET", path, ""));
        let group = |name, clients, pause, deed| Arc::new(Group { name, clients, pause, deed });
        // More bodies than a workspace has places for (512), and together with the strangers more
        // connections than the server has (4,096). The rest is nearly all that a workspace can get
        // of calls, places (512) and memory (128 MiB): with more, its own clients would keep each
        // other out.
        vec![
            group("live resolves", 400, SHORT, Deed::Ask(live)),
            group("bodies that never arrive", 1_100, LONG, Deed::Stall(head)),
            group("largest bodies", 8, SHORT, Deed::Ask(large.collect())),
            group("answers that are not read", 30, SHORT, Deed::Ignore(ask("GET", "/vault", ""))),
            group("checks that fail", 16, SHORT, Deed::Ask(checks.collect())),
            group("guesses of known keys", 32, SHORT, Deed::Ask(guesses.into())),
            group("idle connections", 3_000, IDLE, Deed::Ask(vec![ask("GET", "/secret-providers", "")])),
            group("audit queries", 8, SHORT, Deed::Ask(audit.into())),
        ]
    }
}

fn large(number: usize) -> String {
    format!("large-{number}")
}

fn cookies() -> String {
    format!(r#"[{{"value":"{}"}}]"#, "x".repeat(LARGE_BYTES))
}

/// A key with the lookup id of this one.
fn guess(key: &SecretString) -> SecretString {
    let known = key.expose_secret().get(..19).unwrap_or_default();
    format!("{known}{}", "a".repeat(48)).into()
}
