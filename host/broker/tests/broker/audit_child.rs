//! The audit log of a killed process, and of a process whose disk is full. Each child is this test
//! program itself, with its task in its environment.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use keyway::audit::{AuditError, AuditQuery, Operation, Order, SegmentOptions};
use keyway::keyway_runtime::{CodeCacheKey, Fields, Runtime, Settings};
use keyway::{
    Access, Broker, BrokerError, EntryContent, EntryId, MasterKey, NewConnection, ResolveRequest, SqliteStorage,
    WorkspaceId,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use uuid::Uuid;

use crate::support::{FIXTURE_TOKEN, MASTER_KEY, compiled, component};

const FOLDER: &str = "KEYWAY_TEST_AUDIT_FOLDER";
const ACCESS: &str = "KEYWAY_TEST_AUDIT_WORKSPACE_AND_ENTRY";
const CALLERS: usize = 8;

async fn open(folder: &Path) -> Broker {
    let runtime = Runtime::builder().code_cache(compiled(), CodeCacheKey::new([1; 32])).build().unwrap();
    let provider = runtime.load(&component("fixtures/echo")).await.unwrap();
    let storage = SqliteStorage::open(folder.join("keyway.db")).await.unwrap();
    // Small segments, so that some kills happen at the end of one.
    let audit = SegmentOptions::new(folder.join("audit")).segment_bytes(128 << 10);
    let builder = Broker::builder(runtime, storage, MasterKey::from_hex(MASTER_KEY).unwrap());
    builder.provider(provider).audit(audit).open().await.unwrap()
}

/// A folder with a workspace and an entry, and what a child needs to know about them.
async fn prepared() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path()).await;
    let workspace = broker.workspaces().create("Acme", keyway::Scopes::ALL).await.unwrap().workspace.id;
    let access = Access::operator(workspace, "tests");
    let new = NewConnection::new("echo", "echo", Settings::new().with("token", FIXTURE_TOKEN));
    let connection = broker.connections().create(&access, new).await.unwrap();
    let new = EntryContent::bound("user", "https://acme.com", connection.id, "echo://item/one");
    let entry = broker.entries().create(&access, new).await.unwrap();
    broker.close().await;
    (folder, format!("{workspace} {}", entry.id))
}

/// Starts a child. A write beyond the file size limit is then an error instead of a signal that
/// kills it.
fn start(child: &str, folder: &Path, access: &str) -> Child {
    let test = format!("audit_child::{child}");
    Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([&test, "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(ACCESS, access)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The task of a child.
fn told() -> Option<(PathBuf, Access, EntryId)> {
    let folder = std::env::var_os(FOLDER)?;
    let access = std::env::var(ACCESS).unwrap();
    let (workspace, entry) = access.split_once(' ').unwrap();
    let workspace: WorkspaceId = workspace.parse().unwrap();
    Some((folder.into(), Access::operator(workspace, "child"), entry.parse().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "is started by the test below"]
async fn resolves_until_it_is_killed() {
    let Some((folder, access, entry)) = told() else { return };
    let broker = Arc::new(open(&folder).await);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (broker, access) = (broker.clone(), access.clone());
        callers.spawn(async move {
            loop {
                let id = Uuid::new_v4();
                let request = ResolveRequest::new(entry).fields(Fields::CREDENTIALS);
                broker.resolve(&access.clone().for_request(id), request).await.unwrap();
                // One write for each line, so that lines are never torn.
                std::io::stdout().lock().write_all(format!("\nreleased {id}\n").as_bytes()).unwrap();
            }
        });
    }
    // Only a failure ends a caller.
    callers.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn every_release_before_a_kill_is_in_the_log_and_the_log_verifies() {
    let (folder, access) = prepared().await;
    let mut released = Vec::new();
    for lines in [1, 40, 300, 1_000] {
        let mut child = start("resolves_until_it_is_killed", folder.path(), &access);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        let mut seen = 0;
        while seen < lines {
            let from = text.len();
            assert!(output.read_line(&mut text).unwrap() > 0, "the child ended before it was killed: {text}");
            seen += usize::from(text[from..].starts_with("released "));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        output.read_to_string(&mut text).unwrap();
        let whole = &text[..=text.rfind('\n').unwrap()];
        released.extend(whole.lines().filter_map(|line| line.strip_prefix("released ")).map(str::to_owned));
    }
    let broker = open(folder.path()).await;
    let verified = broker.audit().verify().await.unwrap();
    assert!(verified.is_good(), "{verified:#?}");
    let recorded = request_ids(&broker).await;
    for id in &released {
        assert!(recorded.contains(id), "a release was acknowledged and is not in the log");
    }
    // Few records lack their release: at most one for each caller and kill.
    assert!(recorded.len() <= released.len() + 4 * CALLERS);
}

async fn request_ids(broker: &Broker) -> std::collections::HashSet<String> {
    let mut query = AuditQuery::default();
    query.order = Order::Oldest;
    query.operation = Some(Operation::Resolve);
    query.limit = Some(1_000);
    let mut ids = std::collections::HashSet::new();
    loop {
        let page = broker.audit().records_of_all(&query).await.unwrap();
        ids.extend(page.records.into_iter().filter_map(|record| record.request_id));
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => return ids,
        }
    }
}

#[tokio::test]
#[ignore = "is started by the test below"]
async fn fills_its_disk() {
    let Some((folder, access, entry)) = told() else { return };
    let broker = open(&folder).await;
    let resolve = async || broker.resolve(&access, ResolveRequest::new(entry).fields(Fields::CREDENTIALS)).await;
    resolve().await.unwrap();
    // No file may grow far beyond the segment's end. The database is already larger, but only the
    // log writes in the meantime.
    let segment = folder.join("audit/00001-00000001.jsonl");
    let before = getrlimit(Resource::Fsize);
    let full = std::fs::metadata(&segment).unwrap().len() + 1_500;
    setrlimit(Resource::Fsize, Rlimit { current: Some(full), maximum: before.maximum }).unwrap();
    let mut released = 0;
    let error = loop {
        match resolve().await {
            Ok(_) => released += 1,
            Err(error) => break error,
        }
        assert!(released < 10);
    };
    assert!(matches!(error, BrokerError::Audit(AuditError::Unwritable(_))), "{error}");
    assert!(std::fs::metadata(&segment).unwrap().len() == full, "the last record is there in part");
    // The failure lasts while the disk is full, and ends with it.
    assert!(resolve().await.is_err());
    setrlimit(Resource::Fsize, before).unwrap();
    resolve().await.unwrap();
    broker.close().await;
    println!("\nreleased {}", released + 2);
}

#[tokio::test]
async fn a_full_disk_releases_nothing_and_leaves_no_half_record_behind() {
    let (folder, access) = prepared().await;
    let mut child = start("fills_its_disk", folder.path(), &access);
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    let released: usize = text.lines().find_map(|line| line.strip_prefix("released ")).unwrap().parse().unwrap();
    let broker = open(folder.path()).await;
    let verified = broker.audit().verify().await.unwrap();
    assert!(verified.is_good() && verified.notes.is_empty(), "{verified:#?}");
    let mut query = AuditQuery::default();
    query.operation = Some(Operation::Resolve);
    assert_eq!(broker.audit().records_of_all(&query).await.unwrap().records.len(), released);
}
