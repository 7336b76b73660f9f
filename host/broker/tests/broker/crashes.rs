//! The state after a process is killed: everything acknowledged is there, and nothing is half done.
//!
//! The process is this test program in another role, killed with SIGKILL at random points. The seed
//! is printed, and `KEYWAY_TEST_SEED` sets it. Everything that the process printed before the kill
//! counts as acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyway::connections::ConnectionChanges;
use keyway::entries::AttributeKind;
use keyway::keys::{ClientKey, KeyError};
use keyway::keyway_runtime::{CodeCacheKey, Runtime, Settings};
use keyway::rotations::{BeginRotation, NewPassword, RotationFilter, RotationState};
use keyway::{
    Access, Audit, Broker, BrokerError, EntryContent, EntryId, MasterKey, NewConnection, Scope, SqliteStorage, Thing,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::key_rotation::{database_in, decrypted, manual, manual_entries, password_of, terms_in};
use crate::support::{FIXTURE_TOKEN, MASTER_KEY, compiled, component};

const ROLE: &str = "KEYWAY_TEST_ROLE";
const FOLDER: &str = "KEYWAY_TEST_FOLDER";
const KEY: &str = "KEYWAY_TEST_MASTER_KEY";
const SEED: &str = "KEYWAY_TEST_SEED";
const NEW_KEY: &str = "KEYWAY_TEST_NEW_MASTER_KEY";

/// The alias that a killed process gives the entries that it changes.
const CHANGED: &str = "changed";

/// The new password of the open rotation.
const ROTATED: &str = "rotated-password-4711";

/// The rounds of each test, and how long new rounds may begin: the speed of the machine decides how
/// many run, not what they find.
const ROUNDS: u64 = 12;
const TIME: Duration = Duration::from_secs(20);

async fn open(folder: &Path, master_key: &str, with_provider: bool) -> Result<Broker, BrokerError> {
    let runtime = Runtime::builder().code_cache(compiled(), CodeCacheKey::new([1; 32])).build().unwrap();
    let storage = SqliteStorage::open(folder.join("keyway.db")).await?;
    let mut builder = Broker::builder(runtime.clone(), storage, MasterKey::from_hex(master_key)?)
        .audit(Audit::in_folder(folder.join("audit")));
    if with_provider {
        builder = builder.provider(runtime.load(&component("fixtures/echo")).await.unwrap());
    }
    builder.open().await
}

async fn first_workspace(broker: &Broker) -> Access {
    Access::operator(broker.workspaces().list().await.unwrap()[0].id, "tests")
}

fn new_connection() -> NewConnection {
    NewConnection::new("Echo", "echo", Settings::new().with("token", FIXTURE_TOKEN))
}

/// Writes to the parent, bypassing the capture of test output.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "> {line}").and_then(|()| out.flush()).unwrap();
}

/// Not a test: the work of the killed process. Without a role it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "the other tests start it as a process of its own"]
async fn a_process_to_be_killed() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let folder = std::path::PathBuf::from(std::env::var(FOLDER).unwrap());
    let broker = open(&folder, &std::env::var(KEY).unwrap(), role == "write").await.unwrap();
    let access = first_workspace(&broker).await;
    match role.as_str() {
        "write" => write_for_ever(broker, access).await,
        "rotate-workspace-key" => {
            tell("begin");
            loop {
                let rotated = broker.keys().rotate_workspace(&access).await.unwrap();
                tell(&format!("rotated {} {}", rotated.term, rotated.encryption_key.expose_secret()));
            }
        }
        "rotate-master-key" => {
            let new = MasterKey::from_hex(&std::env::var(NEW_KEY).unwrap()).unwrap();
            tell("begin");
            broker.keys().rotate_master(new).await.unwrap();
            tell("rotated");
        }
        role => panic!("{role}"),
    }
}

async fn write_for_ever(broker: Broker, access: Access) {
    let key = broker.keys().encryption_key(&access).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        let (broker, access, key) = (broker.clone(), access.clone(), key.clone());
        tasks.spawn(async move {
            loop {
                let create = || broker.entries().create(&access, manual(&Uuid::new_v4().to_string(), &key));
                let entry = create().await.unwrap().id;
                tell(&format!("entry {entry}"));
                let change = |entry: &mut EntryContent| {
                    entry.alias = Some(CHANGED.into());
                    Ok(())
                };
                broker.entries().update(&access, &entry.into(), change).await.unwrap();
                tell(&format!("changed {entry}"));
                let entry = create().await.unwrap().id;
                broker.entries().delete(&access, &entry.into()).await.unwrap();
                tell(&format!("deleted {entry}"));
            }
        });
    }
    {
        let (broker, access) = (broker.clone(), access.clone());
        tasks.spawn(async move {
            loop {
                let connection = broker.connections().create(&access, new_connection()).await.unwrap();
                tell(&format!("connection {}", connection.id));
            }
        });
    }
    tasks.spawn(async move {
        loop {
            let key = broker.api_keys().create(&access, "key", Scope::Api).await.unwrap();
            tell(&format!("key {}", key.info.id));
            broker.api_keys().revoke(&access, key.info.id).await.unwrap();
            tell(&format!("revoked {}", key.info.id));
        }
    });
    // Each ends only by failing.
    tasks.join_next().await.unwrap().unwrap();
}

struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Process {
    fn start(role: &str, folder: &Path, keys: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "crashes::a_process_to_be_killed", "--ignored", "--nocapture"]);
        command.env(ROLE, role).env(FOLDER, folder).envs(keys.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that it prints; `None` when it has ended.
    fn next(&mut self) -> Option<String> {
        loop {
            let line = self.lines.next()?.unwrap();
            // The name of the test precedes the first line.
            if let Some((_, told)) = line.split_once("> ") {
                return Some(told.to_owned());
            }
        }
    }

    /// Kills it, and returns what it printed until then. (All lines are shorter than a pipe's
    /// atomic write, so no line is torn.)
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        let told = std::iter::from_fn(|| self.next()).collect();
        self.child.wait().unwrap();
        told
    }
}

/// A small random number generator, with a new seed in every run.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var(SEED).map_or_else(|_| Uuid::new_v4().as_u64_pair().0, |seed| seed.parse().unwrap());
        eprintln!("{SEED}={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

async fn the_file_is_sound(folder: &Path) {
    let database = database_in(folder).await;
    let check: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&database).await.unwrap();
    assert_eq!(check, ["ok"]);
    assert!(sqlx::query("PRAGMA foreign_key_check").fetch_all(&database).await.unwrap().is_empty());
    database.close().await;
}

/// Every entry exists and opens, both for the broker and for a holder of the workspace's encryption
/// key. So does the password of the open rotation.
async fn everything_opens(broker: &Broker, access: &Access, count: usize) -> SecretString {
    let key = broker.keys().encryption_key(access).await.unwrap();
    let entries = manual_entries(broker, access).await;
    assert_eq!(entries.len(), count);
    for entry in &entries {
        assert_eq!(decrypted(entry, &key), Some(password_of(&entry.user)));
        assert_eq!(entry.attributes.get("cookies"), Some(&*cookies_of(&entry.user)));
    }
    let rotations = broker.rotations().list(access, &RotationFilter::default(), None).await.unwrap().rotations;
    assert_eq!(rotations.iter().map(|rotation| rotation.state).collect::<Vec<_>>(), [RotationState::Prepared]);
    let revealed = broker.rotations().reveal(access, rotations[0].id).await.unwrap();
    assert_eq!(revealed.expose_secret(), ROTATED);
    for connection in broker.connections().list(access).await.unwrap() {
        // It can open the settings.
        let changes = ConnectionChanges::default().name("Still there");
        broker.connections().update(access, connection.id, changes).await.unwrap();
    }
    key
}

/// The part of a session that only the database has.
fn cookies_of(user: &str) -> String {
    format!(r#"[{{"name":"s","value":"cookie of {user}"}}]"#)
}

/// A database with entries, a connection, and a prepared rotation of the first entry.
async fn filled(folder: &Path, entries: usize, workspaces: usize) -> Access {
    let broker = open(folder, MASTER_KEY, true).await.unwrap();
    let created = broker.workspaces().create("Acme", Scope::Api).await.unwrap();
    let access = Access::operator(created.workspace.id, "tests");
    for number in 0..entries {
        let user = format!("user-{number}");
        let mut new = manual(&user, &created.encryption_key);
        new.attributes.set("cookies", AttributeKind::BrowserState, &cookies_of(&user)).unwrap();
        let entry = broker.entries().create(&access, new).await.unwrap();
        if number == 0 {
            let password = ClientKey::from_hex(&created.encryption_key).unwrap().encrypt(&ROTATED.into()).unwrap();
            let begin = BeginRotation::new(entry.id).password(NewPassword::Encrypted(password));
            broker.rotations().begin(&access, begin).await.unwrap();
        }
    }
    broker.connections().create(&access, new_connection()).await.unwrap();
    for number in 1..workspaces {
        broker.workspaces().create(&format!("W{number}"), Scope::Api).await.unwrap();
    }
    access
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_has_acknowledged_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let access = filled(folder.path(), 0, 1).await;
    let (started, mut random, mut acknowledged) = (Instant::now(), Random::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut process = Process::start("write", folder.path(), &[(KEY, MASTER_KEY)]);
        for _ in 0..=random.below(60) {
            acknowledged.push(process.next().expect("it was not killed yet"));
        }
        std::thread::sleep(Duration::from_micros(random.below(3_000)));
        acknowledged.extend(process.kill());

        the_file_is_sound(folder.path()).await;
        let broker = open(folder.path(), MASTER_KEY, true).await.unwrap();
        let key = broker.keys().encryption_key(&access).await.unwrap();
        let connections = broker.connections().list(&access).await.unwrap();
        let keys = broker.api_keys().list(&access).await.unwrap();
        let audit = broker.audit().verify().await.unwrap();
        assert!(audit.is_good(), "{audit:?}");
        let key_of = |id: &str| keys.iter().find(|there| there.id.to_string() == id);
        let entry = async |id: &str| broker.entries().get(&access, &id.parse::<EntryId>().unwrap().into()).await;
        for told in &acknowledged {
            match told.split_once(' ').unwrap() {
                ("entry", id) => {
                    let entry = entry(id).await.unwrap();
                    assert_eq!(decrypted(&entry, &key), Some(password_of(&entry.user)));
                }
                ("changed", id) => assert_eq!(entry(id).await.unwrap().alias.as_deref(), Some(CHANGED), "{told}"),
                ("deleted", id) => {
                    let gone = entry(id).await.unwrap_err();
                    assert!(matches!(gone, BrokerError::NotFound(Thing::Entry)), "{told}: {gone}");
                }
                ("connection", id) => assert!(connections.iter().any(|there| there.id.to_string() == id), "{told}"),
                ("key", id) => assert!(key_of(id).is_some(), "{told}"),
                ("revoked", id) => assert!(key_of(id).unwrap().revoked_at.is_some(), "{told}"),
                _ => panic!("{told}"),
            }
        }
        if started.elapsed() > TIME {
            break;
        }
    }
    for kind in ["entry", "changed", "deleted", "connection", "key", "revoked"] {
        assert!(acknowledged.iter().any(|told| told.starts_with(kind)), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_a_workspaces_key_that_is_killed_leaves_everything_readable_and_is_finished_later() {
    const ENTRIES: usize = 600;
    let folder = tempfile::tempdir().unwrap();
    let access = filled(folder.path(), ENTRIES, 1).await;
    // The duration of a rotation here, so that a kill can hit the middle of one.
    let broker = open(folder.path(), MASTER_KEY, true).await.unwrap();
    let started = Instant::now();
    broker.keys().rotate_workspace(&access).await.unwrap();
    let duration = u64::try_from(started.elapsed().as_micros()).unwrap().max(1);
    drop(broker);

    let (started, mut random, mut cut_off) = (Instant::now(), Random::new(), 0);
    for round in 0..10 * ROUNDS {
        if (round >= ROUNDS || started.elapsed() > TIME) && cut_off > 0 {
            break;
        }
        let mut process = Process::start("rotate-workspace-key", folder.path(), &[(KEY, MASTER_KEY)]);
        assert_eq!(process.next().as_deref(), Some("begin"));
        std::thread::sleep(Duration::from_micros(random.below(2 * duration)));
        let told = process.kill();

        the_file_is_sound(folder.path()).await;
        let broker = open(folder.path(), MASTER_KEY, true).await.unwrap();
        let key = everything_opens(&broker, &access, ENTRIES).await;
        let unfinished = broker.keys().finish_rotations().await.unwrap();
        cut_off += unfinished;
        let after = everything_opens(&broker, &access, ENTRIES).await;
        assert_eq!(after.expose_secret(), key.expose_secret(), "finishing does not begin another rotation");
        let terms = terms_in(&database_in(folder.path()).await).await;
        assert_eq!(terms.len(), 1, "nothing is under an older key");
        if let Some(last) = told.last() {
            let (term, told) = last.strip_prefix("rotated ").unwrap().split_once(' ').unwrap();
            let term: u32 = term.parse().unwrap();
            // A key that was printed is current until the next one.
            assert!(terms[0] > term || terms[0] == term && told == key.expose_secret(), "{terms:?}, told {term}");
        }
        let keys: i64 = sqlx::query_scalar("SELECT count(*) FROM workspace_keys")
            .fetch_one(&database_in(folder.path()).await)
            .await
            .unwrap();
        assert_eq!(keys, 1, "which is gone");
    }
    assert!(cut_off > 0, "no rotation was killed in its middle");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_of_the_master_key_that_is_killed_leaves_the_old_or_the_new_one_in_force() {
    const ENTRIES: usize = 10;
    let folder = tempfile::tempdir().unwrap();
    let access = filled(folder.path(), ENTRIES, 40).await;
    let new_key = || MasterKey::generate().unwrap().to_hex().expose_secret().to_owned();
    // The duration of a replacement here, so that kills hit both before and after the moment at
    // which it takes effect.
    let broker = open(folder.path(), MASTER_KEY, true).await.unwrap();
    let mut current = new_key();
    let started = Instant::now();
    broker.keys().rotate_master(MasterKey::from_hex(&current).unwrap()).await.unwrap();
    let duration = u64::try_from(started.elapsed().as_micros()).unwrap().max(1);
    drop(broker);

    let (started, mut random) = (Instant::now(), Random::new());
    let (mut old_in_force, mut new_in_force) = (0, 0);
    for round in 0..10 * ROUNDS {
        if (round >= ROUNDS || started.elapsed() > TIME) && old_in_force > 0 && new_in_force > 0 {
            break;
        }
        let new = new_key();
        let keys = [(KEY, current.as_str()), (NEW_KEY, new.as_str())];
        let mut process = Process::start("rotate-master-key", folder.path(), &keys);
        assert_eq!(process.next().as_deref(), Some("begin"));
        std::thread::sleep(Duration::from_micros(random.below(2 * duration)));
        let told = process.kill();

        the_file_is_sound(folder.path()).await;
        let by_old = open(folder.path(), &current, true).await;
        let by_new = open(folder.path(), &new, true).await;
        let broker = match (by_old, by_new) {
            (Ok(broker), Err(BrokerError::Key(KeyError::WrongMasterKey { .. }))) => {
                assert!(told.is_empty(), "the old key opens the database after the new one was reported as current");
                old_in_force += 1;
                broker
            }
            (Err(BrokerError::Key(KeyError::ReplacedMasterKey { .. })), Ok(broker)) => {
                current = new;
                new_in_force += 1;
                broker
            }
            other => panic!("{other:?}"),
        };
        everything_opens(&broker, &access, ENTRIES).await;
        for workspace in broker.workspaces().list().await.unwrap() {
            broker.keys().encryption_key(&Access::operator(workspace.id, "tests")).await.unwrap();
        }
    }
    assert!(old_in_force > 0 && new_in_force > 0, "old: {old_in_force}, new: {new_in_force}");
}
