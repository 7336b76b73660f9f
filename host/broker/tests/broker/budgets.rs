//! Budgets, back-off and the breaker, with the real component against the emulator: which requests
//! reach the secret manager, and which do not.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use keyway::budgets::{BudgetOptions, BudgetScope, NotCalled, PauseReason, RateLimits, RequestKind};
use keyway::connections::{Connection, ConnectionChanges};
use keyway::entries::VaultEntry;
use keyway::keyway_runtime::{ErrorCode, Fields, Settings};
use keyway::{Broker, BrokerError, CacheTtl, EntryContent, ResolveRequest, Source};
use keyway_emulator_onepassword::{Emulator, Endpoint, Fault, FaultRule, Options, RetryAfterForm, WrongToken};

use crate::support::World;

const ITEM: &str = "Northwind Supplier Portal";
const OTHER_ITEM: &str = "Wide World Importers";

/// The cost of creating a connection: the sign-in's four requests, vaults and keysets.
const VERIFY: u32 = 6;

const HOUR: Duration = Duration::from_secs(3_600);

fn limits(reads: u32, account: u32) -> BudgetOptions {
    let limits = RateLimits::UNLIMITED
        .limit(reads, HOUR, RequestKind::Read, BudgetScope::Credential)
        .limit(100, HOUR, RequestKind::Write, BudgetScope::Credential)
        .limit(account, 24 * HOUR, RequestKind::Any, BudgetScope::Account);
    BudgetOptions::default().limits("1password", limits)
}

/// A world whose connection caches nothing, so that each resolve calls the provider.
async fn live(options: BudgetOptions) -> (World, Connection, VaultEntry) {
    let world = World::with_budgets(options).await;
    let mut new = world.new_connection("automation");
    new.cache_ttl = CacheTtl::OFF;
    let connection = world.broker.connections().create(&world.access, new).await.unwrap();
    let entry = world.bind(&connection, ITEM).await;
    world.emulator.reset_calls();
    (world, connection, entry)
}

async fn resolve(world: &World, entry: &VaultEntry) -> Result<keyway::Resolution, BrokerError> {
    world.broker.resolve(&world.access, ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS)).await
}

fn not_called(result: Result<keyway::Resolution, BrokerError>) -> NotCalled {
    match result {
        Err(BrokerError::NotCalled(not_called)) => not_called,
        other => panic!("{other:?}"),
    }
}

async fn used(broker: &Broker, world: &World, connection: &Connection) -> (u32, u32) {
    let budget = broker.connections().budget(&world.access, connection.id).await.unwrap();
    let used = |scope, requests| budget.allowance(scope, requests).unwrap().used;
    (used(BudgetScope::Credential, RequestKind::Read), used(BudgetScope::Account, RequestKind::Any))
}

fn outage(world: &World) {
    world.emulator.fault(FaultRule::next(Fault::status(503)).always());
}

#[tokio::test]
async fn the_count_is_exactly_what_the_server_saw_also_after_a_restart() {
    let (mut world, connection, entry) = live(limits(1_000, 5_000)).await;
    assert_eq!(used(&world.broker, &world, &connection).await, (VERIFY, VERIFY));
    for _ in 0..5 {
        resolve(&world, &entry).await.unwrap();
    }
    world.broker.connections().list_items(&world.access, connection.id).await.unwrap();
    let seen = |world: &World| VERIFY + u32::try_from(world.emulator.calls().total).unwrap();
    assert_eq!(used(&world.broker, &world, &connection).await, (seen(&world), seen(&world)));
    // Processes that each make one call and exit, one after another, as those of the command line
    // do.
    for _ in 0..20 {
        world.restart().await;
        assert_eq!(used(&world.broker, &world, &connection).await, (seen(&world), seen(&world)));
        resolve(&world, &entry).await.unwrap();
        assert_eq!(used(&world.broker, &world, &connection).await, (seen(&world), seen(&world)));
    }
}

#[tokio::test]
async fn the_limit_is_never_passed_and_the_refusal_says_when_to_come_back() {
    let (world, connection, entry) = live(limits(50, 5_000)).await;
    let (mut made, mut refused) = (0, None);
    for _ in 0..100 {
        match resolve(&world, &entry).await {
            Ok(_) => made += 1,
            Err(BrokerError::NotCalled(not_called)) => refused = Some(not_called),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((made, world.emulator.calls().total), (44, 44));
    let Some(NotCalled::BudgetSpent { scope, requests, limit, retry_after, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((scope, requests, limit), (BudgetScope::Credential, RequestKind::Read, 50));
    assert!(retry_after > Duration::from_secs(3_600) && retry_after <= Duration::from_secs(3_720), "{retry_after:?}");
    world.clock.advance(retry_after);
    resolve(&world, &entry).await.unwrap();
    let budget = world.broker.connections().budget(&world.access, connection.id).await.unwrap();
    let day = budget.allowance(BudgetScope::Account, RequestKind::Any).unwrap();
    assert_eq!(day.used, 51, "the account's day continues");
    let hour = budget.allowance(BudgetScope::Credential, RequestKind::Read).unwrap();
    assert_eq!(hour.remaining(), Some(49));
}

#[tokio::test]
async fn a_burst_of_callers_does_not_pass_the_limit() {
    let (world, _, entry) = live(limits(40, 5_000)).await;
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let (broker, access, id) = (world.broker.clone(), world.access.clone(), entry.id);
            tokio::spawn(
                async move { broker.resolve(&access, ResolveRequest::new(id).fields(Fields::CREDENTIALS)).await },
            )
        })
        .collect();
    let mut made = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => made += 1,
            Err(error) => assert!(matches!(error, BrokerError::NotCalled(_)), "{error}"),
        }
    }
    assert_eq!((made, world.emulator.calls().total), (34, 34));
}

#[tokio::test]
async fn connections_with_the_same_token_share_its_budget_also_in_another_workspace() {
    let (world, first, entry) = live(limits(1_000, 5_000)).await;
    let elsewhere = world.other_workspace().await;
    let second = world.broker.connections().create(&elsewhere, world.new_connection("automation")).await.unwrap();
    resolve(&world, &entry).await.unwrap();
    let one = world.broker.connections().budget(&world.access, first.id).await.unwrap();
    let other = world.broker.connections().budget(&elsewhere, second.id).await.unwrap();
    assert_eq!(one, other);
    assert_eq!(used(&world.broker, &world, &first).await.0, 2 * VERIFY + 1);
    // Another token has its own budget.
    let third = world.connect("auditor").await;
    assert_eq!(used(&world.broker, &world, &third).await.0, VERIFY);
    assert_eq!(world.broker.connections().budgets().len(), 2);
}

#[tokio::test]
async fn the_accounts_budget_ends_all_its_tokens_calls() {
    let (world, connection, entry) = live(limits(1_000, 30)).await;
    for _ in 0..24 {
        resolve(&world, &entry).await.unwrap();
    }
    let spent = not_called(resolve(&world, &entry).await);
    assert!(matches!(spent, NotCalled::BudgetSpent { scope: BudgetScope::Account, limit: 30, .. }), "{spent:?}");
    assert!(matches!(
        world.broker.connections().list_items(&world.access, connection.id).await,
        Err(BrokerError::NotCalled(NotCalled::BudgetSpent { .. }))
    ));
}

#[tokio::test]
async fn tokens_of_one_account_share_its_budget_also_after_a_restart() {
    // A team's address names the account; the emulator's usual address does not.
    let sign_in_address = Some("acme.1password.com".to_owned());
    let emulator = Emulator::start_with(Options { sign_in_address, ..Options::default() }).unwrap();
    let mut world = World::of(emulator, limits(1_000, 30)).await;
    let mut new = world.new_connection("automation");
    new.cache_ttl = CacheTtl::OFF;
    let automation = world.broker.connections().create(&world.access, new).await.unwrap();
    let auditor = world.connect("auditor").await;
    let entry = world.bind(&automation, ITEM).await;
    for _ in 0..3 {
        resolve(&world, &entry).await.unwrap();
    }
    for restarted in [false, true] {
        if restarted {
            world.restart().await;
        }
        assert_eq!(used(&world.broker, &world, &automation).await, (VERIFY + 3, 2 * VERIFY + 3));
        assert_eq!(used(&world.broker, &world, &auditor).await, (VERIFY, 2 * VERIFY + 3));
    }

    // One token uses up the remaining requests. The other then has none, although its own hour has
    // hardly begun.
    world.emulator.reset_calls();
    while resolve(&world, &entry).await.is_ok() {}
    assert_eq!(world.emulator.calls().total, 15);
    let refused = world.broker.connections().list_items(&world.access, auditor.id).await.unwrap_err();
    let BrokerError::NotCalled(refused) = refused else { panic!("{refused}") };
    assert!(matches!(refused, NotCalled::BudgetSpent { scope: BudgetScope::Account, limit: 30, .. }), "{refused:?}");
    assert_eq!(world.emulator.calls().total, 15);
    assert_eq!(used(&world.broker, &world, &auditor).await, (VERIFY, 30));
}

#[tokio::test]
async fn of_two_limits_that_are_spent_the_one_that_lasts_longer_is_told() {
    let (world, _, entry) = live(limits(30, 30)).await;
    while resolve(&world, &entry).await.is_ok() {}
    let refused = not_called(resolve(&world, &entry).await);
    assert!(matches!(refused, NotCalled::BudgetSpent { scope: BudgetScope::Account, .. }), "{refused:?}");
    assert!(refused.retry_after() > Duration::from_secs(86_400), "{refused:?}");
}

#[tokio::test]
async fn the_servers_retry_after_is_honoured_for_the_token_over_a_restart() {
    let (mut world, connection, entry) = live(BudgetOptions::default()).await;
    world.emulator.fault(FaultRule::next_of(Endpoint::Item, Fault::rate_limited(100, RetryAfterForm::Header)));
    let error = resolve(&world, &entry).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(100)));
    for restarted in [false, true] {
        if restarted {
            world.restart().await;
        }
        let waiting = not_called(resolve(&world, &entry).await);
        let NotCalled::RateLimited { retry_after } = waiting else { panic!("{waiting:?}") };
        assert_eq!(retry_after.as_secs_f64().round(), 100.0);
        let listing = world.broker.connections().list_items(&world.access, connection.id).await;
        assert!(matches!(listing, Err(BrokerError::NotCalled(NotCalled::RateLimited { .. }))));
        // The refusal applies to the token, in every connection that uses it.
        let again = world.broker.connections().create(&world.access, world.new_connection("automation")).await;
        assert!(matches!(again, Err(BrokerError::NotCalled(NotCalled::RateLimited { .. }))), "{again:?}");
    }
    assert_eq!(world.emulator.calls().total, 1);
    let pause = world.broker.connections().budget(&world.access, connection.id).await.unwrap().pause.unwrap();
    assert_eq!(pause.reason, PauseReason::RateLimited);
    // Calls with another token continue.
    world.connect("auditor").await;
    world.clock.advance(Duration::from_secs(99));
    not_called(resolve(&world, &entry).await);
    world.clock.advance(Duration::from_secs(1));
    resolve(&world, &entry).await.unwrap();
}

#[tokio::test]
async fn a_limit_without_a_word_on_how_long_backs_off_and_says_so_at_once() {
    let (world, _, entry) = live(BudgetOptions::default()).await;
    world.emulator.fault(FaultRule::next_of(Endpoint::Item, Fault::status(429)));
    let wait = resolve(&world, &entry).await.unwrap_err().retry_after().unwrap();
    assert!((2..=4).contains(&wait.as_secs()), "{wait:?}");
    assert!(not_called(resolve(&world, &entry).await).retry_after() <= wait);
}

#[tokio::test]
async fn a_blip_is_tried_once_more_and_an_outage_is_not_multiplied() {
    let (world, _, entry) = live(BudgetOptions::default()).await;
    world.emulator.fault(FaultRule::next_of(Endpoint::Item, Fault::status(503)));
    resolve(&world, &entry).await.unwrap();
    assert_eq!(world.emulator.calls().total, 2);
    world.emulator.reset_calls();
    outage(&world);
    for _ in 0..20 {
        resolve(&world, &entry).await.unwrap_err();
    }
    assert_eq!(world.emulator.calls().total, 5, "as many as the breaker needs to open");
}

#[tokio::test]
async fn whoever_wants_no_second_try_gets_none() {
    let mut options = BudgetOptions::default();
    options.breaker.retry = false;
    let (world, _, entry) = live(options).await;
    world.emulator.fault(FaultRule::next_of(Endpoint::Item, Fault::status(503)));
    resolve(&world, &entry).await.unwrap_err();
    assert_eq!(world.emulator.calls().total, 1);
}

#[tokio::test]
async fn an_open_breaker_survives_a_restart_is_not_extended_by_being_asked_and_recovers_by_itself() {
    let (mut world, connection, entry) = live(BudgetOptions::default()).await;
    outage(&world);
    for _ in 0..4 {
        assert!(
            matches!(resolve(&world, &entry).await, Err(BrokerError::Provider(error)) if error.code == ErrorCode::Unavailable)
        );
    }
    let first = not_called(resolve(&world, &entry).await);
    let NotCalled::Unavailable { retry_after } = first else { panic!("{first:?}") };
    assert!(retry_after >= Duration::from_secs(1) && retry_after <= Duration::from_secs(2), "{retry_after:?}");
    world.restart().await;
    assert_eq!(not_called(resolve(&world, &entry).await), first, "asking changes nothing");
    world.emulator.reset_calls();

    // Still failing: one probe, and a longer pause.
    world.clock.advance(retry_after);
    resolve(&world, &entry).await.unwrap_err();
    let longer = not_called(resolve(&world, &entry).await).retry_after();
    assert!(longer >= Duration::from_secs(2) && longer <= Duration::from_secs(4), "{longer:?}");
    assert_eq!(world.emulator.calls().total, 1);

    world.emulator.clear_faults();
    not_called(resolve(&world, &entry).await);
    world.clock.advance(longer);
    resolve(&world, &entry).await.unwrap();
    assert_eq!(world.broker.connections().budget(&world.access, connection.id).await.unwrap().pause, None);
    resolve(&world, &entry).await.unwrap();
}

#[tokio::test]
async fn of_fifty_callers_after_the_pause_one_probes() {
    let (world, _, entry) = live(BudgetOptions::default()).await;
    outage(&world);
    while !matches!(resolve(&world, &entry).await, Err(BrokerError::NotCalled(_))) {}
    world.clock.advance(Duration::from_secs(2));
    world.emulator.reset_calls();
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let (broker, access, id) = (world.broker.clone(), world.access.clone(), entry.id);
            tokio::spawn(async move { broker.resolve(&access, ResolveRequest::new(id)).await })
        })
        .collect();
    let mut refused = 0;
    for call in calls {
        refused += usize::from(matches!(call.await.unwrap(), Err(BrokerError::NotCalled(_))));
    }
    assert_eq!((refused, world.emulator.calls().total), (49, 1));
}

#[tokio::test]
async fn a_caller_who_goes_away_takes_no_probe_with_them_wherever_they_were() {
    let (world, _, entry) = live(BudgetOptions::default()).await;
    for steps in 1..=16 {
        outage(&world);
        while !matches!(resolve(&world, &entry).await, Err(BrokerError::NotCalled(_))) {}
        world.emulator.clear_faults();
        world.clock.advance(Duration::from_secs(2));
        {
            let mut gone = std::pin::pin!(resolve(&world, &entry));
            for _ in 0..steps {
                if poll_fn(|context| Poll::Ready(gone.as_mut().poll(context).is_ready())).await {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        // The clock stands still: waiting for a claim to expire would never end.
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = resolve(&world, &entry).await {
            assert!(matches!(error, BrokerError::NotCalled(_)), "{error}");
            assert!(Instant::now() < deadline, "after {steps} steps: {error}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn fifty_callers_in_an_outage_are_answered_from_memory() {
    let (world, _, entry) = live(BudgetOptions::default()).await;
    outage(&world);
    while !matches!(resolve(&world, &entry).await, Err(BrokerError::NotCalled(_))) {}
    world.emulator.reset_calls();
    let started = Instant::now();
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let (broker, access, id) = (world.broker.clone(), world.access.clone(), entry.id);
            tokio::spawn(async move { broker.resolve(&access, ResolveRequest::new(id)).await })
        })
        .collect();
    for call in calls {
        assert!(matches!(call.await.unwrap(), Err(BrokerError::NotCalled(NotCalled::Unavailable { .. }))));
    }
    assert_eq!(world.emulator.calls().total, 0);
    assert!(started.elapsed() < Duration::from_secs(5), "no call waited for the secret manager");
}

#[tokio::test]
async fn a_cached_value_is_served_in_an_outage_until_its_duration_and_never_after() {
    let world = World::with_budgets(BudgetOptions::default()).await;
    let connection = world.connect("automation").await;
    let (entry, other) = (world.bind(&connection, ITEM).await, world.bind(&connection, OTHER_ITEM).await);
    resolve(&world, &entry).await.unwrap();
    outage(&world);
    while !matches!(resolve(&world, &other).await, Err(BrokerError::NotCalled(_))) {}
    world.clock.advance(Duration::from_secs(299));
    let cached = resolve(&world, &entry).await.unwrap();
    assert_eq!(cached.source, Source::Cached { age: Duration::from_secs(299) });
    world.clock.advance(Duration::from_secs(1));
    resolve(&world, &entry).await.unwrap_err();
}

#[tokio::test]
async fn a_refused_token_is_doubted_once_then_believed_and_works_seconds_after_it_does_again() {
    let (mut world, connection, entry) = live(BudgetOptions::default()).await;
    world.restart().await;
    world.emulator.revoke_token("automation", 401).unwrap();
    let refused = resolve(&world, &entry).await.unwrap_err();
    assert_eq!(refused.provider_error().unwrap().code(), "unauthenticated");
    let asked = world.emulator.calls().total;
    for _ in 0..10 {
        world.restart().await;
        assert!(matches!(not_called(resolve(&world, &entry).await), NotCalled::Doubted { .. }));
    }
    assert_eq!(world.emulator.calls().total, asked);
    world.clock.advance(Duration::from_secs(2));
    let refused = resolve(&world, &entry).await.unwrap_err();
    assert_eq!(refused.provider_error().unwrap().code(), "unauthenticated");
    assert!(matches!(not_called(resolve(&world, &entry).await), NotCalled::Refused { .. }));

    // The service account is active again, and the same token is entered again.
    world.emulator.restore_token("automation").unwrap();
    not_called(resolve(&world, &entry).await);
    let changes = ConnectionChanges::default().settings(world.new_connection("automation").settings);
    world.broker.connections().update(&world.access, connection.id, changes).await.unwrap();
    resolve(&world, &entry).await.unwrap();

    // Nobody does anything: after a few seconds it is tried once more.
    world.emulator.revoke_token("automation", 401).unwrap();
    world.emulator.expire_sessions();
    for _ in 0..6 {
        resolve(&world, &entry).await.unwrap_err();
        let wait = not_called(resolve(&world, &entry).await).retry_after();
        assert!(wait <= Duration::from_secs(8), "{wait:?}");
        world.clock.advance(wait);
    }
    world.emulator.restore_token("automation").unwrap();
    resolve(&world, &entry).await.unwrap();
}

#[tokio::test]
async fn a_person_ends_every_pause_with_one_request_also_that_of_another_process() {
    let (world, connection, entry) = live(BudgetOptions::default()).await;
    let server = world.beside().await;
    let wrong = Fault::rate_limited(86_400, RetryAfterForm::Header);
    world.emulator.fault(FaultRule::next_of(Endpoint::Item, wrong));
    resolve(&world, &entry).await.unwrap_err();
    let wait = not_called(resolve(&world, &entry).await).retry_after();
    assert!(wait <= HOUR, "a day is not believed: {wait:?}");
    let request = || ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS);
    assert!(matches!(server.resolve(&world.access, request()).await, Err(BrokerError::NotCalled(_))));

    world.broker.connections().retry(&world.access, connection.id).await.unwrap();
    resolve(&world, &entry).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    server.resolve(&world.access, request()).await.unwrap();

    // A cause that is still there is told, and pauses the connection anew.
    world.emulator.fault(FaultRule::next(Fault::rate_limited(100, RetryAfterForm::Header)).always());
    let error = world.broker.connections().retry(&world.access, connection.id).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(100)));
    not_called(resolve(&world, &entry).await);
}

#[tokio::test]
async fn checks_of_credentials_that_fail_are_limited_and_those_that_succeed_are_not() {
    let world = World::with_budgets(BudgetOptions::default()).await;
    let mut wrong = world.new_connection("automation");
    let token = world.emulator.wrong_token("automation", WrongToken::SrpX).unwrap();
    wrong.settings = Settings::new().with("token", token.expose());
    let (mut refused, mut limited) = (0, None);
    for _ in 0..20 {
        match world.broker.connections().create(&world.access, wrong.clone()).await {
            Err(BrokerError::NotCalled(NotCalled::TooManyChecks { retry_after })) => limited = Some(retry_after),
            Err(BrokerError::NotVerified { .. }) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((refused, limited), (10, Some(Duration::from_secs(30))));
    let right = world.broker.connections().create(&world.access, world.new_connection("automation")).await;
    assert!(matches!(right, Err(BrokerError::NotCalled(NotCalled::TooManyChecks { .. }))));
    // Another workspace goes on.
    let elsewhere = world.other_workspace().await;
    for _ in 0..15 {
        world.broker.connections().create(&elsewhere, world.new_connection("automation")).await.unwrap();
    }
    world.clock.advance(Duration::from_secs(30));
    world.connect("automation").await;
}

#[tokio::test]
async fn a_missing_item_says_nothing_about_the_server() {
    let (world, connection, _) = live(BudgetOptions::default()).await;
    let reference = world.item("Automation", ITEM).reference.replace(|c: char| c.is_ascii_digit(), "x");
    let new = EntryContent::bound("missing", "https://acme.example", connection.id, reference);
    let missing = world.broker.entries().create(&world.access, new).await.unwrap();
    for _ in 0..10 {
        let error = resolve(&world, &missing).await.unwrap_err();
        assert!(error.provider_error().is_some(), "{error}");
    }
    assert_eq!(world.broker.connections().budget(&world.access, connection.id).await.unwrap().pause, None);
}
