//! Reading vault entries that carry secrets in plain: cookies, browser storages, headers, a proxy's
//! address.

use std::sync::Arc;

use keyway::audit::AuditSource;
use keyway::entries::{AttributeKind, VaultEntry};
use keyway::{BrokerError, EntryContent};

use crate::audit::{Mood, Moody, records};
use crate::support::World;

async fn create(world: &World, user: &str, attributes: &[(&str, AttributeKind, &str)]) -> VaultEntry {
    let mut new = EntryContent::new(user, "https://acme.com");
    for (name, kind, json) in attributes {
        new.attributes.set(*name, *kind, json).unwrap();
    }
    world.broker.entries().create(&world.access, new).await.unwrap()
}

async fn one_plain_and_two_with_secrets(world: &World) -> [VaultEntry; 3] {
    use AttributeKind::{BrowserState, Plain, Secret};
    let plain =
        create(world, "plain", &[("user_agent", Plain, "\"Mozilla/5.0\""), ("persist_cookies", Plain, "true")]).await;
    let cookies = r#"[{"name": "session", "value": "hunter2"}]"#;
    let first =
        create(world, "first", &[("cookies", BrowserState, cookies), ("user_agent", Plain, "\"Mozilla/5.0\"")]).await;
    let headers = r#"[{"name": "authorization", "value": "hunter2"}]"#;
    [plain, first, create(world, "second", &[("cookies", BrowserState, cookies), ("headers", Secret, headers)]).await]
}

#[tokio::test]
async fn such_a_read_is_recorded_with_the_names_of_what_was_given_out_and_any_other_is_not() {
    let world = World::new().await;
    let [plain, _, second] = one_plain_and_two_with_secrets(&world).await;
    let before = records(&world).await.len();
    let get = async |entry: &VaultEntry| world.broker.entries().get(&world.access, &entry.id.into()).await.unwrap();
    get(&plain).await;
    assert_eq!(records(&world).await.len(), before);
    get(&second).await;
    world.broker.entries().list(&world.access, None).await.unwrap();
    world.broker.entries().update(&world.access, &second.id.into(), |_| Ok(())).await.unwrap();

    let records = records(&world).await.split_off(before);
    let [read, listed, begun, updated] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((&*read.operation, read.outcome.as_str()), ("get_entry", "ok"));
    assert_eq!((read.subject.entry, read.subject.source), (Some(second.id), Some(AuditSource::Entry)));
    assert_eq!(read.subject.fields, ["cookies", "headers"]);
    assert_eq!((&*listed.operation, listed.outcome.as_str()), ("list_entries", "ok"));
    assert_eq!((listed.subject.entry, listed.subject.count), (None, Some(2)));
    assert_eq!(listed.subject.fields, ["cookies", "headers"]);
    assert_eq!((&*begun.operation, begun.subject.fields.len()), ("update_entry", 0));
    assert_eq!(updated.subject.fields, ["cookies", "headers"], "its answer has what was there before");
    assert!(!format!("{records:?}").contains("hunter2"));
}

#[tokio::test]
async fn such_a_read_is_refused_while_it_cannot_be_recorded_and_any_other_is_answered() {
    let mut world = World::new().await;
    let [plain, first, second] = one_plain_and_two_with_secrets(&world).await;
    let last = create(&world, "last", &[]).await;
    let sink = Arc::new(Moody::default());
    world.restart_with(sink.clone(), |broker| broker).await;
    sink.set(Mood::Fails);
    let get = |entry: &VaultEntry| {
        let selector = entry.id.into();
        let (broker, access) = (&world.broker, &world.access);
        async move { broker.entries().get(access, &selector).await }
    };
    get(&plain).await.unwrap();
    let refused = get(&first).await.unwrap_err();
    assert!(matches!(refused, BrokerError::Audit(_)), "{refused}");
    let refused = world.broker.entries().list(&world.access, None).await.unwrap_err();
    assert!(matches!(refused, BrokerError::Audit(_)), "{refused}");
    let page = world.broker.entries().list(&world.access, Some(second.id)).await.unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [last.id]);
    sink.set(Mood::Well);
    get(&first).await.unwrap();
}
