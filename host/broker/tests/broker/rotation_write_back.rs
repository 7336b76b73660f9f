//! Writing a rotation's password back: outages, refusals, budgets, and concurrent changes of the
//! item.

use std::time::Duration;

use keyway::budgets::{BudgetOptions, BudgetScope, RateLimits, RequestKind};
use keyway::connections::ConnectionChanges;
use keyway::keyway_runtime::{ErrorCode, Fields};
use keyway::rotations::{BeginRotation, Rotation, RotationFilter, RotationState};
use keyway::{BrokerError, CacheTtl, EntryContent, ResolveRequest};
use keyway_emulator_onepassword::{
    Emulator, Endpoint, Fault, FaultRule, ItemChange, ItemState, Options, RetryAfterForm, VaultAccess,
};
use secrecy::ExposeSecret;

use crate::audit::{pairs, records, since};
use crate::rotation::{ITEM, OLD, VAULT, world};
use crate::support::{World, text};

fn outage() -> FaultRule {
    FaultRule::next_of(Endpoint::PatchItems, Fault::status(503)).always()
}

#[tokio::test]
async fn while_the_item_is_behind_the_site_its_entries_resolve_to_the_sites_password() {
    let (mut world, connection, entry) = world().await;
    let reference = world.item(VAULT, ITEM).reference;
    let mut off = EntryContent::bound("off", "https://acme.example", connection.id, reference);
    off.binding_mut().unwrap().cache_ttl = Some(CacheTtl::OFF);
    let off = world.broker.entries().create(&world.access, off).await.unwrap();
    let (rotation, password) = world.begin(&entry).await;
    world.emulator.fault(outage());
    assert_eq!(world.commit(rotation.id).await.state, RotationState::Committing);
    for _ in 0..2 {
        for entry in [&entry, &off] {
            let resolved = world.resolve(entry).await;
            assert_eq!(text(resolved.password.as_ref()), Some(password.expose_secret()));
            assert_eq!(resolved.rotation, Some(rotation.id), "and says so");
            assert_eq!(text(resolved.username.as_ref()), Some("orders@acme.example"));
        }
        world.restart().await;
    }
    assert_eq!(world.item_password(ITEM), OLD);
    let request = ResolveRequest::new(entry.id).fields(Fields::ONE_TIME_CODE);
    let code = world.broker.resolve(&world.access, request).await.unwrap();
    assert!(code.password.is_none() && code.rotation.is_none());
}

#[tokio::test]
async fn the_password_that_the_site_has_already_needs_no_secret_manager_and_is_told_from_the_items() {
    let (world, _, entry) = world().await;
    let old = world.resolve(&entry).await.revision;
    let (rotation, password) = world.begin(&entry).await;
    world.emulator.fault(FaultRule { endpoint: None, ..outage() });
    assert_eq!(world.commit(rotation.id).await.state, RotationState::Committing);
    let only_password = Fields { username: false, password: true, one_time_code: false };
    let request = || ResolveRequest::new(entry.id).fields(only_password);
    world.emulator.reset_calls();
    let resolved = world.broker.resolve(&world.access, request().rejected(&old)).await.unwrap();
    assert_eq!(text(resolved.password.as_ref()), Some(password.expose_secret()));
    assert_eq!((resolved.rotation, resolved.username.is_some()), (Some(rotation.id), false));
    // The old password was rejected, and this is a different one.
    assert!(resolved.revision != old && !resolved.rejected_is_current);
    let again = world.broker.resolve(&world.access, request().rejected(&resolved.revision)).await.unwrap();
    assert!(again.revision == resolved.revision && again.rejected_is_current);
    assert_eq!(world.emulator.calls().total, 0);

    world.emulator.clear_faults();
    world.clock.advance(Duration::from_secs(60));
    let whole = ResolveRequest::new(entry.id).rejected(&resolved.revision);
    let whole = world.broker.resolve(&world.access, whole).await.unwrap();
    assert_eq!(text(whole.password.as_ref()), Some(password.expose_secret()));
    assert!(whole.revision == resolved.revision && whole.rejected_is_current);
    assert_eq!(whole.code_revision.as_deref(), Some(&*old), "the code is the item's");
}

#[tokio::test]
async fn whoever_may_not_see_the_item_does_not_get_its_new_password_either() {
    let sign_in_address = Some("acme.1password.com".to_owned());
    let emulator = Emulator::start_with(Options { sign_in_address, ..Options::default() }).unwrap();
    let world = World::of(emulator, BudgetOptions::default()).await;
    let (automation, auditor) = (world.connect("automation").await, world.connect("auditor").await);
    let entry = world.bind(&automation, ITEM).await;
    let reference = world.item(VAULT, ITEM).reference;
    let of_auditor = EntryContent::bound("auditor", "https://acme.example", auditor.id, reference);
    let of_auditor = world.broker.entries().create(&world.access, of_auditor).await.unwrap();
    let (rotation, password) = world.begin(&entry).await;
    world.emulator.fault(outage());
    assert_eq!(world.commit(rotation.id).await.state, RotationState::Committing);

    let only_password = Fields { username: false, password: true, one_time_code: false };
    let request = || ResolveRequest::new(of_auditor.id).fields(only_password);
    world.emulator.set_access("auditor", VAULT, None).unwrap();
    let error = world.broker.resolve(&world.access, request()).await.unwrap_err();
    assert!(matches!(&error, BrokerError::Provider(error) if error.code == ErrorCode::NotFound), "{error}");

    world.emulator.set_access("auditor", VAULT, Some(VaultAccess::ReadOnly)).unwrap();
    world.clock.advance(Duration::from_secs(60));
    let resolved = world.broker.resolve(&world.access, request()).await.unwrap();
    assert_eq!(text(resolved.password.as_ref()), Some(password.expose_secret()), "an account with access may resolve");
    assert_eq!(resolved.rotation, Some(rotation.id));
}

#[tokio::test]
async fn an_outage_is_waited_out_with_growing_pauses() {
    let (world, _, entry) = world().await;
    let (rotation, password) = world.begin(&entry).await;
    world.emulator.fault(outage());
    let mut waiting = world.commit(rotation.id).await;
    let wait_of = |waiting: &Rotation| {
        Duration::try_from(waiting.next_attempt_at.unwrap().duration_since(waiting.updated_at)).unwrap()
    };
    let mut longest = Duration::from_secs(10);
    for attempt in 1..=9 {
        assert_eq!((waiting.state, waiting.attempts), (RotationState::Committing, attempt));
        assert_eq!(waiting.reason.as_deref(), Some("unavailable"));
        // Longer while the secret manager is paused for longer.
        let wait = wait_of(&waiting);
        assert!(wait >= longest / 2 && wait <= Duration::from_secs(1_800), "attempt {attempt}: {wait:?}");
        longest = (2 * longest).min(Duration::from_secs(900));
        assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 0, "not before its time");
        world.clock.advance(wait);
        assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
        waiting = world.rotation(rotation.id).await;
    }
    world.emulator.clear_faults();
    world.clock.advance(wait_of(&waiting));
    world.writes();
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
    let done = world.rotation(rotation.id).await;
    assert_eq!((done.state, done.reason, done.message), (RotationState::Done, None, None));
    assert_eq!(world.writes(), 1);
    assert_eq!(world.item_password(ITEM), password.expose_secret());
}

#[tokio::test]
async fn what_the_provider_asks_to_wait_is_waited() {
    let (world, _, entry) = world().await;
    let (rotation, _) = world.begin(&entry).await;
    world.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::rate_limited(120, RetryAfterForm::Header)));
    let waiting = world.commit(rotation.id).await;
    assert_eq!(waiting.reason.as_deref(), Some("rate-limited"));
    assert_eq!(waiting.next_attempt_at.unwrap().duration_since(waiting.updated_at).as_secs(), 120);
}

#[tokio::test]
async fn nothing_is_attempted_while_the_provider_wants_to_be_left_alone_and_six_hours_are_believed_for_one() {
    let (world, _, entry) = world().await;
    let (rotation, _) = world.begin(&entry).await;
    let hour = 3_600;
    let asked = Fault::rate_limited(6 * hour, RetryAfterForm::Header);
    world.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, asked));
    let waiting = world.commit(rotation.id).await;
    assert_eq!(waiting.next_attempt_at.unwrap().duration_since(waiting.updated_at).as_secs(), i64::from(hour));
    let step = Duration::from_secs(600);
    for _ in 0..hour / 600 {
        assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 0);
        assert_eq!(world.rotation(rotation.id).await, waiting, "untouched");
        world.clock.advance(step);
    }
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
    assert_eq!(world.rotation(rotation.id).await.state, RotationState::Done);
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_put_an_attempt_off_for_long() {
    let (world, _, entry) = world().await;
    let (rotation, _) = world.begin(&entry).await;
    world.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::status(503)));
    world.commit(rotation.id).await;
    world.clock.set_wall(world.rotation(rotation.id).await.created_at - jiff::Span::new().hours(24 * 365));
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
    assert_eq!(world.rotation(rotation.id).await.state, RotationState::Done);
}

#[tokio::test]
async fn a_person_can_retry_before_the_time() {
    let (world, _, entry) = world().await;
    let (rotation, _) = world.begin(&entry).await;
    world.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::status(503)));
    assert_eq!(world.commit(rotation.id).await.state, RotationState::Committing);
    let done = world.broker.rotations().retry(&world.access, rotation.id, false).await.unwrap();
    assert_eq!((done.state, done.attempts), (RotationState::Done, 2));
}

#[tokio::test]
async fn what_is_refused_for_days_counts_as_failed_with_its_password_kept_and_is_still_tried_each_hour() {
    let (mut world, _, entry) = world().await;
    let (rotation, password) = world.begin(&entry).await;
    world.emulator.set_access("automation", VAULT, Some(VaultAccess::ReadOnly)).unwrap();
    let refused = world.commit(rotation.id).await;
    assert_eq!((refused.state, refused.reason.as_deref()), (RotationState::Committing, Some("permission-denied")));
    assert!(refused.message.as_deref().unwrap().contains("Write Items"));
    assert!(refused.next_attempt_at.is_some(), "it could be written when the rotation began");
    let quarter_of_a_day = Duration::from_secs(6 * 3_600);
    let mut failed = refused;
    for _ in 0..20 {
        assert_eq!(failed.state, RotationState::Committing);
        world.clock.advance(quarter_of_a_day);
        assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
        failed = world.rotation(rotation.id).await;
        if failed.state == RotationState::WriteBackFailed {
            break;
        }
    }
    assert_eq!((failed.state, failed.next_attempt_at), (RotationState::WriteBackFailed, None));
    assert_eq!((failed.attempts, failed.reason.as_deref()), (20, Some("permission-denied")));
    world.writes();
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 0);
    world.restart().await;
    let open = RotationFilter { states: RotationState::OPEN.to_vec(), entry: None };
    let listed = world.broker.rotations().list(&world.access, &open, None).await.unwrap();
    assert_eq!(listed.rotations, std::slice::from_ref(&failed));
    let revealed = world.broker.rotations().reveal(&world.access, rotation.id).await.unwrap();
    assert_eq!(revealed.expose_secret(), password.expose_secret());
    assert_eq!(world.password_of(&entry).await, password.expose_secret(), "the site has it");
    assert!(matches!(
        world.broker.rotations().begin(&world.access, BeginRotation::new(entry.id)).await,
        Err(BrokerError::RotationOpen)
    ));

    let hour = Duration::from_secs(3_600);
    world.clock.advance(hour);
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
    assert_eq!(world.rotation(rotation.id).await.state, RotationState::WriteBackFailed);
    world.emulator.set_access("automation", VAULT, Some(VaultAccess::ReadWrite)).unwrap();
    world.clock.advance(hour);
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
    assert_eq!(world.rotation(rotation.id).await.state, RotationState::Done, "by itself");
    assert_eq!(world.item_password(ITEM), password.expose_secret());
    let error = world.broker.rotations().reveal(&world.access, rotation.id).await.unwrap_err();
    assert!(matches!(error, BrokerError::RotationState { state: RotationState::Done, .. }), "erased: {error}");
}

#[tokio::test]
async fn a_new_token_takes_up_what_could_not_be_written_with_the_old_one() {
    let (world, connection, entry) = world().await;
    let (rotation, password) = world.begin(&entry).await;
    world.emulator.set_access("automation", VAULT, Some(VaultAccess::ReadOnly)).unwrap();
    assert_eq!(world.commit(rotation.id).await.reason.as_deref(), Some("permission-denied"));

    // Renaming is irrelevant.
    let renamed = ConnectionChanges::default().name("Renamed");
    world.broker.connections().update(&world.access, connection.id, renamed).await.unwrap();
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 0);

    world.emulator.set_access("automation", VAULT, Some(VaultAccess::ReadWrite)).unwrap();
    let settings = world.new_connection("automation").settings;
    let replaced = ConnectionChanges::default().settings(settings);
    world.broker.connections().update(&world.access, connection.id, replaced).await.unwrap();
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
    assert_eq!(world.broker.rotations().get(&world.access, rotation.id).await.unwrap().state, RotationState::Done);
    assert_eq!(world.item_password(ITEM), password.expose_secret());
}

#[tokio::test]
async fn a_new_token_counts_also_when_it_comes_while_the_old_one_is_being_refused() {
    let (mut world, connection, entry) = world().await;
    let (rotation, password) = world.begin(&entry).await;
    world.emulator.set_access("automation", VAULT, Some(VaultAccess::ReadOnly)).unwrap();
    world.emulator.fault(FaultRule::next(Fault::Delay { milliseconds: 1_000 }));
    world.emulator.reset_calls();
    let replace = async {
        while world.emulator.calls().total == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let settings = world.new_connection("automation").settings;
        let replaced = ConnectionChanges::default().settings(settings);
        world.broker.connections().update(&world.access, connection.id, replaced).await.unwrap();
        assert_eq!(world.rotation(rotation.id).await.state, RotationState::Committing, "it is under way");
    };
    let (failed, ()) = tokio::join!(world.commit(rotation.id), replace);
    assert_eq!(failed.reason.as_deref(), Some("permission-denied"));

    world.emulator.set_access("automation", VAULT, Some(VaultAccess::ReadWrite)).unwrap();
    // Also when the process has ended in the meantime.
    world.restart().await;
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
    assert_eq!(world.rotation(rotation.id).await.state, RotationState::Done);
    assert_eq!(world.item_password(ITEM), password.expose_secret());
}

#[tokio::test]
async fn what_cannot_be_written_with_the_new_token_either_is_tried_once_with_it() {
    let (world, connection, entry) = world().await;
    let (rotation, _) = world.begin(&entry).await;
    world.emulator.set_access("automation", VAULT, Some(VaultAccess::ReadOnly)).unwrap();
    world.commit(rotation.id).await;
    let settings = world.new_connection("automation").settings;
    let replaced = ConnectionChanges::default().settings(settings);
    world.broker.connections().update(&world.access, connection.id, replaced).await.unwrap();
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
    let failed = world.rotation(rotation.id).await;
    assert_eq!((failed.reason.as_deref(), failed.attempts), (Some("permission-denied"), 2));
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 0);
}

#[tokio::test]
async fn after_a_committed_rotation_was_given_up_the_items_password_is_not_the_one_from_before() {
    let (world, _, entry) = world().await;
    world.resolve(&entry).await;
    let (rotation, _) = world.begin(&entry).await;
    world.emulator.fault(outage());
    world.commit(rotation.id).await;
    world.emulator.clear_faults();
    // Site and item were repaired by hand.
    world.change(&ItemChange { password: Some("mended".into()), ..ItemChange::default() });
    world.broker.rotations().abandon(&world.access, rotation.id, true).await.unwrap();
    assert_eq!(world.password_of(&entry).await, "mended");
}

#[tokio::test]
async fn the_log_says_of_each_attempt_whether_somebody_has_to_do_something() {
    let (world, _, entry) = world().await;
    let (rotation, _) = world.begin(&entry).await;
    let told = || {
        let attempts = ["could not be written back yet", "was NOT written back", "password rotation done"];
        let logged = crate::logs::logged();
        let of_rotation = logged.lines().filter(|line| line.contains(&rotation.id.to_string()));
        let of_attempts = of_rotation.filter(|line| attempts.iter().any(|attempt| line.contains(attempt)));
        of_attempts.map(|line| line.split_whitespace().nth(1).unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    world.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::status(503)));
    world.commit(rotation.id).await;
    assert_eq!(told(), ["WARN"]);
    world.emulator.set_access("automation", VAULT, Some(VaultAccess::ReadOnly)).unwrap();
    world.broker.rotations().retry(&world.access, rotation.id, false).await.unwrap();
    assert_eq!(told(), ["WARN", "WARN"]);
    world.emulator.set_access("automation", VAULT, Some(VaultAccess::ReadWrite)).unwrap();
    world.broker.rotations().retry(&world.access, rotation.id, false).await.unwrap();
    assert_eq!(told(), ["WARN", "WARN", "INFO"]);
}

#[tokio::test]
async fn an_item_that_is_gone_is_written_when_it_is_restored() {
    let (world, _, entry) = world().await;
    let (rotation, password) = world.begin(&entry).await;
    world.change(&ItemChange { state: Some(ItemState::Deleted), ..ItemChange::default() });
    let waiting = world.commit(rotation.id).await;
    assert_eq!((waiting.state, waiting.reason.as_deref()), (RotationState::Committing, Some("not-found")));
    world.change(&ItemChange { state: Some(ItemState::Active), ..ItemChange::default() });
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
    assert_eq!(world.rotation(rotation.id).await.state, RotationState::Done);
    assert_eq!(world.item_password(ITEM), password.expose_secret());
}

#[tokio::test]
async fn one_stray_refusal_of_the_write_needs_nobody() {
    let page = || Fault::Status {
        status: 403,
        retry_after_seconds: None,
        retry_after_in: RetryAfterForm::Header,
        body: Some("<html>Forbidden</html>".into()),
    };
    for stray in [Fault::status(403), Fault::status(404), page(), Fault::FailedItems { code: 101 }] {
        let (world, _, entry) = world().await;
        let (rotation, password) = world.begin(&entry).await;
        world.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, stray.clone()));
        assert_eq!(world.commit(rotation.id).await.state, RotationState::Committing, "{stray:?}");
        world.clock.advance(Duration::from_secs(10));
        assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
        assert_eq!(world.rotation(rotation.id).await.state, RotationState::Done, "{stray:?}");
        assert_eq!(world.item_password(ITEM), password.expose_secret());
    }
}

#[tokio::test]
async fn a_write_is_done_when_a_read_shows_it_and_until_then_the_new_password_is_the_answer() {
    let (world, _, entry) = world().await;
    world.resolve(&entry).await;
    let (rotation, password) = world.begin(&entry).await;
    // The read before the write is right, and the one after it is a replica's.
    let outdated = FaultRule::next_of(Endpoint::Item, Fault::Outdated).always().after(1);
    world.emulator.fault(outdated);
    let waiting = world.commit(rotation.id).await;
    assert_eq!((waiting.state, waiting.reason.as_deref()), (RotationState::Committing, Some("unconfirmed")));
    assert_eq!(world.item_password(ITEM), password.expose_secret());
    for _ in 0..2 {
        assert_eq!(world.password_of(&entry).await, password.expose_secret());
    }
    world.emulator.clear_faults();
    world.clock.advance(Duration::from_secs(10));
    world.writes();
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
    assert_eq!(world.rotation(rotation.id).await.state, RotationState::Done);
    assert_eq!(world.writes(), 0, "it was written once");
    assert_eq!(world.password_of(&entry).await, password.expose_secret());
}

#[tokio::test]
async fn a_person_can_retry_in_any_pause() {
    let (world, _, entry) = world().await;
    let (rotation, _) = world.begin(&entry).await;
    let asked = Fault::rate_limited(3_000, RetryAfterForm::Header);
    world.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, asked));
    assert_eq!(world.commit(rotation.id).await.state, RotationState::Committing);
    let done = world.broker.rotations().retry(&world.access, rotation.id, false).await.unwrap();
    assert_eq!(done.state, RotationState::Done);
}

#[tokio::test]
async fn an_item_that_changed_elsewhere_than_in_its_password_is_written_all_the_same() {
    let (world, _, entry) = world().await;
    let (rotation, password) = world.begin(&entry).await;
    world.change(&ItemChange { username: Some("new-name".into()), ..ItemChange::default() });
    assert_eq!(world.commit(rotation.id).await.state, RotationState::Done);
    assert_eq!(world.item_password(ITEM), password.expose_secret());
    assert_eq!(text(world.resolve(&entry).await.username.as_ref()), Some("new-name"), "and keeps the change");
}

#[tokio::test]
async fn a_password_that_somebody_changed_meanwhile_is_not_overwritten_unasked() {
    let (world, _, entry) = world().await;
    // Cached, and not reused after the rotation.
    world.resolve(&entry).await;
    let (rotation, password) = world.begin(&entry).await;
    let theirs = ItemChange { password: Some("theirs".into()), ..ItemChange::default() };
    world.change(&theirs);
    world.writes();
    let before = records(&world).await.len();
    let conflicted = world.commit(rotation.id).await;
    assert_eq!(conflicted.state, RotationState::Conflicted);
    let recorded = pairs(&[("commit_rotation", "begun"), ("commit_rotation", "WRITE_BACK_CONFLICT")]);
    assert_eq!(since(&world, before).await, recorded);
    assert_eq!(conflicted.reason.as_deref(), Some("password_changed"));
    assert_eq!(
        world.broker.rotations().retry(&world.access, rotation.id, false).await.unwrap().state,
        conflicted.state
    );
    assert_eq!((world.writes(), world.item_password(ITEM).as_str()), (0, "theirs"));
    assert_eq!(world.password_of(&entry).await, "theirs", "the item is the source of truth");
    let revealed = world.broker.rotations().reveal(&world.access, rotation.id).await.unwrap();
    assert_eq!(revealed.expose_secret(), password.expose_secret());

    let done = world.broker.rotations().retry(&world.access, rotation.id, true).await.unwrap();
    assert_eq!(done.state, RotationState::Done);
    assert_eq!(world.item_password(ITEM), password.expose_secret());
    assert_eq!(world.password_of(&entry).await, password.expose_secret());
}

#[tokio::test]
async fn a_conflict_stays_one_whatever_keeps_a_retry_from_looking_at_the_item() {
    let (world, _, entry) = world().await;
    let (rotation, password) = world.begin(&entry).await;
    world.change(&ItemChange { password: Some("theirs".into()), ..ItemChange::default() });
    let conflicted = world.commit(rotation.id).await;
    assert_eq!(world.password_of(&entry).await, "theirs");
    let request = || ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS);
    world.emulator.fault(FaultRule::next(Fault::status(503)).always());
    let error = world.broker.rotations().retry(&world.access, rotation.id, false).await.unwrap_err();
    assert!(error.provider_error().is_some(), "{error}");
    assert_eq!(world.rotation(rotation.id).await, conflicted);
    let cached = world.broker.resolve(&world.access, request()).await.unwrap();
    assert_eq!((text(cached.password.as_ref()), cached.rotation), (Some("theirs"), None));

    world.emulator.clear_faults();
    world.clock.advance(Duration::from_secs(60));
    // The foreign change was undone.
    world.change(&ItemChange { password: Some(OLD.into()), ..ItemChange::default() });
    let done = world.broker.rotations().retry(&world.access, rotation.id, false).await.unwrap();
    assert_eq!(done.state, RotationState::Done);
    assert_eq!(world.item_password(ITEM), password.expose_secret());
}

#[tokio::test]
async fn a_password_that_somebody_changed_to_the_new_one_is_done() {
    let (world, _, entry) = world().await;
    let (rotation, password) = world.begin(&entry).await;
    world.change(&ItemChange { password: Some(password.expose_secret().into()), ..ItemChange::default() });
    world.writes();
    assert_eq!(world.commit(rotation.id).await.state, RotationState::Done);
    assert_eq!(world.writes(), 0);
}

#[tokio::test]
async fn an_abandoned_rotation_is_over_and_one_that_was_committed_is_not_abandoned_by_accident() {
    let (world, _, entry) = world().await;
    let (first, _) = world.begin(&entry).await;
    let abandoned = world.broker.rotations().abandon(&world.access, first.id, false).await.unwrap();
    assert_eq!(abandoned.state, RotationState::Abandoned);
    assert_eq!(world.broker.rotations().abandon(&world.access, first.id, false).await.unwrap(), abandoned);
    let error = world.broker.rotations().commit(&world.access, first.id).await.unwrap_err();
    assert!(matches!(error, BrokerError::RotationState { state: RotationState::Abandoned, .. }), "{error}");

    let (second, password) = world.begin(&entry).await;
    world.emulator.fault(outage());
    assert_eq!(world.commit(second.id).await.state, RotationState::Committing);
    let error = world.broker.rotations().abandon(&world.access, second.id, false).await.unwrap_err();
    assert!(error.to_string().contains("only this rotation keeps the site's new password"), "{error}");
    assert_eq!(world.password_of(&entry).await, password.expose_secret());
    let abandoned = world.broker.rotations().abandon(&world.access, second.id, true).await.unwrap();
    assert_eq!(abandoned.state, RotationState::Abandoned);
    assert_eq!(world.password_of(&entry).await, OLD);
    world.clock.advance(Duration::from_secs(86_400));
    world.emulator.clear_faults();
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 0);
    assert_eq!(world.item_password(ITEM), OLD);
}

#[tokio::test]
async fn a_lost_answer_is_found_out_also_when_others_have_used_up_the_reads() {
    let options = BudgetOptions::default().default_tier("1password", "teams");
    let world = World::with_budgets(options).await;
    let mut new = world.new_connection("automation");
    new.cache_ttl = CacheTtl::OFF;
    let connection = world.broker.connections().create(&world.access, new).await.unwrap();
    let entry = world.bind(&connection, ITEM).await;
    let (rotation, _) = world.begin(&entry).await;
    while world.broker.resolve(&world.access, ResolveRequest::new(entry.id)).await.is_ok() {}
    world.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::Drop { handled: true }));
    assert_eq!(world.commit(rotation.id).await.state, RotationState::Committing);
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
    assert_eq!(world.rotation(rotation.id).await.state, RotationState::Done);
}

#[tokio::test]
async fn a_write_that_the_budget_does_not_allow_is_made_when_it_does() {
    let hour = Duration::from_secs(3_600);
    let limits = RateLimits::UNLIMITED.limit(1, hour, RequestKind::Write, BudgetScope::Credential);
    let world = World::with_budgets(BudgetOptions::default().limits("1password", limits)).await;
    let connection = world.connect("automation").await;
    let entry = world.bind(&connection, ITEM).await;
    let (first, _) = world.begin(&entry).await;
    assert_eq!(world.commit(first.id).await.state, RotationState::Done);
    let (second, password) = world.begin(&entry).await;
    world.emulator.reset_calls();
    let waiting = world.commit(second.id).await;
    assert_eq!((waiting.state, waiting.reason.as_deref()), (RotationState::Committing, Some("rate-limited")));
    let wait = Duration::try_from(waiting.next_attempt_at.unwrap().duration_since(waiting.updated_at)).unwrap();
    assert!(wait >= Duration::from_secs(3_600) && wait <= Duration::from_secs(3_720), "{wait:?}");
    let again = world.broker.rotations().retry(&world.access, second.id, false).await.unwrap();
    assert_eq!(again.state, RotationState::Committing, "a person cannot skip the wait either");
    assert_eq!(world.emulator.calls().total, 0, "the secret manager hears nothing of all that");
    assert_eq!(world.password_of(&entry).await, password.expose_secret());
    world.clock.advance(wait);
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
    assert_eq!(world.rotation(second.id).await.state, RotationState::Done);
    assert_eq!(world.item_password(ITEM), password.expose_secret());
}
