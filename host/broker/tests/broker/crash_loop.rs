//! A process that resolves at every start and is killed, over and over: its cost in requests to the
//! secret manager.
//!
//! The process is this test program itself, in a role that its environment sets.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use jiff::Timestamp;
use keyway::budgets::{BudgetOptions, BudgetScope, NotCalled, RateLimits, RequestKind};
use keyway::clock::ManualClock;
use keyway::entries::VaultEntry;
use keyway::keyway_runtime::egress::EgressPolicy;
use keyway::keyway_runtime::{CodeCacheKey, Fields, Runtime};
use keyway::{Access, Broker, BrokerError, CacheTtl, EntryId, MasterKey, ResolveRequest, SqliteStorage, WorkspaceId};
use keyway_emulator_onepassword::{Fault, FaultRule};
use serde::{Deserialize, Serialize};

use crate::support::{MASTER_KEY, World, compiled, component};

const JOB: &str = "KEYWAY_TEST_CRASH_LOOP";
const STARTS: u32 = 20;

/// What the process needs to know.
#[derive(Serialize, Deserialize)]
struct Job {
    database: std::path::PathBuf,
    connect_to: String,
    workspace: WorkspaceId,
    entry: EntryId,
    reads: u32,
    now: Timestamp,
}

fn budgets(reads: u32) -> BudgetOptions {
    const HOUR: std::time::Duration = std::time::Duration::from_secs(3_600);
    let limits = RateLimits::UNLIMITED
        .limit(reads, HOUR, RequestKind::Read, BudgetScope::Credential)
        .limit(100, HOUR, RequestKind::Write, BudgetScope::Credential)
        .limit(5_000, 24 * HOUR, RequestKind::Any, BudgetScope::Account);
    BudgetOptions::default().limits("1password", limits)
}

/// The process: it resolves with a cold cache, prints the outcome, and waits to be killed. In an
/// ordinary test run it does nothing.
#[tokio::test]
async fn a_process_that_resolves_and_waits() {
    let Ok(job) = std::env::var(JOB) else { return };
    let job: Job = serde_json::from_str(&job).unwrap();
    let policy = EgressPolicy::default().with_connect_to(job.connect_to.parse().unwrap());
    let runtime = Runtime::builder().egress(policy).code_cache(compiled(), CodeCacheKey::new([1; 32])).build().unwrap();
    let provider = runtime.load(&component("onepassword")).await.unwrap();
    let storage = SqliteStorage::open(&job.database).await.unwrap();
    let broker = Broker::builder(runtime, storage, MasterKey::from_hex(MASTER_KEY).unwrap())
        .provider(provider)
        .clock(Arc::new(ManualClock::new(job.now)))
        .budgets(budgets(job.reads))
        .audit(keyway::Audit::in_memory())
        .open()
        .await
        .unwrap();
    println!("\nstarted");
    let access = Access::operator(job.workspace, "tests");
    let request = ResolveRequest::new(job.entry).fields(Fields::CREDENTIALS);
    match broker.resolve(&access, request).await {
        Ok(_) => println!("\nresolved"),
        Err(BrokerError::NotCalled(NotCalled::BudgetSpent { .. })) => println!("\nspent"),
        Err(BrokerError::NotCalled(_)) => println!("\npaused"),
        Err(error) => println!("\nfailed: {error}"),
    }
    std::future::pending::<()>().await;
}

/// Starts the process and kills it at that line of its output. Returns the lines up to that line.
fn start_and_kill(job: &Job, at: fn(&str) -> bool) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash_loop::a_process_that_resolves_and_waits", "--nocapture", "--test-threads=1"])
        .env(JOB, serde_json::to_string(job).unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let last =
        lines.map(Result::unwrap).find(|line| at(line)).unwrap_or_else(|| panic!("it ended before it was killed"));
    child.kill().unwrap();
    child.wait().unwrap();
    last
}

fn outcome(line: &str) -> bool {
    ["resolved", "spent", "paused", "failed"].iter().any(|word| line.starts_with(word))
}

async fn world(reads: u32) -> (World, VaultEntry, Job) {
    let world = World::with_budgets(budgets(reads)).await;
    let mut new = world.new_connection("automation");
    new.cache_ttl = CacheTtl::OFF;
    let connection = world.broker.connections().create(&world.access, new).await.unwrap();
    let entry = world.bind(&connection, "Northwind Supplier Portal").await;
    world.emulator.reset_calls();
    let job = Job {
        database: world.folder.path().join("keyway.db"),
        connect_to: format!("{}={}", world.emulator.host(), world.emulator.url()),
        workspace: world.access.workspace(),
        entry: entry.id,
        reads,
        now: keyway::clock::Clock::now(&*world.clock).timestamp(),
    };
    (world, entry, job)
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_starts_cost_no_more_than_the_budget_wherever_the_process_is_killed() {
    const READS: u32 = 60;
    let (world, _, job) = world(READS).await;
    let mut ends = Vec::new();
    for number in 0..STARTS {
        // Every third process is killed in the middle, as soon as it has begun.
        let at = if number % 3 == 2 { |line: &str| line == "started" } else { outcome };
        ends.push(start_and_kill(&job, at));
    }
    let calls = world.emulator.calls().total;
    // Connecting cost six.
    assert!(calls <= u64::from(READS) - 6, "{calls}: {ends:?}");
    assert!(ends.iter().filter(|end| *end == "resolved").count() >= 3, "{ends:?}");
    assert_eq!(ends.iter().rev().find(|end| *end != "started").unwrap(), "spent", "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_outage_the_breaker_opens_over_the_starts_of_a_process_that_dies_each_time() {
    let (world, _, job) = world(1_000).await;
    world.emulator.fault(FaultRule::next(Fault::status(503)).always());
    let ends: Vec<_> = (0..STARTS).map(|_| start_and_kill(&job, outcome)).collect();
    assert_eq!(world.emulator.calls().total, 5, "{ends:?}");
    assert_eq!(ends.iter().filter(|end| *end == "paused").count(), STARTS as usize - 4, "{ends:?}");
}
