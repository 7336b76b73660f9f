//! Rotation of a workspace key: nothing is lost, nothing remains under the old key, and operations
//! in flight are not affected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keyway::keys::ClientKey;
use keyway::rotations::{BeginRotation, NewPassword, RotationState};
use keyway::{BrokerError, EntryContent, ResolveRequest, Scope, Thing};
use secrecy::ExposeSecret;
use tokio::task::JoinHandle;

use crate::key_rotation::{
    database, decrypted, files_contain, is_manual, manual, manual_entries, master_key, other_process, password_of,
    proxy_of, sealed_values, terms_in_use,
};
use crate::support::{World, text};

#[tokio::test]
async fn a_workspaces_key_is_rotated_with_everything_that_is_sealed_under_it() {
    let (mut world, connection) = World::connected().await;
    let bound = world.bind(&connection, "Wide World Importers").await;
    world.resolve(&bound).await;
    let entry = world.broker.entries().create(&world.access, manual("user", &world.encryption_key)).await.unwrap();
    let other = world.other_workspace().await;
    let others = world.broker.keys().encryption_key(&other).await.unwrap();
    let wrapped: Vec<u8> = sqlx::query_scalar("SELECT wrapped_key FROM workspace_keys WHERE workspace_id = ?")
        .bind(world.access.workspace().as_uuid())
        .fetch_one(&database(&world).await)
        .await
        .unwrap();

    let mut old_values = sealed_values(&database(&world).await, world.access.workspace()).await;
    assert_eq!(old_values.len(), 3, "settings, credentials, attributes");

    let rotated = world.broker.keys().rotate_workspace(&world.access).await.unwrap();
    assert_eq!((rotated.term, rotated.values, rotated.resumed), (2, 3, false));
    let new = rotated.encryption_key;
    assert_ne!(new.expose_secret(), world.encryption_key.expose_secret());
    assert_eq!(world.broker.keys().encryption_key(&world.access).await.unwrap().expose_secret(), new.expose_secret());
    assert_eq!(terms_in_use(&world).await, [2]);
    assert!(!files_contain(&world, &wrapped), "the old key is destroyed");
    assert!(!old_values.iter().any(|value| files_contain(&world, value)), "and so is what was sealed under it");
    old_values = sealed_values(&database(&world).await, world.access.workspace()).await;
    assert!(old_values.iter().all(|value| files_contain(&world, value)), "the search finds existing text");

    // Immediately, and after a restart.
    for _ in 0..2 {
        let read = world.broker.entries().get(&world.access, &entry.id.into()).await.unwrap();
        assert_eq!(decrypted(&read, &new), Some(password_of("user")));
        assert_eq!(decrypted(&read, &world.encryption_key), None);
        let resolved = world.broker.resolve(&world.access, ResolveRequest::new(entry.id)).await.unwrap();
        assert_eq!(text(resolved.password.as_ref()), Some(&*password_of("user")));
        assert_eq!(proxy_of(&read, &new).as_deref(), Some("http://user:pass@proxy.acme.com"));
        assert_eq!((read.created_at, read.updated_at), (entry.created_at, entry.updated_at));
        assert!(text(world.resolve(&bound).await.password.as_ref()).is_some());
        assert!(!world.broker.connections().list_items(&world.access, connection.id).await.unwrap().is_empty());
        world.restart().await;
    }
    let old = world.broker.entries().create(&world.access, manual("old", &world.encryption_key)).await.unwrap_err();
    assert!(matches!(&old, BrokerError::NotEncrypted { field } if field == "password"), "{old}");
    world.broker.entries().create(&world.access, manual("new", &new)).await.unwrap();
    assert_eq!(world.broker.keys().encryption_key(&other).await.unwrap().expose_secret(), others.expose_secret());
}

/// The new password of a rotation exists nowhere else, so it must not be lost.
#[tokio::test]
async fn password_rotations_go_on_under_the_new_key_here_and_in_a_server_that_does_not_know_of_it_yet() {
    let (world, connection, bound) = crate::rotation::world().await;
    let (bound, password) = world.begin(&bound).await;
    let own = world.broker.entries().create(&world.access, manual("user", &world.encryption_key)).await.unwrap();
    let (own, own_password) = world.begin(&own).await;
    let server = other_process(&world, master_key()).await.unwrap();
    server.keys().encryption_key(&world.access).await.unwrap();

    let rotated = world.broker.keys().rotate_workspace(&world.access).await.unwrap();
    assert_eq!(terms_in_use(&world).await, [2]);
    // It still seals under the old key, is refused, and retries under the new one.
    let done = server.rotations().commit(&world.access, own.id).await.unwrap();
    assert_eq!(done.state, RotationState::Done);
    let read = world.broker.entries().get(&world.access, &own.entry_id.into()).await.unwrap();
    assert_eq!(decrypted(&read, &rotated.encryption_key).as_deref(), Some(own_password.expose_secret()));
    assert!(proxy_of(&read, &rotated.encryption_key).is_some(), "the rest of the entry is under that key, too");
    let another = world.bind(&connection, "Wide World Importers").await;
    world.begin(&another).await;
    let revealed = world.broker.rotations().reveal(&world.access, bound.id).await.unwrap();
    assert_eq!(revealed.expose_secret(), password.expose_secret());
    assert_eq!(world.commit(bound.id).await.state, RotationState::Done);
    assert_eq!(world.item_password(crate::rotation::ITEM), password.expose_secret());
    assert_eq!(terms_in_use(&world).await, [2]);
}

#[tokio::test]
async fn rotating_a_workspaces_key_drops_what_was_cached_under_the_old_one() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Wide World Importers").await;
    world.resolve(&entry).await;
    world.resolve(&entry).await;
    world.item_reads();
    world.broker.keys().rotate_workspace(&world.access).await.unwrap();
    world.resolve(&entry).await;
    assert_eq!(world.item_reads(), 1);
}

#[tokio::test]
async fn a_server_that_does_not_know_of_the_rotation_yet_writes_nothing_under_the_old_key() {
    let (world, _) = World::connected().await;
    let server = other_process(&world, master_key()).await.unwrap();
    server.keys().encryption_key(&world.access).await.unwrap();
    let rotated = world.broker.keys().rotate_workspace(&world.access).await.unwrap();
    let refused = server.entries().create(&world.access, manual("old", &world.encryption_key)).await.unwrap_err();
    assert!(matches!(refused, BrokerError::NotEncrypted { .. }), "{refused}");
    let entry = server.entries().create(&world.access, manual("new", &rotated.encryption_key)).await.unwrap();
    assert_eq!(terms_in_use(&world).await, [2]);

    // A client with the new key succeeds at once.
    for _ in 0..2 {
        let rotated = world.broker.keys().rotate_workspace(&world.access).await.unwrap();
        let password = ClientKey::from_hex(&rotated.encryption_key).unwrap().encrypt(&"newer".into()).unwrap();
        let change = |entry: &mut EntryContent| {
            entry.own_credentials_mut().unwrap().password = Some(password.clone());
            Ok(())
        };
        server.entries().update(&world.access, &entry.id.into(), change).await.unwrap();
        let rotated = world.broker.keys().rotate_workspace(&world.access).await.unwrap();
        let new = manual(&format!("new under key {}", rotated.term), &rotated.encryption_key);
        server.entries().create(&world.access, new).await.unwrap();
        let rotated = world.broker.keys().rotate_workspace(&world.access).await.unwrap();
        let given = ClientKey::from_hex(&rotated.encryption_key).unwrap().encrypt(&"given".into()).unwrap();
        let begin = BeginRotation::new(entry.id).password(NewPassword::Encrypted(given));
        let begun = server.rotations().begin(&world.access, begin).await.unwrap();
        server.rotations().abandon(&world.access, begun.rotation.id, false).await.unwrap();
    }
    let rotated = world.broker.keys().rotate_workspace(&world.access).await.unwrap();
    let shown = server.keys().encryption_key(&world.access).await.unwrap();
    assert_eq!(shown.expose_secret(), rotated.encryption_key.expose_secret());
}

#[tokio::test]
async fn a_damaged_value_stops_the_rotation_before_anything_has_changed_until_its_row_is_deleted() {
    let (world, connection) = World::connected().await;
    let entry = world.broker.entries().create(&world.access, manual("user", &world.encryption_key)).await.unwrap();
    sqlx::query("UPDATE connections SET sealed_settings = substr(sealed_settings, 1, 40) WHERE id = ?")
        .bind(connection.id.as_uuid())
        .execute(&database(&world).await)
        .await
        .unwrap();
    let error = world.broker.keys().rotate_workspace(&world.access).await.unwrap_err();
    let id = connection.id.to_string();
    assert!(error.to_string().contains(&format!("the row {id} of the table `connections`")), "{error}");
    let key = world.broker.keys().encryption_key(&world.access).await.unwrap();
    assert_eq!(key.expose_secret(), world.encryption_key.expose_secret());
    let read = world.broker.entries().get(&world.access, &entry.id.into()).await.unwrap();
    assert_eq!(decrypted(&read, &key), Some(password_of("user")));
    assert_eq!(terms_in_use(&world).await, [1]);

    let database = world.broker.database();
    let [row] = &*database.damaged_rows().await.unwrap() else { panic!("one row is damaged") };
    assert_eq!((row.table, &row.id, row.workspace), ("connections", &id, Some(world.access.workspace())));
    let healthy = database.delete_damaged_row("vault_entries", &entry.id.to_string()).await.unwrap_err();
    assert!(matches!(healthy, BrokerError::NotFound(Thing::DamagedRow)), "{healthy}");
    database.delete_damaged_row("connections", &id).await.unwrap();
    assert!(database.damaged_rows().await.unwrap().is_empty());
    assert_eq!(world.broker.keys().rotate_workspace(&world.access).await.unwrap().term, 2);
}

#[tokio::test]
async fn only_an_administrator_rotates_a_workspaces_key() {
    let world = World::new().await;
    let key = world.broker.api_keys().create(&world.access, "ordinary", Scope::Api).await.unwrap();
    let access = world.broker.authenticate(&key.api_key).await.unwrap();
    let error = world.broker.keys().rotate_workspace(&access).await.unwrap_err();
    assert!(matches!(error, BrokerError::Forbidden { needs: Scope::Admin }), "{error}");
}

/// Readers and writers in two processes, while both rotate the key again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_are_served_while_the_key_is_rotated() {
    let (world, connection) = World::connected().await;
    for number in 0..600 {
        let new = manual(&format!("first-{number}"), &world.encryption_key);
        world.broker.entries().create(&world.access, new).await.unwrap();
    }
    let bound = world.bind(&connection, "Wide World Importers").await;
    let own = world.broker.entries().create(&world.access, manual("own", &world.encryption_key)).await.unwrap();
    let server = world.beside().await;
    let done = Arc::new(AtomicBool::new(false));
    let progress: Arc<[AtomicUsize; 4]> = Arc::default();
    let mut tasks = Vec::new();
    for (name, broker) in [("here", world.broker.clone()), ("there", server.clone())] {
        let (access, done, reader) = (world.access.clone(), done.clone(), broker.clone());
        let (reads, reading, connection) = (done.clone(), world.access.clone(), connection.id);
        let ((bound, own), counts, number) = ((bound.id, own.id), progress.clone(), tasks.len());
        tasks.push(tokio::spawn(async move {
            while !reads.load(Ordering::SeqCst) {
                // Every value opens at every moment, and a page is under one key.
                let before = reader.keys().encryption_key(&reading).await.unwrap();
                let (mut after, mut seen) = (None, 0);
                loop {
                    let page = reader.entries().list(&reading, after).await.unwrap();
                    let entries: Vec<_> = page.entries.iter().filter(|entry| is_manual(entry)).collect();
                    seen += entries.len();
                    for key in [&before, &reader.keys().encryption_key(&reading).await.unwrap()] {
                        let opened = entries.iter().map(|entry| {
                            [decrypted(entry, key).is_some(), proxy_of(entry, key).is_some()].map(usize::from)
                        });
                        let opened: usize = opened.flatten().sum();
                        assert!(opened == 0 || opened == 2 * entries.len(), "{opened} of {} values", entries.len());
                    }
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert!(seen >= 600);
                let resolved = reader.resolve(&reading, ResolveRequest::new(own)).await.unwrap();
                assert_eq!(text(resolved.password.as_ref()), Some(&*password_of("own")));
                let resolved = reader.resolve(&reading, ResolveRequest::new(bound)).await.unwrap();
                assert!(text(resolved.password.as_ref()).is_some());
                assert!(!reader.connections().list_items(&reading, connection).await.unwrap().is_empty());
                counts[number].fetch_add(1, Ordering::SeqCst);
            }
        }));
        let (counts, number) = (progress.clone(), tasks.len());
        tasks.push(tokio::spawn(async move {
            while !done.load(Ordering::SeqCst) {
                let key = broker.keys().encryption_key(&access).await.unwrap();
                let written = counts[number].load(Ordering::SeqCst);
                match broker.entries().create(&access, manual(&format!("{name}-{written}"), &key)).await {
                    Ok(_) => counts[number].store(written + 1, Ordering::SeqCst),
                    // The key was rotated after it was requested.
                    Err(BrokerError::NotEncrypted { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }));
    }
    // At least twice, and until every reader and writer has made progress.
    let counts = || progress.each_ref().map(|count| count.load(Ordering::SeqCst));
    let (mut rounds, deadline) = (0, Instant::now() + Duration::from_secs(60));
    while rounds < 2 || counts().contains(&0) {
        assert!(Instant::now() < deadline && !tasks.iter().any(JoinHandle::is_finished), "{:?}", counts());
        rounds += 1;
        let (one, other) = tokio::join!(
            world.broker.keys().rotate_workspace(&world.access),
            server.keys().rotate_workspace(&world.access)
        );
        one.unwrap();
        other.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    let counts = counts();
    let key = world.broker.keys().encryption_key(&world.access).await.unwrap();
    let entries = manual_entries(&world.broker, &world.access).await;
    assert_eq!(entries.len(), 600 + 1 + counts[1] + counts[3], "{counts:?}");
    for entry in &entries {
        assert_eq!(decrypted(entry, &key), Some(password_of(&entry.user)));
    }
    assert_eq!(terms_in_use(&world).await.len(), 1);
    assert!(!world.broker.connections().list_items(&world.access, connection.id).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_key_that_a_reader_kept_in_the_files_is_destroyed_when_the_reader_has_gone() {
    let (world, _) = World::connected().await;
    let database = database(&world).await;
    let wrapped: Vec<u8> = sqlx::query_scalar("SELECT wrapped_key FROM workspace_keys WHERE workspace_id = ?")
        .bind(world.access.workspace().as_uuid())
        .fetch_one(&database)
        .await
        .unwrap();
    // As a backup does.
    let mut reader = database.begin().await.unwrap();
    let keys: i64 = sqlx::query_scalar("SELECT count(*) FROM workspace_keys").fetch_one(&mut *reader).await.unwrap();
    assert_eq!(keys, 1);
    world.broker.keys().rotate_workspace(&world.access).await.unwrap();
    assert!(files_contain(&world, &wrapped));
    reader.rollback().await.unwrap();
    world.broker.keys().finish_rotations().await.unwrap();
    assert!(!files_contain(&world, &wrapped));
}
