//! The audit records of password rotations, and their behaviour when the log cannot be written.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyway::audit::{
    AuditActor, AuditError, AuditEvent, AuditSink, AuditSource, Durability, InMemoryAudit, Operation, Receipt,
};
use keyway::keyway_runtime::Fields;
use keyway::rotations::{BeginRotation, RotationFilter, RotationState};
use keyway::{BrokerError, EntryContent, ResolveRequest};
use keyway_emulator_onepassword::{Endpoint, Fault, FaultRule, VaultAccess};

use crate::audit::{pairs, records, since};
use crate::rotation::{ITEM, VAULT};
use crate::support::World;

/// Longer than any pause.
const LONG: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn every_step_of_a_rotation_is_recorded_with_its_outcome_and_never_its_password() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, ITEM).await;
    let before = records(&world).await.len();
    let (rotation, _) = world.begin(&entry).await;
    world.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::status(503)));
    world.commit(rotation.id).await;
    let request = ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS);
    world.broker.resolve(&world.access, request).await.unwrap();
    world.broker.rotations().reveal(&world.access, rotation.id).await.unwrap();
    world.clock.advance(LONG);
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
    // Operations that only read the journal are not recorded.
    world.rotation(rotation.id).await;
    world.broker.rotations().list(&world.access, &RotationFilter::default(), None).await.unwrap();

    let all = records(&world).await.split_off(before);
    let steps: Vec<_> = all.iter().map(|record| (&*record.operation, record.outcome.as_str())).collect();
    assert_eq!(
        steps,
        [
            ("begin_rotation", "begun"),
            ("begin_rotation", "ok"),
            ("commit_rotation", "begun"),
            ("commit_rotation", "WRITE_BACK_PENDING"),
            ("resolve", "ok"),
            ("reveal_rotation", "ok"),
            ("write_back", "begun"),
            ("write_back", "ok"),
        ]
    );
    let reference = world.item(VAULT, ITEM).reference;
    for record in &all {
        assert_eq!(record.subject.rotation, Some(rotation.id));
        assert_eq!(record.workspace, Some(world.access.workspace()));
        if record.operation != "begin_rotation" && record.outcome.as_str() != "begun" {
            assert_eq!((record.subject.entry, record.subject.connection), (Some(entry.id), Some(connection.id)));
            assert_eq!(record.subject.reference.as_deref(), Some(&*reference));
        }
        let by_itself = record.operation == "write_back";
        assert_eq!(record.actor == AuditActor::System, by_itself, "{record:?}");
    }
    let [_, given, _, pending, resolved, revealed, begun, written] = all.as_slice() else { panic!() };
    for release in [given, revealed] {
        assert_eq!(release.subject.fields, ["password"]);
        assert_eq!(release.subject.source, Some(AuditSource::Rotation));
    }
    assert_eq!(resolved.subject.fields, ["username", "password"]);
    assert!(pending.subject.fields.is_empty(), "nothing was written");
    assert_eq!((written.begun, written.subject.fields.len(), written.subject.source), (Some(begun.number), 1, None));
    assert!(world.broker.audit().verify().await.unwrap().is_good());
}

#[tokio::test]
async fn a_rotation_that_does_not_get_where_it_was_to_is_recorded_as_that() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, ITEM).await;
    let other = world.bind(&connection, "Wide World Importers").await;
    let (rotation, _) = world.begin(&entry).await;
    let before = records(&world).await.len();
    let access = |access| world.emulator.set_access("automation", VAULT, Some(access)).unwrap();
    world.broker.rotations().begin(&world.access, BeginRotation::new(entry.id)).await.unwrap_err();
    world.broker.rotations().retry(&world.access, rotation.id, false).await.unwrap_err();
    access(VaultAccess::ReadOnly);
    world.broker.rotations().begin(&world.access, BeginRotation::new(other.id)).await.unwrap();
    world.commit(rotation.id).await;
    world.broker.rotations().abandon(&world.access, rotation.id, false).await.unwrap_err();
    world.broker.rotations().abandon(&world.access, rotation.id, true).await.unwrap();
    let expected = [
        ("begin_rotation", "CONFLICT"),
        ("retry_rotation", "CONFLICT"),
        ("begin_rotation", "begun"),
        ("begin_rotation", "SKIPPED"),
        ("commit_rotation", "begun"),
        ("commit_rotation", "WRITE_BACK_PENDING"),
        ("abandon_rotation", "CONFLICT"),
        ("abandon_rotation", "begun"),
        ("abandon_rotation", "ok"),
    ];
    assert_eq!(since(&world, before).await, pairs(&expected));
}

/// A log that accepts every record except those of one kind.
#[derive(Default)]
struct Choosy {
    log: InMemoryAudit,
    refused: Mutex<Option<(Operation, &'static str)>>,
}

impl Choosy {
    fn refuse(&self, operation: Operation, outcome: &'static str) {
        *self.refused.lock().unwrap() = Some((operation, outcome));
    }

    fn refuse_nothing(&self) {
        *self.refused.lock().unwrap() = None;
    }
}

#[async_trait::async_trait]
impl AuditSink for Choosy {
    async fn append(&self, event: &AuditEvent, durability: Durability) -> Result<Receipt, AuditError> {
        let refused = *self.refused.lock().unwrap();
        if refused == Some((event.operation, event.outcome.as_str())) {
            return Err(AuditError::unwritable("No space left on device"));
        }
        self.log.append(event, durability).await
    }
}

async fn with_choosy_log() -> (World, keyway::entries::VaultEntry, Arc<Choosy>) {
    let (mut world, connection) = World::connected().await;
    let new = EntryContent::bound("acme", "https://acme.example", connection.id, world.item(VAULT, ITEM).reference);
    let entry = world.broker.entries().create(&world.access, new).await.unwrap();
    let log = Arc::new(Choosy::default());
    world.restart_with(log.clone(), |broker| broker).await;
    (world, entry, log)
}

#[tokio::test]
async fn a_new_password_that_cannot_be_recorded_is_given_to_nobody() {
    let (world, entry, log) = with_choosy_log().await;
    let begin = || world.broker.rotations().begin(&world.access, BeginRotation::new(entry.id));
    let all = async || {
        world.broker.rotations().list(&world.access, &RotationFilter::default(), None).await.unwrap().rotations
    };
    log.refuse(Operation::BeginRotation, "begun");
    world.emulator.reset_calls();
    assert!(matches!(begin().await, Err(BrokerError::Audit(AuditError::Unwritable(_)))));
    assert!(all().await.is_empty());
    assert_eq!(world.emulator.calls().total, 0, "the provider was not asked");

    log.refuse(Operation::BeginRotation, "ok");
    let error = begin().await.map(|_| ()).unwrap_err();
    assert!(matches!(error, BrokerError::Audit(AuditError::OutcomeUnrecorded(_))), "{error}");
    let [prepared] = all().await.try_into().unwrap();
    assert_eq!(prepared.state, RotationState::Prepared, "it waits to be abandoned");
    log.refuse(Operation::RevealRotation, "ok");
    let revealed = world.broker.rotations().reveal(&world.access, prepared.id).await;
    assert!(matches!(revealed, Err(BrokerError::Audit(_))));
    world.broker.rotations().abandon(&world.access, prepared.id, false).await.unwrap();
    log.refuse_nothing();
    world.begin(&entry).await;
}

#[tokio::test]
async fn a_change_that_was_made_is_said_to_be_made_although_that_cannot_be_recorded() {
    let (world, entry, log) = with_choosy_log().await;
    log.refuse(Operation::DeleteEntry, "ok");
    let error = world.broker.entries().delete(&world.access, &entry.id.into()).await.unwrap_err().to_string();
    assert!(error.contains("it was done") && error.contains("No space left"), "{error}");
    assert!(!error.contains("nothing is released or changed"), "{error}");
    log.refuse_nothing();
    let gone = world.broker.entries().get(&world.access, &entry.id.into()).await;
    assert!(matches!(gone, Err(BrokerError::NotFound(_))));
    // A change that was not made is not reported as made.
    log.refuse(Operation::DeleteEntry, "NOT_FOUND");
    let error = world.broker.entries().delete(&world.access, &entry.id.into()).await.unwrap_err();
    assert!(matches!(error, BrokerError::Audit(AuditError::Unwritable(_))), "{error}");
}

#[tokio::test]
async fn a_write_that_cannot_be_recorded_is_not_made_until_it_can() {
    let (world, entry, log) = with_choosy_log().await;
    let (rotation, password) = world.begin(&entry).await;
    world.writes();
    log.refuse(Operation::CommitRotation, "begun");
    let refused = world.broker.rotations().commit(&world.access, rotation.id).await;
    assert!(matches!(refused, Err(BrokerError::Audit(_))));
    assert_eq!((world.rotation(rotation.id).await.state, world.writes()), (RotationState::Prepared, 0));

    world.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::status(503)));
    log.refuse_nothing();
    let waiting = world.commit(rotation.id).await;
    assert_eq!((waiting.state, world.writes()), (RotationState::Committing, 1));
    world.clock.advance(LONG);
    log.refuse(Operation::WriteBack, "begun");
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 0);
    assert_eq!((world.rotation(rotation.id).await, world.writes()), (waiting, 0), "not even claimed");
    log.refuse_nothing();
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
    assert_eq!((world.rotation(rotation.id).await.state, world.writes()), (RotationState::Done, 1));
    assert_eq!(world.item_password(ITEM), secrecy::ExposeSecret::expose_secret(&password));
}

#[tokio::test]
async fn the_outcome_of_a_write_is_recorded_also_when_its_caller_has_gone_away() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, ITEM).await;
    let (rotation, _) = world.begin(&entry).await;
    let before = records(&world).await.len();
    world.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::Delay { milliseconds: 300 }));
    let (broker, access) = (world.broker.clone(), world.access.clone());
    let commit = tokio::spawn(async move { broker.rotations().commit(&access, rotation.id).await });
    while !world.emulator.faults().is_empty() {
        tokio::task::yield_now().await;
    }
    commit.abort();
    while since(&world, before).await.len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let expected = [("commit_rotation", "begun"), ("commit_rotation", "ok")];
    assert_eq!(since(&world, before).await, pairs(&expected));
}
