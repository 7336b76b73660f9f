//! Password rotation: the journal step by step, with the 1Password component as it ships.

use std::time::Duration;

use keyway::keyway_runtime::{Fields, ProviderError};
use keyway::{
    BeginRotation, BrokerError, CacheTtl, Change, ClientKey, Connection, EntryChanges, EntryId, InvalidInput, NewEntry,
    NewPassword, PasswordPolicy, ResolveRequest, Rotation, RotationFilter, RotationId, RotationState, Source,
    VaultEntry,
};
use keyway_emulator_onepassword::{Endpoint, Fault, FaultRule, ItemChange, RetryAfterForm, VaultAccess};
use secrecy::{ExposeSecret, SecretString};

use crate::support::{World, text};

pub(crate) const VAULT: &str = "Automation";
const READ_ONLY: &str = "Finance (read-only)";
pub(crate) const ITEM: &str = "Northwind Supplier Portal";
pub(crate) const OLD: &str = "7Tq-wren-obelisk-41";

/// What the tests do with a rotation.
impl World {
    pub(crate) async fn begin(&self, entry: &VaultEntry) -> (Rotation, SecretString) {
        let begun = self.broker.begin_rotation(&self.access, BeginRotation::new(entry.id)).await.unwrap();
        assert_eq!(begun.rotation.state, RotationState::Prepared);
        (begun.rotation, begun.password.unwrap())
    }

    pub(crate) async fn commit(&self, id: RotationId) -> Rotation {
        self.broker.commit_rotation(&self.access, id).await.unwrap()
    }

    pub(crate) async fn rotation(&self, id: RotationId) -> Rotation {
        self.broker.rotation(&self.access, id).await.unwrap()
    }

    pub(crate) async fn password_of(&self, entry: &VaultEntry) -> String {
        text(self.resolve(entry).await.password.as_ref()).unwrap().to_owned()
    }

    /// The password that the item has, asked of nobody but the server.
    pub(crate) fn item_password(&self, title: &str) -> String {
        let details = self.emulator.item(VAULT, title).unwrap().details;
        let details: serde_json::Value = serde_json::from_str(&details).unwrap();
        let fields = details["fields"].as_array().unwrap();
        let field = fields.iter().find(|field| field["designation"] == "password").unwrap();
        field["value"].as_str().unwrap().to_owned()
    }

    /// How often the server was asked to change an item since the last time.
    pub(crate) fn writes(&self) -> u64 {
        let writes = self.emulator.calls().of(Endpoint::PatchItems);
        self.emulator.reset_calls();
        writes
    }

    pub(crate) fn change(&self, change: &ItemChange) {
        self.emulator.change_item(VAULT, ITEM, change).unwrap();
    }

    async fn own_entry(&self, user: &str, password: Option<&str>) -> VaultEntry {
        let key = ClientKey::from_hex(&self.encryption_key).unwrap();
        let new = NewEntry {
            permissioned_user_id: user.into(),
            domain: "https://acme.example".into(),
            user_name: Some(key.encrypt(&"own-user".into()).unwrap()),
            password: password.map(|password| key.encrypt(&password.into()).unwrap()),
            ..NewEntry::default()
        };
        self.broker.create_entry(&self.access, new).await.unwrap()
    }

    /// The password of an entry with credentials of its own, as its clients see it.
    async fn stored_password(&self, entry: EntryId) -> String {
        let entry = self.broker.get_entry(&self.access, &entry.into()).await.unwrap();
        let keyway::CredentialSource::Own(own) = entry.credentials else { panic!("bound") };
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
        assert_eq!(world.broker.retry_rotation(&world.access, rotation.id, true).await.unwrap(), done);
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
            tokio::spawn(async move { broker.commit_rotation(&access, rotation.id).await })
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
    let commit = tokio::spawn(async move { broker.commit_rotation(&access, rotation.id).await });
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
async fn a_read_only_vault_is_skipped_with_the_remedy_and_nothing_is_written() {
    let (world, connection) = World::connected().await;
    let account = world.emulator.account("automation").unwrap();
    let item = account.vault(READ_ONLY).unwrap().items.iter().find(|item| item.category == "login").unwrap();
    let new = NewEntry::bound("reader", "https://acme.example", connection.id, item.reference.as_str());
    let entry = world.broker.create_entry(&world.access, new).await.unwrap();
    world.emulator.reset_calls();
    let begun = world.broker.begin_rotation(&world.access, BeginRotation::new(entry.id)).await.unwrap();
    let rotation = begun.rotation;
    assert!(begun.password.is_none());
    assert_eq!((rotation.state, rotation.reason.as_deref()), (RotationState::Skipped, Some("read_only")));
    let message = rotation.message.as_deref().unwrap();
    assert!(message.contains("skipped") && message.contains("Write Items") && message.contains(READ_ONLY), "{message}");
    assert_eq!(world.writes(), 0);
    assert_eq!(world.rotation(rotation.id).await, rotation, "it is in the journal");
    for error in [
        world.broker.commit_rotation(&world.access, rotation.id).await.unwrap_err(),
        world.broker.retry_rotation(&world.access, rotation.id, true).await.unwrap_err(),
        world.broker.abandon_rotation(&world.access, rotation.id, true).await.unwrap_err(),
        world.broker.reveal_rotation(&world.access, rotation.id).await.unwrap_err(),
    ] {
        assert!(matches!(error, BrokerError::RotationState { state: RotationState::Skipped, .. }), "{error}");
    }

    // Grant the service account Write Items on the vault, then retry.
    world.emulator.set_access("automation", READ_ONLY, Some(VaultAccess::ReadWrite)).unwrap();
    let (rotation, _) = world.begin(&entry).await;
    assert_eq!(world.commit(rotation.id).await.state, RotationState::Done);
}

#[tokio::test]
async fn an_item_or_entry_without_a_password_is_skipped() {
    let (world, connection) = World::connected().await;
    let bound = world.bind(&connection, "No Password").await;
    let own = world.own_entry("own", None).await;
    for entry in [bound, own] {
        let begun = world.broker.begin_rotation(&world.access, BeginRotation::new(entry.id)).await.unwrap();
        assert_eq!(begun.rotation.state, RotationState::Skipped);
        assert_eq!(begun.rotation.reason.as_deref(), Some("no_password"));
    }
}

#[tokio::test]
async fn what_the_provider_cannot_answer_is_an_error_and_no_rotation() {
    let (world, connection, entry) = world().await;
    let begin = async |entry: EntryId| world.broker.begin_rotation(&world.access, BeginRotation::new(entry)).await;
    world.emulator.fault(FaultRule::next(Fault::rate_limited(17, RetryAfterForm::Header)).always());
    assert_eq!(begin(entry.id).await.unwrap_err().retry_after(), Some(Duration::from_secs(17)));
    world.emulator.clear_faults();
    world.clock.advance(Duration::from_secs(17));
    let (vault, _) =
        world.item(VAULT, ITEM).reference.rsplit_once('/').map(|(v, i)| (v.to_owned(), i.to_owned())).unwrap();
    let gone = format!("{vault}/aaaaaaaaaaaaaaaaaaaaaaaaaa");
    let new = NewEntry::bound("gone", "https://acme.example", connection.id, gone);
    let gone = world.broker.create_entry(&world.access, new).await.unwrap();
    let error = begin(gone.id).await.unwrap_err();
    assert!(matches!(error, BrokerError::Provider(ProviderError::NotFound(_))), "{error}");
    assert!(matches!(begin(EntryId::from(uuid::Uuid::nil())).await.unwrap_err(), BrokerError::NotFound(_)));
    let all = world.broker.list_rotations(&world.access, &RotationFilter::default(), None).await.unwrap();
    assert!(all.rotations.is_empty());
}

#[tokio::test]
async fn there_is_one_open_rotation_for_an_item_over_all_entries_and_connections() {
    let (world, connection, entry) = world().await;
    let reference = world.item(VAULT, ITEM).reference;
    let second = world.connect("automation").await;
    let new = |user: &str, connection: &Connection| {
        NewEntry::bound(user, "https://acme.example", connection.id, reference.as_str())
    };
    let sibling = world.broker.create_entry(&world.access, new("sibling", &connection)).await.unwrap();
    let over_another = world.broker.create_entry(&world.access, new("other", &second)).await.unwrap();
    let (rotation, _) = world.begin(&entry).await;
    for entry in [&entry, &sibling, &over_another] {
        let refused = world.broker.begin_rotation(&world.access, BeginRotation::new(entry.id)).await.unwrap_err();
        assert!(matches!(refused, BrokerError::RotationOpen), "{refused}");
    }
    // Another item, and the same item of another workspace, are not concerned.
    let other_item = world.bind(&connection, "Wide World Importers").await;
    world.begin(&other_item).await;
    world.broker.abandon_rotation(&world.access, rotation.id, false).await.unwrap();
    world.begin(&over_another).await;
}

#[tokio::test]
async fn of_many_who_begin_at_once_one_gets_a_password() {
    let (world, _, entry) = world().await;
    let begins: Vec<_> = (0..10)
        .map(|_| {
            let (broker, access, id) = (world.broker.clone(), world.access.clone(), entry.id);
            tokio::spawn(async move { broker.begin_rotation(&access, BeginRotation::new(id)).await })
        })
        .collect();
    let mut begun = 0;
    for begin in begins {
        match begin.await.unwrap() {
            Ok(_) => begun += 1,
            Err(error) => assert!(matches!(error, BrokerError::RotationOpen), "{error}"),
        }
    }
    assert_eq!(begun, 1);
}

#[tokio::test]
async fn after_a_write_back_every_entry_of_the_item_has_the_new_value_over_every_connection() {
    let (world, connection, entry) = world().await;
    let reference = world.item(VAULT, ITEM).reference;
    let second = world.connect("automation").await;
    let mut entries = vec![entry];
    for (user, connection) in [("same", &connection), ("other", &second)] {
        let new = NewEntry {
            secret_cache_ttl_seconds: Some(86_400),
            ..NewEntry::bound(user, "https://acme.example", connection.id, reference.as_str())
        };
        entries.push(world.broker.create_entry(&world.access, new).await.unwrap());
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
    // The old value is read, and its answer takes longer than the whole write-back.
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
        world.broker.begin_rotation(&world.access, BeginRotation::new(entry.id)).await,
        Err(BrokerError::RotationOpen)
    ));
    let done = world.commit(rotation.id).await;
    assert_eq!((done.state, done.connection_id, done.reference), (RotationState::Done, None, None));
    assert_eq!(world.stored_password(entry.id).await, password.expose_secret());
    let key = ClientKey::from_hex(&world.encryption_key).unwrap();
    let stored = world.broker.get_entry(&world.access, &entry.id.into()).await.unwrap();
    let keyway::CredentialSource::Own(own) = stored.credentials else { panic!("bound") };
    let user = key.decrypt(&own.user_name.unwrap()).unwrap().unwrap();
    assert_eq!(user.expose_secret(), "own-user", "nothing else changes");
    world.begin(&entry).await;
}

#[tokio::test]
async fn a_given_password_is_used_and_a_bad_one_refused() {
    let (world, _, entry) = world().await;
    let begin = async |password| {
        world.broker.begin_rotation(&world.access, BeginRotation::new(entry.id).password(password)).await
    };
    for (password, expected) in [
        (NewPassword::Given("".into()), InvalidInput::Required { field: "password" }),
        (NewPassword::Given("a\nb".into()), InvalidInput::ControlCharacter { field: "password" }),
        (NewPassword::Given("x".repeat(1_025).into()), InvalidInput::TooLong { field: "password", limit: 1_024 }),
        (NewPassword::Given(OLD.into()), InvalidInput::SamePassword),
        (
            NewPassword::Generated(PasswordPolicy { length: 4, ..PasswordPolicy::default() }),
            InvalidInput::PasswordLength { least: 12, most: 128 },
        ),
    ] {
        let error = begin(password).await.unwrap_err();
        assert!(matches!(&error, BrokerError::Invalid(invalid) if *invalid == expected), "{error}");
    }
    let error = begin(NewPassword::Encrypted("00".repeat(40))).await.unwrap_err();
    assert!(matches!(error, BrokerError::NotEncrypted { field: "password" }), "{error}");
    let key = ClientKey::from_hex(&world.encryption_key).unwrap();
    let begun = begin(NewPassword::Encrypted(key.encrypt(&"a given one".into()).unwrap())).await.unwrap();
    assert_eq!(text(begun.password.as_ref()), Some("a given one"));
    world.commit(begun.rotation.id).await;
    assert_eq!(world.item_password(ITEM), "a given one");
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
        let page = world.broker.list_rotations(&world.access, &filter, None).await.unwrap();
        page.rotations.into_iter().map(|rotation| rotation.id).collect::<Vec<_>>()
    };
    assert_eq!(list(&[], None).await, [first.id, second.id]);
    assert_eq!(list(&[RotationState::Done], None).await, [first.id]);
    assert_eq!(list(&RotationState::OPEN, None).await, [second.id]);
    assert_eq!(list(&[RotationState::Done, RotationState::Prepared], Some(other.id)).await, [second.id]);
    assert!(list(&[RotationState::Skipped], None).await.is_empty());
    let page = world.broker.list_rotations(&world.access, &RotationFilter::default(), Some(first.id)).await.unwrap();
    assert_eq!(page.rotations.len(), 1);
}

#[tokio::test]
async fn another_workspace_sees_and_does_nothing_and_each_scope_opens_its_own_door() {
    let (world, _, entry) = world().await;
    let (rotation, _) = world.begin(&entry).await;
    let stranger = world.other_workspace().await;
    for error in [
        world.broker.rotation(&stranger, rotation.id).await.unwrap_err(),
        world.broker.commit_rotation(&stranger, rotation.id).await.unwrap_err(),
        world.broker.retry_rotation(&stranger, rotation.id, true).await.unwrap_err(),
        world.broker.abandon_rotation(&stranger, rotation.id, true).await.unwrap_err(),
        world.broker.reveal_rotation(&stranger, rotation.id).await.unwrap_err(),
        world.broker.begin_rotation(&stranger, BeginRotation::new(entry.id)).await.unwrap_err(),
    ] {
        assert!(matches!(error, BrokerError::NotFound(_)), "{error}");
    }
    let key = async |scopes: &str| {
        let created = world
            .broker
            .create_api_key(&world.access, scopes, scopes.parse::<keyway::Scopes>().unwrap())
            .await
            .unwrap();
        world.broker.authenticate(&created.api_key).await.unwrap()
    };
    let (others, rotate) = (key("api resolve").await, key("rotate").await);
    let forbidden = |error: BrokerError| assert!(matches!(error, BrokerError::Forbidden { .. }), "{error}");
    forbidden(world.broker.begin_rotation(&others, BeginRotation::new(entry.id)).await.unwrap_err());
    forbidden(world.broker.commit_rotation(&others, rotation.id).await.unwrap_err());
    forbidden(world.broker.rotation(&others, rotation.id).await.unwrap_err());
    forbidden(world.broker.reveal_rotation(&rotate, rotation.id).await.unwrap_err());
    forbidden(world.broker.resolve(&rotate, ResolveRequest::new(entry.id)).await.unwrap_err());
    assert_eq!(world.broker.commit_rotation(&rotate, rotation.id).await.unwrap().state, RotationState::Done);
}

#[tokio::test]
async fn an_entry_that_is_being_rotated_can_be_neither_deleted_nor_bound_elsewhere() {
    let (world, connection, entry) = world().await;
    let own = world.own_entry("own", Some("own-old")).await;
    let elsewhere = EntryChanges {
        secret_provider_id: Change::Set(connection.id),
        secret_ref: Change::Set(world.item(VAULT, "Wide World Importers").reference),
        user_name: Change::Clear,
        password: Change::Clear,
        ..EntryChanges::default()
    };
    for entry in [&entry, &own] {
        let (rotation, _) = world.begin(entry).await;
        let selector = entry.id.into();
        let refused = [
            world.broker.delete_entry(&world.access, &selector).await.unwrap_err(),
            world.broker.update_entry(&world.access, &selector, elsewhere.clone()).await.unwrap_err(),
        ];
        assert!(refused.iter().all(|error| matches!(error, BrokerError::RotationOpen)), "{refused:?}");
        let alias = EntryChanges { user_alias: Change::Set("still".into()), ..EntryChanges::default() };
        world.broker.update_entry(&world.access, &selector, alias).await.unwrap();
        assert_eq!(world.commit(rotation.id).await.state, RotationState::Done, "other changes do not disturb it");
        world.broker.update_entry(&world.access, &selector, elsewhere.clone()).await.unwrap();
        world.broker.delete_entry(&world.access, &selector).await.unwrap();
        assert_eq!(world.rotation(rotation.id).await.state, RotationState::Done, "the history stays");
    }
}

#[tokio::test]
async fn of_beginning_and_deleting_at_once_one_happens() {
    let (world, connection, _) = world().await;
    for round in 0..10 {
        let new = NewEntry::bound(
            format!("user-{round}"),
            "https://acme.example",
            connection.id,
            world.item(VAULT, ITEM).reference,
        );
        let entry = world.broker.create_entry(&world.access, new).await.unwrap();
        let (broker, access, id) = (world.broker.clone(), world.access.clone(), entry.id);
        let deleted = tokio::spawn(async move { broker.delete_entry(&access, &id.into()).await });
        let begun = world.broker.begin_rotation(&world.access, BeginRotation::new(entry.id)).await;
        let deleted = deleted.await.unwrap();
        assert_ne!(begun.is_ok(), deleted.is_ok(), "{begun:?} {deleted:?}");
        if let Ok(begun) = begun {
            world.broker.abandon_rotation(&world.access, begun.rotation.id, false).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_passkey_is_not_rotated() {
    let (world, _) = World::connected().await;
    let entry = world.own_entry("own", Some("own-old")).await;
    let passkey = EntryChanges { passkey: Some(true), ..EntryChanges::default() };
    world.broker.update_entry(&world.access, &entry.id.into(), passkey).await.unwrap();
    let begun = world.broker.begin_rotation(&world.access, BeginRotation::new(entry.id)).await.unwrap();
    assert_eq!(begun.rotation.state, RotationState::Skipped);
    assert_eq!(begun.rotation.reason.as_deref(), Some("passkey"));
}

#[tokio::test]
async fn a_password_of_an_entrys_own_that_was_changed_meanwhile_is_not_overwritten_unasked() {
    let (world, _) = World::connected().await;
    let entry = world.own_entry("own", Some("own-old")).await;
    let (rotation, password) = world.begin(&entry).await;
    let key = ClientKey::from_hex(&world.encryption_key).unwrap();
    let theirs =
        EntryChanges { password: Change::Set(key.encrypt(&"theirs".into()).unwrap()), ..EntryChanges::default() };
    world.broker.update_entry(&world.access, &entry.id.into(), theirs).await.unwrap();
    assert_eq!(world.commit(rotation.id).await.state, RotationState::Conflicted);
    assert_eq!(world.password_of(&entry).await, "theirs");
    let done = world.broker.retry_rotation(&world.access, rotation.id, true).await.unwrap();
    assert_eq!(done.state, RotationState::Done);
    assert_eq!(world.password_of(&entry).await, password.expose_secret());
}

#[tokio::test]
async fn turning_the_cache_off_changes_nothing_about_it() {
    let (world, connection, entry) = world().await;
    let changes = keyway::ConnectionChanges { cache_ttl: Some(CacheTtl::OFF), ..keyway::ConnectionChanges::default() };
    world.broker.update_connection(&world.access, connection.id, changes).await.unwrap();
    let (rotation, password) = world.begin(&entry).await;
    assert_eq!(world.commit(rotation.id).await.state, RotationState::Done);
    assert_eq!(world.password_of(&entry).await, password.expose_secret());
}
