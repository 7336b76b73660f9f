//! Beginning a rotation: what is skipped and why, what is refused, and that only one is open at a
//! time.

use std::time::Duration;

use keyway::connections::Connection;
use keyway::entries::VaultEntry;
use keyway::keys::ClientKey;
use keyway::keyway_runtime::ErrorCode;
use keyway::rotations::{BeginRotation, NewPassword, PasswordPolicy, RotationFilter, RotationState};
use keyway::{BrokerError, EntryContent, EntryId, InvalidInput, RotationId, Scope, Scopes};
use keyway_emulator_onepassword::{Fault, FaultRule, RetryAfterForm, VaultAccess};

use crate::rotation::{ITEM, OLD, VAULT, world};
use crate::support::{World, text};

const READ_ONLY: &str = "Finance (read-only)";

#[tokio::test]
async fn a_read_only_vault_is_skipped_with_the_remedy_and_nothing_is_written() {
    let (world, connection) = World::connected().await;
    let account = world.emulator.account("automation").unwrap();
    let item = account.vault(READ_ONLY).unwrap().items.iter().find(|item| item.category == "login").unwrap();
    let new = EntryContent::bound("reader", "https://acme.example", connection.id, item.reference.as_str());
    let entry = world.broker.entries().create(&world.access, new).await.unwrap();
    world.emulator.reset_calls();
    let begun = world.broker.rotations().begin(&world.access, BeginRotation::new(entry.id)).await.unwrap();
    let rotation = begun.rotation;
    assert!(begun.password.is_none());
    assert_eq!((rotation.state, rotation.reason.as_deref()), (RotationState::Skipped, Some("read_only")));
    let message = rotation.message.as_deref().unwrap();
    assert!(message.contains("skipped") && message.contains("Write Items") && message.contains(READ_ONLY), "{message}");
    assert_eq!(world.writes(), 0);
    assert_eq!(world.rotation(rotation.id).await, rotation, "it is in the journal");
    for error in [
        world.broker.rotations().commit(&world.access, rotation.id).await.unwrap_err(),
        world.broker.rotations().retry(&world.access, rotation.id, true).await.unwrap_err(),
        world.broker.rotations().abandon(&world.access, rotation.id, true).await.unwrap_err(),
        world.broker.rotations().reveal(&world.access, rotation.id).await.unwrap_err(),
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
        let begun = world.broker.rotations().begin(&world.access, BeginRotation::new(entry.id)).await.unwrap();
        assert_eq!(begun.rotation.state, RotationState::Skipped);
        assert_eq!(begun.rotation.reason.as_deref(), Some("no_password"));
    }
}

#[tokio::test]
async fn a_passkey_is_not_rotated() {
    let (world, _) = World::connected().await;
    let entry = world.own_entry("own", Some("own-old")).await;
    let passkey = |entry: &mut EntryContent| {
        entry.passkey = true;
        Ok(())
    };
    world.broker.entries().update(&world.access, &entry.id.into(), passkey).await.unwrap();
    let begun = world.broker.rotations().begin(&world.access, BeginRotation::new(entry.id)).await.unwrap();
    assert_eq!(begun.rotation.state, RotationState::Skipped);
    assert_eq!(begun.rotation.reason.as_deref(), Some("passkey"));
}

#[tokio::test]
async fn what_the_provider_cannot_answer_is_an_error_and_no_rotation() {
    let (world, connection, entry) = world().await;
    let begin = async |entry: EntryId| world.broker.rotations().begin(&world.access, BeginRotation::new(entry)).await;
    world.emulator.fault(FaultRule::next(Fault::rate_limited(17, RetryAfterForm::Header)).always());
    assert_eq!(begin(entry.id).await.unwrap_err().retry_after(), Some(Duration::from_secs(17)));
    world.emulator.clear_faults();
    world.clock.advance(Duration::from_secs(17));
    let (vault, _) =
        world.item(VAULT, ITEM).reference.rsplit_once('/').map(|(v, i)| (v.to_owned(), i.to_owned())).unwrap();
    let gone = format!("{vault}/aaaaaaaaaaaaaaaaaaaaaaaaaa");
    let new = EntryContent::bound("gone", "https://acme.example", connection.id, gone);
    let gone = world.broker.entries().create(&world.access, new).await.unwrap();
    let error = begin(gone.id).await.unwrap_err();
    assert!(matches!(&error, BrokerError::Provider(error) if error.code == ErrorCode::NotFound), "{error}");
    assert!(matches!(begin(EntryId::from(uuid::Uuid::nil())).await.unwrap_err(), BrokerError::NotFound(_)));
    let all = world.broker.rotations().list(&world.access, &RotationFilter::default(), None).await.unwrap();
    assert!(all.rotations.is_empty());
}

#[tokio::test]
async fn a_given_password_is_used_and_a_bad_one_refused() {
    let (world, _, entry) = world().await;
    let begin = async |password| {
        world.broker.rotations().begin(&world.access, BeginRotation::new(entry.id).password(password)).await
    };
    for (password, expected) in [
        (NewPassword::Given("".into()), InvalidInput::Required { field: "password" }),
        (NewPassword::Given("a\nb".into()), InvalidInput::ControlCharacter { field: "password" }),
        (NewPassword::Given("x".repeat(1_025).into()), InvalidInput::TooLong { field: "password", limit: 1_024 }),
        (NewPassword::Given(OLD.into()), InvalidInput::SamePassword),
        (
            NewPassword::Generated(PasswordPolicy::default().length(4)),
            InvalidInput::PasswordLength { least: 12, most: 128 },
        ),
    ] {
        let error = begin(password).await.unwrap_err();
        assert!(matches!(&error, BrokerError::Invalid(invalid) if *invalid == expected), "{error}");
    }
    let error = begin(NewPassword::Encrypted("00".repeat(40))).await.unwrap_err();
    assert!(matches!(&error, BrokerError::NotEncrypted { field } if field == "password"), "{error}");
    let key = ClientKey::from_hex(&world.encryption_key).unwrap();
    let begun = begin(NewPassword::Encrypted(key.encrypt(&"a given one".into()).unwrap())).await.unwrap();
    assert_eq!(text(begun.password.as_ref()), Some("a given one"));
    world.commit(begun.rotation.id).await;
    assert_eq!(world.item_password(ITEM), "a given one");
}

#[tokio::test]
async fn there_is_one_open_rotation_for_an_item_over_all_entries_and_connections() {
    let (world, connection, entry) = world().await;
    let reference = world.item(VAULT, ITEM).reference;
    let second = world.connect("automation").await;
    let new = |user: &str, connection: &Connection| {
        EntryContent::bound(user, "https://acme.example", connection.id, reference.as_str())
    };
    let sibling = world.broker.entries().create(&world.access, new("sibling", &connection)).await.unwrap();
    let over_another = world.broker.entries().create(&world.access, new("other", &second)).await.unwrap();
    let (rotation, _) = world.begin(&entry).await;
    for entry in [&entry, &sibling, &over_another] {
        let refused = world.broker.rotations().begin(&world.access, BeginRotation::new(entry.id)).await.unwrap_err();
        assert!(matches!(refused, BrokerError::RotationOpen), "{refused}");
    }
    // Another item, and the same item in another workspace, are unaffected.
    let other_item = world.bind(&connection, "Wide World Importers").await;
    world.begin(&other_item).await;
    world.broker.rotations().abandon(&world.access, rotation.id, false).await.unwrap();
    world.begin(&over_another).await;
}

#[tokio::test]
async fn of_many_who_begin_at_once_one_gets_a_password() {
    let (world, _, entry) = world().await;
    let begins: Vec<_> = (0..10)
        .map(|_| {
            let (broker, access, id) = (world.broker.clone(), world.access.clone(), entry.id);
            tokio::spawn(async move { broker.rotations().begin(&access, BeginRotation::new(id)).await })
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
async fn of_beginning_and_deleting_at_once_one_happens() {
    let (world, connection, _) = world().await;
    for round in 0..10 {
        let new = EntryContent::bound(
            format!("user-{round}"),
            "https://acme.example",
            connection.id,
            world.item(VAULT, ITEM).reference,
        );
        let entry = world.broker.entries().create(&world.access, new).await.unwrap();
        let (broker, access, id) = (world.broker.clone(), world.access.clone(), entry.id);
        let deleted = tokio::spawn(async move { broker.entries().delete(&access, &id.into()).await });
        let begun = world.broker.rotations().begin(&world.access, BeginRotation::new(entry.id)).await;
        let deleted = deleted.await.unwrap();
        assert_ne!(begun.is_ok(), deleted.is_ok(), "{begun:?} {deleted:?}");
        if let Ok(begun) = begun {
            world.broker.rotations().abandon(&world.access, begun.rotation.id, false).await.unwrap();
        }
    }
}

#[tokio::test]
async fn nothing_tells_that_another_workspace_has_used_an_id() {
    let (world, _, entry) = world().await;
    let id = RotationId::generate();
    let first = world.broker.rotations().begin(&world.access, BeginRotation::new(entry.id).id(id)).await.unwrap();
    let other = world.other_workspace().await;
    let new = world.new_connection("automation");
    let connection = world.broker.connections().create(&other, new).await.unwrap();
    let new = EntryContent::bound("user", "https://acme.example", connection.id, world.item(VAULT, ITEM).reference);
    let entry = world.broker.entries().create(&other, new).await.unwrap();
    let second = world.broker.rotations().begin(&other, BeginRotation::new(entry.id).id(id)).await.unwrap();
    assert_eq!((second.rotation.id, second.rotation.state), (id, RotationState::Prepared));
    assert_ne!(text(second.password.as_ref()), text(first.password.as_ref()));
    world.broker.rotations().abandon(&other, id, false).await.unwrap();
    assert_eq!(world.rotation(id).await, first.rotation, "each is its own");
    let revealed = world.broker.rotations().reveal(&world.access, id).await.unwrap();
    assert_eq!(Some(text(Some(&revealed))), Some(text(first.password.as_ref())));
}

#[tokio::test]
async fn a_caller_that_was_cut_off_begins_again_with_its_id_and_gets_the_same_password() {
    let (world, connection, entry) = world().await;
    let begin = |entry: &VaultEntry, id| BeginRotation::new(entry.id).id(id);
    let id = RotationId::generate();
    let first = world.broker.rotations().begin(&world.access, begin(&entry, id)).await.unwrap();
    let again = world.broker.rotations().begin(&world.access, begin(&entry, id)).await.unwrap();
    assert_eq!(first.rotation, again.rotation);
    assert_eq!(first.rotation.id, id);
    assert_eq!(text(first.password.as_ref()), text(again.password.as_ref()));
    assert!(again.password.is_some());
    // The password comes again only to the one that began, and to those who may reveal it.
    let with = async |scope| {
        let key = world.broker.api_keys().create(&world.access, "another", scope).await.unwrap();
        let access = world.broker.authenticate(&key.api_key).await.unwrap();
        world.broker.rotations().begin(&access, begin(&entry, id)).await
    };
    let refused = with(Scopes::from(Scope::Rotate)).await.unwrap_err();
    assert!(matches!(refused, BrokerError::Forbidden { needs: Scope::Admin }), "{refused}");
    let revealed = with(Scopes::from(Scope::Rotate).with(Scope::Admin)).await.unwrap();
    assert_eq!(text(revealed.password.as_ref()), text(first.password.as_ref()));
    // Without an id, and for another entry, the usual rules apply.
    let other = world.bind(&connection, "Wide World Importers").await;
    let refused = async |begin| world.broker.rotations().begin(&world.access, begin).await.unwrap_err();
    assert!(matches!(refused(BeginRotation::new(entry.id)).await, BrokerError::RotationOpen));
    assert!(matches!(refused(begin(&other, id)).await, BrokerError::Invalid(InvalidInput::RotationId)));
    world.broker.rotations().commit(&world.access, id).await.unwrap();
    assert!(matches!(refused(begin(&entry, id)).await, BrokerError::RotationState { .. }));
}
