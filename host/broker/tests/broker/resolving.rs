//! Resolving bound entries: the values, their source and their cost.

use std::time::Duration;

use keyway::budgets::BudgetOptions;
use keyway::connections::ConnectionChanges;
use keyway::entries::VaultEntry;
use keyway::keyway_runtime::contract::NoCodeReason;
use keyway::keyway_runtime::{ErrorCode, Fields};
use keyway::{BrokerError, CacheTtl, EntryContent, EntrySelector, ResolveRequest, Source};
use keyway_emulator_onepassword::{Emulator, Endpoint, Fault, FaultRule, ItemChange, Options, RetryAfterForm};

use crate::support::{World, text};

const WITH_CODE: &str = "Northwind Supplier Portal";
const WITHOUT_CODE: &str = "Wide World Importers";

fn password(world: &World, title: &str, password: &str) {
    let change = ItemChange { password: Some(password.into()), ..ItemChange::default() };
    world.emulator.change_item("Automation", title, &change).unwrap();
}

async fn set_ttl(world: &World, entry: &VaultEntry, ttl: CacheTtl) {
    let keyway::entries::CredentialSource::Bound(binding) = &entry.credentials else { panic!("not bound") };
    let changes = ConnectionChanges::default().cache_ttl(ttl);
    world.broker.connections().update(&world.access, binding.connection_id, changes).await.unwrap();
}

#[tokio::test]
async fn user_name_password_and_code_are_those_of_the_item() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, WITH_CODE).await;
    let resolved = world.resolve(&entry).await;
    assert_eq!(text(resolved.username.as_ref()), Some("orders@acme.example"));
    assert_eq!(text(resolved.password.as_ref()), Some("7Tq-wren-obelisk-41"));
    assert_eq!(resolved.source, Source::Live);
    let code = resolved.one_time_code.unwrap();
    assert_eq!(text(Some(&code.code)).map(str::len), Some(6));
    assert_eq!((code.period_seconds, code.expires_at % 30), (30, 0));
    assert!(!resolved.revision.is_empty());
    assert!(resolved.timings.provider.unwrap() <= resolved.timings.total);
}

#[tokio::test]
async fn only_what_was_asked_for_is_returned() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, WITH_CODE).await;
    let only_password = Fields { password: true, ..Fields::default() };
    for _ in 0..2 {
        let request = ResolveRequest::new(entry.id).fields(only_password);
        let resolved = world.broker.resolve(&world.access, request).await.unwrap();
        assert!(resolved.password.is_some() && resolved.username.is_none() && resolved.one_time_code.is_none());
    }
}

#[tokio::test]
async fn an_entry_can_be_named_by_user_and_domain() {
    let (world, connection) = World::connected().await;
    world.bind(&connection, WITHOUT_CODE).await;
    let pair = EntrySelector::Pair { user: WITHOUT_CODE.into(), domain: "https://acme.example".into() };
    let resolved = world.broker.resolve(&world.access, ResolveRequest::new(pair)).await.unwrap();
    assert_eq!(text(resolved.password.as_ref()), Some("m4ngo-Lattice-88"));
}

#[tokio::test]
async fn within_its_duration_a_value_costs_no_call_and_after_it_one() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, WITHOUT_CODE).await;
    world.credentials(&entry).await;
    password(&world, WITHOUT_CODE, "changed");
    world.item_reads();
    world.clock.advance(Duration::from_secs(299));
    let cached = world.credentials(&entry).await;
    assert_eq!(cached.source, Source::Cached { age: Duration::from_secs(299) });
    assert_eq!(text(cached.password.as_ref()), Some("m4ngo-Lattice-88"));
    assert_eq!((world.item_reads(), cached.timings.provider), (0, None));
    world.clock.advance(Duration::from_secs(1));
    let live = world.credentials(&entry).await;
    assert_eq!((live.source, text(live.password.as_ref())), (Source::Live, Some("changed")));
    assert_eq!(world.item_reads(), 1);
    assert_ne!(live.revision, cached.revision);
}

/// The table of the product page, with its component and its server.
#[tokio::test]
async fn each_option_of_the_cache_duration_holds_to_the_millisecond() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, WITHOUT_CODE).await;
    set_ttl(&world, &entry, CacheTtl::OFF).await;
    world.item_reads();
    for _ in 0..3 {
        assert_eq!(world.credentials(&entry).await.source, Source::Live);
        assert_eq!(world.item_reads(), 1, "off asks on every run");
    }
    for (ttl, seconds) in [
        (CacheTtl::from_seconds(1), 1),
        (CacheTtl::DEFAULT, 300),
        (CacheTtl::from_seconds(301), 301),
        (CacheTtl::ONE_HOUR, 3_600),
        (CacheTtl::ONE_DAY, 86_400),
    ] {
        set_ttl(&world, &entry, ttl).await;
        world.broker.connections().clear_cache(&world.access, connection.id).await.unwrap();
        assert_eq!(world.credentials(&entry).await.source, Source::Live, "cleared counts at once");
        let almost = Duration::from_secs(seconds) - Duration::from_millis(1);
        world.clock.advance(almost);
        assert_eq!(world.credentials(&entry).await.source, Source::Cached { age: almost });
        assert_eq!(world.item_reads(), 1);
        world.clock.advance(Duration::from_millis(1));
        assert_eq!((world.credentials(&entry).await.source, world.item_reads()), (Source::Live, 1), "{seconds} s");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_cancelled_while_it_waits_harms_no_other() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, WITHOUT_CODE).await;
    let rule = FaultRule::next_of(Endpoint::Item, Fault::Delay { milliseconds: 300 });
    world.emulator.fault(rule);
    world.item_reads();
    let resolve = || {
        let (broker, access) = (world.broker.clone(), world.access.clone());
        let request = ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS);
        tokio::spawn(async move { broker.resolve(&access, request).await })
    };
    let waiting: Vec<_> = (0..10).map(|_| resolve()).collect();
    // The request has reached the server: all others wait for it, or will.
    while world.emulator.calls().of(Endpoint::Item) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (number, request) in waiting.into_iter().enumerate() {
        if number % 2 == 0 {
            request.abort();
        } else {
            let resolved = request.await.unwrap().unwrap();
            assert_eq!(text(resolved.password.as_ref()), Some("m4ngo-Lattice-88"));
        }
    }
    assert_eq!(world.item_reads(), 1);
}

#[tokio::test]
async fn a_code_is_live_beside_cached_credentials_for_one_call() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, WITH_CODE).await;
    world.resolve(&entry).await;
    world.item_reads();
    world.clock.advance(Duration::from_secs(10));
    let resolved = world.resolve(&entry).await;
    assert_eq!(resolved.source, Source::Cached { age: Duration::from_secs(10) });
    assert!(resolved.one_time_code.is_some());
    assert_eq!(world.item_reads(), 1);
}

#[tokio::test]
async fn resolving_200_entries_without_codes_again_asks_nobody() {
    let options = Options { bulk_items: 400, ..Options::default() };
    let world = World::of(Emulator::start_with(options).unwrap(), BudgetOptions::default()).await;
    let connection = world.connect("automation").await;
    let account = world.emulator.account("automation").unwrap();
    let items = account.vault("Bulk").unwrap().items.iter().filter(|item| !item.has_one_time_code);
    let mut entries = Vec::new();
    for item in items {
        let new = EntryContent::bound(&item.title, "https://acme.example", connection.id, item.reference.as_str());
        entries.push(world.broker.entries().create(&world.access, new).await.unwrap());
    }
    assert_eq!(entries.len(), 200);
    world.item_reads();
    for reads in [200, 0] {
        for entry in &entries {
            let resolved = world.resolve(entry).await;
            assert!(resolved.password.is_some() && resolved.one_time_code.is_none());
            assert_eq!(resolved.no_code.unwrap().reason, NoCodeReason::Absent);
            assert_eq!(resolved.code_revision.as_deref(), Some("1"));
        }
        assert_eq!(world.emulator.calls().total.min(1), u64::from(reads > 0));
        assert_eq!(world.item_reads(), reads);
    }
}

#[tokio::test]
async fn a_code_that_is_added_in_the_secret_manager_shows_at_once_to_who_asks_for_it_alone() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, WITHOUT_CODE).await;
    assert!(world.resolve(&entry).await.one_time_code.is_none());
    let otpauth = Some("otpauth://totp/Importers?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ".into());
    let change = ItemChange { otpauth, ..ItemChange::default() };
    world.emulator.change_item("Automation", WITHOUT_CODE, &change).unwrap();
    world.item_reads();
    assert!(world.resolve(&entry).await.one_time_code.is_none(), "for as long as its other values are cached");
    assert_eq!(world.item_reads(), 0);
    let request = ResolveRequest::new(entry.id).fields(Fields::ONE_TIME_CODE);
    assert!(world.broker.resolve(&world.access, request).await.unwrap().one_time_code.is_some());
    assert_eq!(world.item_reads(), 1);
    let resolved = world.resolve(&entry).await;
    assert_eq!(resolved.source, Source::Cached { age: Duration::ZERO });
    assert!(resolved.one_time_code.is_some(), "and from then on to all");
    assert_ne!(resolved.code_revision.as_ref(), Some(&resolved.revision), "the code is from a later state");
    assert_eq!(world.item_reads(), 1);
    world.credentials(&entry).await;
    assert_eq!(world.item_reads(), 0, "a resolve without a code makes no call");
}

#[tokio::test]
async fn an_item_that_is_no_login_says_so_when_it_is_checked_and_when_it_is_resolved() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Relecloud API Key").await;
    let reference = &entry.binding().unwrap().reference;
    let reason = world.broker.connections().check_item(&world.access, connection.id, reference).await.unwrap();
    assert!(reason.unwrap().contains("API credential"));
    for _ in 0..2 {
        let resolved = world.resolve(&entry).await;
        assert!(resolved.username.is_none() && resolved.password.is_none());
        assert!(resolved.no_values.unwrap().contains("bind the entry to a login item"));
        assert!(resolved.no_code.unwrap().message.contains("API credential"));
    }
    assert!(world.credentials(&entry).await.no_values.is_some());
    let login = world.bind(&connection, WITHOUT_CODE).await;
    let reference = &login.binding().unwrap().reference;
    let reason = world.broker.connections().check_item(&world.access, connection.id, reference).await.unwrap();
    assert_eq!((reason, world.resolve(&login).await.no_values), (None, None));
}

#[tokio::test]
async fn the_entrys_own_duration_counts_before_the_connections() {
    let (world, connection) = World::connected().await;
    let reference = world.item("Automation", WITHOUT_CODE).reference;
    let own = |user: &str, seconds| {
        let mut new = EntryContent::bound(user, "https://acme.example", connection.id, reference.as_str());
        new.binding_mut().unwrap().cache_ttl = Some(CacheTtl::from_seconds(seconds));
        new
    };
    let hour = world.broker.entries().create(&world.access, own("hour", 3_600)).await.unwrap();
    let off = world.broker.entries().create(&world.access, own("off", 0)).await.unwrap();
    let default = world.bind(&connection, WITHOUT_CODE).await;
    assert_eq!(world.credentials(&off).await.source, Source::Live);
    assert_eq!(
        world.credentials(&hour).await.source,
        Source::Live,
        "an entry without caching leaves nothing for others"
    );
    assert_eq!(world.credentials(&off).await.source, Source::Live, "and takes nothing from them");
    world.clock.advance(Duration::from_secs(300));
    assert!(matches!(world.credentials(&hour).await.source, Source::Cached { .. }));
    assert_eq!(world.credentials(&default).await.source, Source::Live);
}

#[tokio::test]
async fn a_lowered_duration_and_clearing_count_at_once() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, WITHOUT_CODE).await;
    world.credentials(&entry).await;
    world.clock.advance(Duration::from_secs(100));
    assert!(matches!(world.credentials(&entry).await.source, Source::Cached { .. }));
    set_ttl(&world, &entry, CacheTtl::from_seconds(60)).await;
    assert_eq!(world.credentials(&entry).await.source, Source::Live);
    assert!(matches!(world.credentials(&entry).await.source, Source::Cached { .. }));
    world.broker.connections().clear_cache(&world.access, connection.id).await.unwrap();
    assert_eq!(world.credentials(&entry).await.source, Source::Live);
    set_ttl(&world, &entry, CacheTtl::OFF).await;
    assert_eq!(world.credentials(&entry).await.source, Source::Live);
    assert_eq!(world.credentials(&entry).await.source, Source::Live);
}

#[tokio::test]
async fn fifty_cold_readers_cost_one_call_and_one_login() {
    let (mut world, connection) = World::connected().await;
    let entry = world.bind(&connection, WITH_CODE).await;
    // Of the callers that request a code as well, each that arrives after the end of a call needs
    // its own call, but no sign-in.
    for (fields, most_reads) in [(Fields::CREDENTIALS, 1), (Fields::ALL, 50)] {
        world.restart().await;
        world.emulator.reset_calls();
        let readers: Vec<_> = (0..50)
            .map(|_| {
                let (broker, access) = (world.broker.clone(), world.access.clone());
                let request = ResolveRequest::new(entry.id).fields(fields);
                tokio::spawn(async move { broker.resolve(&access, request).await })
            })
            .collect();
        for reader in readers {
            let resolved = reader.await.unwrap().unwrap();
            assert_eq!(text(resolved.password.as_ref()), Some("7Tq-wren-obelisk-41"));
            assert_eq!(resolved.one_time_code.is_some(), fields.one_time_code);
        }
        assert_eq!(world.emulator.calls().logins, 1);
        let reads = world.item_reads();
        assert!((1..=most_reads).contains(&reads), "{reads}");
    }
}

#[tokio::test]
async fn an_item_that_is_gone_is_not_found_and_asked_for_again_only_after_a_while() {
    let (world, connection) = World::connected().await;
    let vault = world.item("Automation", WITHOUT_CODE).reference;
    let (vault, _) = vault.rsplit_once('/').unwrap();
    let new = EntryContent::bound(
        "gone",
        "https://acme.example",
        connection.id,
        format!("{vault}/aaaaaaaaaaaaaaaaaaaaaaaaaa"),
    );
    let entry = world.broker.entries().create(&world.access, new).await.unwrap();
    world.item_reads();
    for _ in 0..5 {
        let error = world.broker.resolve(&world.access, ResolveRequest::new(entry.id)).await.unwrap_err();
        assert!(matches!(&error, BrokerError::Provider(error) if error.code == ErrorCode::NotFound), "{error}");
    }
    assert_eq!(world.item_reads(), 1);
    world.clock.advance(Duration::from_secs(5));
    assert!(world.broker.resolve(&world.access, ResolveRequest::new(entry.id)).await.is_err());
    assert_eq!(world.item_reads(), 1);
}

#[tokio::test]
async fn when_the_provider_refuses_nothing_too_old_is_returned_and_the_reason_is_kept() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, WITHOUT_CODE).await;
    world.credentials(&entry).await;
    world.emulator.fault(FaultRule::next(Fault::rate_limited(17, RetryAfterForm::Header)).always());
    assert!(matches!(world.credentials(&entry).await.source, Source::Cached { .. }), "needs no call");
    world.clock.advance(Duration::from_secs(300));
    let error = world.broker.resolve(&world.access, ResolveRequest::new(entry.id)).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(17)), "{error}");
    assert!(!error.is_internal());
    world.emulator.clear_faults();
    world.clock.advance(Duration::from_secs(17));
    assert_eq!(world.credentials(&entry).await.source, Source::Live);
}

/// The password of an entry whose previous password was rejected.
async fn reject(world: &World, entry: &VaultEntry, revision: &str) -> keyway::Resolution {
    let request = ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS).rejected(revision);
    world.broker.resolve(&world.access, request).await.unwrap()
}

#[tokio::test]
async fn a_password_that_did_not_work_is_fetched_anew_for_all_who_share_the_item() {
    let (world, connection) = World::connected().await;
    let second = world.connect("automation").await;
    let entry = world.bind(&connection, WITHOUT_CODE).await;
    let reference = world.item("Automation", WITHOUT_CODE).reference;
    let new = EntryContent::bound("other", "https://acme.example", second.id, reference);
    let over_second = world.broker.entries().create(&world.access, new).await.unwrap();
    let old = world.credentials(&entry).await;
    world.credentials(&over_second).await;
    password(&world, WITHOUT_CODE, "changed at the site and in the vault");
    world.item_reads();

    let healed = reject(&world, &entry, &old.revision).await;
    assert_eq!((healed.source, healed.rejected_is_current), (Source::Live, false));
    assert_eq!(text(healed.password.as_ref()), Some("changed at the site and in the vault"));
    assert_ne!(healed.revision, old.revision);
    assert_eq!(world.item_reads(), 1);
    let shared = world.credentials(&over_second).await;
    assert_eq!((shared.source, &shared.revision), (Source::Live, &healed.revision));
    for _ in 0..10 {
        let late = reject(&world, &over_second, &old.revision).await;
        assert!(matches!(late.source, Source::Cached { .. }) && !late.rejected_is_current);
    }
    assert_eq!(world.item_reads(), 1);
}

#[tokio::test]
async fn rejecting_what_is_still_current_is_said_and_makes_one_call_in_all() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, WITHOUT_CODE).await;
    let old = world.credentials(&entry).await;
    world.item_reads();
    let rejecting: Vec<_> = (0..50)
        .map(|_| {
            let (broker, access) = (world.broker.clone(), world.access.clone());
            let request = ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS).rejected(&old.revision);
            tokio::spawn(async move { broker.resolve(&access, request).await })
        })
        .collect();
    for resolved in rejecting {
        assert!(resolved.await.unwrap().unwrap().rejected_is_current);
    }
    assert!(reject(&world, &entry, &old.revision).await.rejected_is_current);
    assert!(!reject(&world, &entry, "made up").await.rejected_is_current);
    assert_eq!(world.item_reads(), 1);
    let too_long = ResolveRequest::new(entry.id).rejected("x".repeat(257));
    let error = world.broker.resolve(&world.access, too_long).await.unwrap_err();
    assert!(matches!(error, BrokerError::Invalid(_)), "{error}");
}
