//! Password rotation: the journal step by step, with the 1Password component as shipped.

use std::time::Duration;

use keyway::connections::Connection;
use keyway::entries::{Binding, CredentialSource, Credentials, VaultEntry};
use keyway::keys::ClientKey;
use keyway::keyway_runtime::Fields;
use keyway::rotations::{BeginRotation, Rotation, RotationFilter, RotationState};
use keyway::{BrokerError, CacheTtl, EntryContent, EntryId, ResolveRequest, RotationId, Source};
use keyway_emulator_onepassword::{Endpoint, Fault, FaultRule, ItemChange};
use secrecy::{ExposeSecret, SecretString};

use crate::support::{World, text};

pub(crate) const VAULT: &str = "Automation";
pub(crate) const ITEM: &str = "Northwind Supplier Portal";
pub(crate) const OLD: &str = "7Tq-wren-obelisk-41";

/// Short names for what the tests do with a rotation.
impl World {
    pub(crate) async fn begin(&self, entry: &VaultEntry) -> (Rotation, SecretString) {
        let begun = self.broker.rotations().begin(&self.access, BeginRotation::new(entry.id)).await.unwrap();
        assert_eq!(begun.rotation.state, RotationState::Prepared);
        (begun.rotation, begun.password.unwrap())
    }

    pub(crate) async fn commit(&self, id: RotationId) -> Rotation {
        self.broker.rotations().commit(&self.access, id).await.unwrap()
    }

    pub(crate) async fn rotation(&self, id: RotationId) -> Rotation {
        self.broker.rotations().get(&self.access, id).await.unwrap()
    }

    pub(crate) async fn password_of(&self, entry: &VaultEntry) -> String {
        text(self.resolve(entry).await.password.as_ref()).unwrap().to_owned()
    }

    /// The item's password, read from the server alone.
    pub(crate) fn item_password(&self, title: &str) -> String {
        let details = self.emulator.item(VAULT, title).unwrap().details;
        let details: serde_json::Value = serde_json::from_str(&details).unwrap();
        let fields = details["fields"].as_array().unwrap();
        let field = fields.iter().find(|field| field["designation"] == "password").unwrap();
        field["value"].as_str().unwrap().to_owned()
    }

    /// The requests to change an item since the last look.
    pub(crate) fn writes(&self) -> u64 {
        let writes = self.emulator.calls().of(Endpoint::PatchItems);
        self.emulator.reset_calls();
        writes
    }

    pub(crate) fn change(&self, change: &ItemChange) {
        self.emulator.change_item(VAULT, ITEM, change).unwrap();
    }

    pub(crate) async fn own_entry(&self, user: &str, password: Option<&str>) -> VaultEntry {
        let key = ClientKey::from_hex(&self.encryption_key).unwrap();
        let credentials = Credentials {
            user_name: Some(key.encrypt(&"own-user".into()).unwrap()),
            password: password.map(|password| key.encrypt(&password.into()).unwrap()),
            tfa_secret: None,
        };
        let new = EntryContent::own(user, "https://acme.example", credentials);
        self.broker.entries().create(&self.access, new).await.unwrap()
    }

    /// The password of an entry with its own credentials, as its clients see it.
    async fn stored_password(&self, entry: EntryId) -> String {
        let entry = self.broker.entries().get(&self.access, &entry.into()).await.unwrap();
        let CredentialSource::Own(own) = entry.content.credentials else { panic!("bound") };
        let key = ClientKey::from_hex(&self.encryption_key).unwrap();
        key.decrypt(&own.password.unwrap()).unwrap().unwrap().expose_secret().to_owned()
    }
}

pub(crate) async fn world() -> (World, Connection, VaultEntry) {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, ITEM).await;
    (world, connection, entry)
}

#[tokio::test]
async fn a_rotation_goes_from_prepared_to_done_and_the_item_has_the_new_password() {
    let (world, _, entry) = world().await;
    assert_eq!(world.password_of(&entry).await, OLD);
    let (rotation, password) = world.begin(&entry).await;
    assert_eq!((rotation.entry_id, rotation.attempts, rotation.next_attempt_at), (entry.id, 0, None));
    assert_eq!(password.expose_secret().len(), 24);
    assert_eq!(world.writes(), 0, "nothing is written before the site has it");
    assert_eq!(world.password_of(&entry).await, OLD, "the site may still have the old one");

    let before = world.emulator.item(VAULT, ITEM).unwrap();
    let done = world.commit(rotation.id).await;
    assert_eq!((done.state, done.attempts), (RotationState::Done, 1));
    assert_eq!(world.writes(), 1);
    assert_eq!(world.item_password(ITEM), password.expose_secret());
    let after = world.emulator.item(VAULT, ITEM).unwrap();
    assert_eq!(before.overview, after.overview, "nothing else changes");

    let resolved = world.resolve(&entry).await;
    assert_eq!((text(resolved.password.as_ref()), resolved.rotation), (Some(password.expose_secret()), None));
    assert_eq!(resolved.source, Source::Live);
    assert!(matches!(world.resolve(&entry).await.source, Source::Cached { .. }), "and is cached again");
}

#[tokio::test]
async fn committing_again_changes_nothing() {
    let (world, _, entry) = world().await;
    let (rotation, _) = world.begin(&entry).await;
    let done = world.commit(rotation.id).await;
    assert_eq!(world.writes(), 1);
    for _ in 0..3 {
        assert_eq!(world.commit(rotation.id).await, done);
        assert_eq!(world.broker.rotations().retry(&world.access, rotation.id, true).await.unwrap(), done);
    }
    assert_eq!(world.writes(), 0);
}

#[tokio::test]
async fn many_who_commit_at_once_write_once() {
    let (world, _, entry) = world().await;
    let (rotation, password) = world.begin(&entry).await;
    world.writes();
    let commits: Vec<_> = (0..20)
        .map(|_| {
            let (broker, access) = (world.broker.clone(), world.access.clone());
            tokio::spawn(async move { broker.rotations().commit(&access, rotation.id).await })
        })
        .collect();
    for commit in commits {
        let state = commit.await.unwrap().unwrap().state;
        assert!(matches!(state, RotationState::Done | RotationState::Committing), "{state}");
    }
    assert_eq!(world.rotation(rotation.id).await.state, RotationState::Done);
    assert_eq!(world.writes(), 1);
    assert_eq!(world.item_password(ITEM), password.expose_secret());
}

#[tokio::test]
async fn a_caller_that_goes_away_while_it_is_written_does_not_stop_it() {
    let (world, _, entry) = world().await;
    let (rotation, password) = world.begin(&entry).await;
    world.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::Delay { milliseconds: 300 }));
    let (broker, access) = (world.broker.clone(), world.access.clone());
    let commit = tokio::spawn(async move { broker.rotations().commit(&access, rotation.id).await });
    while world.rotation(rotation.id).await.state == RotationState::Prepared {
        tokio::task::yield_now().await;
    }
    commit.abort();
    while world.rotation(rotation.id).await.state == RotationState::Committing {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.rotation(rotation.id).await.state, RotationState::Done);
    assert_eq!(world.item_password(ITEM), password.expose_secret());
}

#[tokio::test]
async fn after_a_write_back_every_entry_of_the_item_has_the_new_value_over_every_connection() {
    let (world, connection, entry) = world().await;
    let reference = world.item(VAULT, ITEM).reference;
    let second = world.connect("automation").await;
    let mut entries = vec![entry];
    for (user, connection) in [("same", &connection), ("other", &second)] {
        let mut new = EntryContent::bound(user, "https://acme.example", connection.id, reference.as_str());
        new.binding_mut().unwrap().cache_ttl = Some(CacheTtl::ONE_DAY);
        entries.push(world.broker.entries().create(&world.access, new).await.unwrap());
    }
    let unrelated = world.bind(&connection, "Wide World Importers").await;
    world.resolve(&unrelated).await;
    for entry in &entries {
        assert_eq!(world.password_of(entry).await, OLD);
        assert!(matches!(world.resolve(entry).await.source, Source::Cached { .. }));
    }
    let (rotation, password) = world.begin(&entries[0]).await;
    world.commit(rotation.id).await;
    for entry in &entries {
        assert_eq!(world.password_of(entry).await, password.expose_secret());
    }
    assert!(matches!(world.resolve(&unrelated).await.source, Source::Cached { .. }), "other items stay cached");
}

#[tokio::test]
async fn a_fetch_that_was_under_way_during_the_write_back_is_not_used_afterwards() {
    let (world, _, entry) = world().await;
    let (rotation, password) = world.begin(&entry).await;
    // The old value is being read, and its answer takes longer than the whole write-back.
    world.emulator.fault(FaultRule::next_of(Endpoint::Item, Fault::Delay { milliseconds: 700 }));
    let (broker, access, id) = (world.broker.clone(), world.access.clone(), entry.id);
    let early =
        tokio::spawn(async move { broker.resolve(&access, ResolveRequest::new(id).fields(Fields::CREDENTIALS)).await });
    while !world.emulator.faults().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.commit(rotation.id).await.state, RotationState::Done);
    let request = ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS);
    let late = world.broker.resolve(&world.access, request.clone()).await.unwrap();
    assert_eq!(text(late.password.as_ref()), Some(password.expose_secret()));
    early.await.unwrap().unwrap();
    let cached = world.broker.resolve(&world.access, request).await.unwrap();
    assert_eq!(text(cached.password.as_ref()), Some(password.expose_secret()));
    assert!(matches!(cached.source, Source::Cached { .. }));
}

#[tokio::test]
async fn an_entry_with_credentials_of_its_own_rotates_within_itself() {
    let (world, _) = World::connected().await;
    let entry = world.own_entry("own", Some("own-old")).await;
    let (rotation, password) = world.begin(&entry).await;
    assert_eq!(world.stored_password(entry.id).await, "own-old");
    assert!(matches!(
        world.broker.rotations().begin(&world.access, BeginRotation::new(entry.id)).await,
        Err(BrokerError::RotationOpen)
    ));
    let done = world.commit(rotation.id).await;
    assert_eq!((done.state, done.connection_id, done.reference), (RotationState::Done, None, None));
    assert_eq!(world.stored_password(entry.id).await, password.expose_secret());
    let key = ClientKey::from_hex(&world.encryption_key).unwrap();
    let stored = world.broker.entries().get(&world.access, &entry.id.into()).await.unwrap();
    let CredentialSource::Own(own) = stored.content.credentials else { panic!("bound") };
    let user = key.decrypt(&own.user_name.unwrap()).unwrap().unwrap();
    assert_eq!(user.expose_secret(), "own-user", "nothing else changes");
    world.begin(&entry).await;
}

#[tokio::test]
async fn rotations_are_listed_by_state_and_entry() {
    let (world, connection, entry) = world().await;
    let other = world.bind(&connection, "Wide World Importers").await;
    let (first, _) = world.begin(&entry).await;
    let (second, _) = world.begin(&other).await;
    world.commit(first.id).await;
    let list = async |states: &[RotationState], entry: Option<EntryId>| {
        let filter = RotationFilter { states: states.to_vec(), entry };
        let page = world.broker.rotations().list(&world.access, &filter, None).await.unwrap();
        page.rotations.into_iter().map(|rotation| rotation.id).collect::<Vec<_>>()
    };
    assert_eq!(list(&[], None).await, [first.id, second.id]);
    assert_eq!(list(&[RotationState::Done], None).await, [first.id]);
    assert_eq!(list(&RotationState::OPEN, None).await, [second.id]);
    assert_eq!(list(&[RotationState::Done, RotationState::Prepared], Some(other.id)).await, [second.id]);
    assert!(list(&[RotationState::Skipped], None).await.is_empty());
    let page = world.broker.rotations().list(&world.access, &RotationFilter::default(), Some(first.id)).await.unwrap();
    assert_eq!(page.rotations.len(), 1);
}

#[tokio::test]
async fn another_workspace_sees_and_does_nothing_and_each_scope_opens_its_own_door() {
    let (world, _, entry) = world().await;
    let (rotation, _) = world.begin(&entry).await;
    let stranger = world.other_workspace().await;
    for error in [
        world.broker.rotations().get(&stranger, rotation.id).await.unwrap_err(),
        world.broker.rotations().commit(&stranger, rotation.id).await.unwrap_err(),
        world.broker.rotations().retry(&stranger, rotation.id, true).await.unwrap_err(),
        world.broker.rotations().abandon(&stranger, rotation.id, true).await.unwrap_err(),
        world.broker.rotations().reveal(&stranger, rotation.id).await.unwrap_err(),
        world.broker.rotations().begin(&stranger, BeginRotation::new(entry.id)).await.unwrap_err(),
    ] {
        assert!(matches!(error, BrokerError::NotFound(_)), "{error}");
    }
    let key = async |scopes: &str| {
        let created = world
            .broker
            .api_keys()
            .create(&world.access, scopes, scopes.parse::<keyway::Scopes>().unwrap())
            .await
            .unwrap();
        world.broker.authenticate(&created.api_key).await.unwrap()
    };
    let (others, rotate) = (key("api resolve").await, key("rotate").await);
    let forbidden = |error: BrokerError| assert!(matches!(error, BrokerError::Forbidden { .. }), "{error}");
    forbidden(world.broker.rotations().begin(&others, BeginRotation::new(entry.id)).await.unwrap_err());
    forbidden(world.broker.rotations().commit(&others, rotation.id).await.unwrap_err());
    forbidden(world.broker.rotations().get(&others, rotation.id).await.unwrap_err());
    forbidden(world.broker.rotations().reveal(&rotate, rotation.id).await.unwrap_err());
    forbidden(world.broker.resolve(&rotate, ResolveRequest::new(entry.id)).await.unwrap_err());
    assert_eq!(world.broker.rotations().commit(&rotate, rotation.id).await.unwrap().state, RotationState::Done);
}

#[tokio::test]
async fn an_entry_that_is_being_rotated_can_be_neither_deleted_nor_bound_elsewhere() {
    let (world, connection, entry) = world().await;
    let own = world.own_entry("own", Some("own-old")).await;
    let other = Binding::new(connection.id, world.item(VAULT, "Wide World Importers").reference);
    let elsewhere = |entry: &mut EntryContent| {
        entry.credentials = CredentialSource::Bound(other.clone());
        Ok(())
    };
    for entry in [&entry, &own] {
        let (rotation, _) = world.begin(entry).await;
        let selector = entry.id.into();
        let refused = [
            world.broker.entries().delete(&world.access, &selector).await.unwrap_err(),
            world.broker.entries().update(&world.access, &selector, elsewhere).await.unwrap_err(),
        ];
        assert!(refused.iter().all(|error| matches!(error, BrokerError::RotationOpen)), "{refused:?}");
        let alias = |entry: &mut EntryContent| {
            entry.alias = Some("still".into());
            Ok(())
        };
        world.broker.entries().update(&world.access, &selector, alias).await.unwrap();
        assert_eq!(world.commit(rotation.id).await.state, RotationState::Done, "other changes do not disturb it");
        world.broker.entries().update(&world.access, &selector, elsewhere).await.unwrap();
        world.broker.entries().delete(&world.access, &selector).await.unwrap();
        assert_eq!(world.rotation(rotation.id).await.state, RotationState::Done, "the history stays");
    }
}

#[tokio::test]
async fn a_password_of_an_entrys_own_that_was_changed_meanwhile_is_not_overwritten_unasked() {
    let (world, _) = World::connected().await;
    let entry = world.own_entry("own", Some("own-old")).await;
    let (rotation, password) = world.begin(&entry).await;
    let key = ClientKey::from_hex(&world.encryption_key).unwrap();
    let theirs = |entry: &mut EntryContent| {
        entry.own_credentials_mut().unwrap().password = Some(key.encrypt(&"theirs".into()).unwrap());
        Ok(())
    };
    world.broker.entries().update(&world.access, &entry.id.into(), theirs).await.unwrap();
    assert_eq!(world.commit(rotation.id).await.state, RotationState::Conflicted);
    assert_eq!(world.password_of(&entry).await, "theirs");
    let done = world.broker.rotations().retry(&world.access, rotation.id, true).await.unwrap();
    assert_eq!(done.state, RotationState::Done);
    assert_eq!(world.password_of(&entry).await, password.expose_secret());
}

#[tokio::test]
async fn turning_the_cache_off_changes_nothing_about_it() {
    let (world, connection, entry) = world().await;
    let changes = keyway::connections::ConnectionChanges::default().cache_ttl(CacheTtl::OFF);
    world.broker.connections().update(&world.access, connection.id, changes).await.unwrap();
    let (rotation, password) = world.begin(&entry).await;
    assert_eq!(world.commit(rotation.id).await.state, RotationState::Done);
    assert_eq!(world.password_of(&entry).await, password.expose_secret());
}
