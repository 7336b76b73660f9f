//! What workspaces share: none of them gets so much that nothing is left for the others.

use std::time::{Duration, Instant};

use keyway::entries::VaultEntry;
use keyway::keyway_runtime::{Limits, Runtime};
use keyway::{Access, Audit, Broker, EntryContent, MasterKey, ResolveRequest, Scopes, SqliteStorage};
use keyway_runtime::CodeCacheKey;

use crate::support::{MASTER_KEY, compiled, component, new_fixture_connection};

/// A host that runs four calls at once, two for each connection.
async fn broker() -> Broker {
    let mut limits = Limits::default();
    (limits.concurrent_calls, limits.calls_per_connection) = (4, 2);
    limits.queue_time = Duration::from_secs(1);
    let runtime = Runtime::builder().limits(limits).code_cache(compiled(), CodeCacheKey::new([1; 32]));
    let runtime = runtime.build().unwrap();
    let provider = runtime.load(&component("fixtures/slow")).await.unwrap();
    let storage = SqliteStorage::in_memory().await.unwrap();
    let builder = Broker::builder(runtime, storage, MasterKey::from_hex(MASTER_KEY).unwrap()).provider(provider);
    builder.audit(Audit::in_memory()).open().await.unwrap()
}

async fn workspace(broker: &Broker) -> Access {
    let created = broker.workspaces().create("Acme", Scopes::ALL).await.unwrap();
    Access::operator(created.workspace.id, "tests")
}

/// An entry of a connection of its own; resolving it takes so many milliseconds.
async fn entry(broker: &Broker, access: &Access, user: &str, milliseconds: u32) -> VaultEntry {
    let mut new = new_fixture_connection("slow");
    new.name = format!("of {user}");
    let connection = broker.connections().create(access, new).await.unwrap();
    let reference = format!("slow://item/{milliseconds}");
    let entry = EntryContent::bound(user, "https://acme.com", connection.id, reference);
    broker.entries().create(access, entry).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_workspace_with_many_slow_connections_leaves_calls_to_the_others() {
    let broker = broker().await;
    let (busy, other) = (workspace(&broker).await, workspace(&broker).await);
    let mut entries = Vec::new();
    for number in 0..4 {
        entries.push(entry(&broker, &busy, &format!("user {number}"), 3_000).await);
    }
    let quick = entry(&broker, &other, "user", 1).await;
    let mut calls = Vec::new();
    for entry in entries {
        let (broker, busy) = (broker.clone(), busy.clone());
        calls.push(tokio::spawn(async move { broker.resolve(&busy, ResolveRequest::new(entry.id)).await.map(drop) }));
    }
    // Until they run.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    broker.resolve(&other, ResolveRequest::new(quick.id)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let mut refused = 0;
    for call in calls {
        if let Err(error) = call.await.unwrap() {
            assert!(error.to_string().contains("as many provider calls as it may (2)"), "{error}");
            refused += 1;
        }
    }
    assert_eq!(refused, 2, "alone it gets half of the calls");
}
