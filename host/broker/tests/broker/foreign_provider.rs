//! A provider unlike 1Password: references that are paths, its own limits, values with a lifetime.
//! The fixture `paths` has them, and describes what its references answer.

use std::time::Duration;

use keyway::audit::AuditQuery;
use keyway::budgets::{BudgetScope, NotCalled, RequestKind};
use keyway::clock::Clock;
use keyway::connections::ConnectionChanges;
use keyway::entries::{Binding, CredentialSource, VaultEntry};
use keyway::keyway_runtime::contract::{FieldKind, FieldValue, NoCodeReason};
use keyway::keyway_runtime::{ErrorCode, Fields, Settings};
use keyway::rotations::{BeginRotation, RotationState};
use keyway::{Broker, BrokerError, CacheTtl, EntryContent, InvalidInput, NewConnection, ResolveRequest, Source};
use secrecy::ExposeSecret;

use crate::paths::{World, new_connection, settings};
use crate::support::text;

fn reference(entry: &VaultEntry) -> &str {
    entry.binding().unwrap().reference.as_str()
}

#[tokio::test]
async fn every_reference_that_is_listed_can_be_bound_and_deeper_paths_as_well() {
    let (world, connection) = World::new().await;
    let items = world.broker.connections().list_items(&world.access, connection.id).await.unwrap();
    assert!(items.iter().any(|item| item.reference == "paths://kv/acme/prod/db/main"));
    for (number, item) in items.iter().enumerate() {
        let entry = world.bind(&connection, &number.to_string(), &item.reference).await.unwrap();
        assert_eq!(reference(&entry), item.reference);
        assert_eq!(world.resolve(&entry).await.0, "v2");
    }
}

#[tokio::test]
async fn a_reference_is_kept_in_its_normal_form_and_what_is_none_is_refused_in_the_providers_words() {
    let (world, connection) = World::new().await;
    let entry = world.bind(&connection, "a", "PATHS://kv//%61cme/prod/").await.unwrap();
    assert_eq!(reference(&entry), "paths://kv/acme/prod");
    for wrong in ["paths://", "paths://kv/%zz", "op://a/b", "kv/acme"] {
        let error = world.bind(&connection, "b", wrong).await.unwrap_err();
        assert!(matches!(&error, BrokerError::Invalid(InvalidInput::Reference { .. })), "{error}");
        assert!(error.to_string().contains("reference: "), "{error}");
    }
    // Sending back the same item in another spelling changes nothing.
    let change = |entry: &mut EntryContent| {
        entry.credentials = CredentialSource::Bound(Binding::new(connection.id, "paths://kv/acme/%70rod"));
        Ok(())
    };
    let changed = world.broker.entries().update(&world.access, &entry.id.into(), change).await.unwrap();
    assert_eq!(reference(&changed), "paths://kv/acme/prod");
}

#[tokio::test]
async fn two_spellings_of_one_item_have_one_rotation() {
    let (world, connection) = World::new().await;
    let one = world.bind(&connection, "one", "paths://kv/acme/prod").await.unwrap();
    let two = world.bind(&connection, "two", "paths://kv/%61cme/prod").await.unwrap();
    world.broker.rotations().begin(&world.access, BeginRotation::new(one.id)).await.unwrap();
    let error = world.broker.rotations().begin(&world.access, BeginRotation::new(two.id)).await.unwrap_err();
    assert!(matches!(error, BrokerError::RotationOpen), "{error}");
}

/// The fixture's account is its region.
fn in_region(region: &str) -> NewConnection {
    let settings = Settings::new().with("region", region).with("token", format!("a-token-for-{region}"));
    let mut new = new_connection(None);
    new.settings = settings;
    new
}

#[tokio::test]
async fn an_item_is_its_accounts_and_not_everybodys_who_uses_the_same_reference() {
    let (world, one) = World::new().await;
    let other = world.broker.connections().create(&world.access, in_region("us-1")).await.unwrap();
    let of_one = world.bind(&one, "one", "paths://kv/acme/prod").await.unwrap();
    let of_other = world.bind(&other, "other", "paths://kv/acme/prod").await.unwrap();

    // A value rejected in one account stays cached in the other.
    assert_eq!(world.resolve(&of_one).await.1, Source::Live);
    assert_eq!(world.resolve(&of_other).await.1, Source::Live);
    let request = ResolveRequest::new(of_one.id).fields(Fields::CREDENTIALS);
    let revision = world.broker.resolve(&world.access, request.clone()).await.unwrap().revision;
    let rejected = world.broker.resolve(&world.access, request.rejected(revision)).await.unwrap();
    assert_eq!(rejected.source, Source::Live);
    assert!(matches!(world.resolve(&of_other).await.1, Source::Cached { .. }));

    // Each account has its own rotation, with its own password.
    let begun = world.broker.rotations().begin(&world.access, BeginRotation::new(of_one.id)).await.unwrap();
    let of_both = world.broker.rotations().begin(&world.access, BeginRotation::new(of_other.id)).await.unwrap();
    assert_ne!(begun.rotation.id, of_both.rotation.id);
    let done = world.broker.rotations().commit(&world.access, begun.rotation.id).await.unwrap();
    assert_eq!(done.state, RotationState::Done);
    assert_eq!(world.resolve(&of_one).await.1, Source::Live);
    assert!(matches!(world.resolve(&of_other).await.1, Source::Cached { .. }), "it was not written");
}

#[tokio::test]
async fn two_connections_to_one_account_share_its_items() {
    let (world, one) = World::new().await;
    let same = world.broker.connections().create(&world.access, in_region("eu-1")).await.unwrap();
    let of_one = world.bind(&one, "one", "paths://kv/acme/prod").await.unwrap();
    let of_same = world.bind(&same, "same", "paths://kv/acme/prod").await.unwrap();
    let begun = world.broker.rotations().begin(&world.access, BeginRotation::new(of_one.id)).await.unwrap();
    let error = world.broker.rotations().begin(&world.access, BeginRotation::new(of_same.id)).await.unwrap_err();
    assert!(matches!(error, BrokerError::RotationOpen), "{error}");
    world.resolve(&of_same).await;
    world.broker.rotations().commit(&world.access, begun.rotation.id).await.unwrap();
    assert_eq!(world.resolve(&of_same).await.1, Source::Live, "what was cached of the item before is not used");
}

#[tokio::test]
async fn a_password_is_not_written_to_the_item_of_another_account() {
    let (world, connection) = World::new().await;
    let entry = world.bind(&connection, "one", "paths://kv/acme/prod").await.unwrap();
    let begun = world.broker.rotations().begin(&world.access, BeginRotation::new(entry.id)).await.unwrap();
    let elsewhere = ConnectionChanges::default().settings(in_region("us-1").settings);
    world.broker.connections().update(&world.access, connection.id, elsewhere).await.unwrap();
    let failed = world.broker.rotations().commit(&world.access, begun.rotation.id).await.unwrap();
    assert_eq!((failed.state, failed.reason.as_deref()), (RotationState::WriteBackFailed, Some("account_changed")));
    let (password, _) = world.resolve(&entry).await;
    assert_eq!(password, "v2", "nor is it given out as that of the other account's item");

    // Back in its account, it is due again.
    let back = ConnectionChanges::default().settings(settings());
    world.broker.connections().update(&world.access, connection.id, back).await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
    let done = world.broker.rotations().get(&world.access, begun.rotation.id).await.unwrap();
    assert_eq!(done.state, RotationState::Done);
}

#[tokio::test]
async fn a_value_is_cached_no_longer_than_it_is_good() {
    let (world, connection) = World::new().await;
    let entry = world.bind(&connection, "short", "paths://short/90").await.unwrap();
    assert_eq!(world.resolve(&entry).await.1, Source::Live);
    world.clock.advance(Duration::from_secs(60));
    assert!(matches!(world.resolve(&entry).await.1, Source::Cached { .. }));
    world.clock.advance(Duration::from_secs(31));
    assert_eq!(world.resolve(&entry).await.1, Source::Live, "an hour of cache duration, and 90 s of lifetime");
}

#[tokio::test]
async fn a_leased_value_is_never_made_anew_in_the_background() {
    let (world, connection) = World::new().await;
    let entry = world.bind(&connection, "dynamic", "paths://dynamic/db").await.unwrap();
    let (first, _) = world.resolve(&entry).await;
    // Within the last part of the duration, in which other values in use are refreshed.
    world.clock.advance(Duration::from_secs(3_599));
    for _ in 0..3 {
        assert_eq!(world.resolve(&entry).await.0, first);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.clock.advance(Duration::from_secs(2));
    let (next, source) = world.resolve(&entry).await;
    assert_eq!(source, Source::Live);
    let number = |password: &str| password.rsplit('-').next().unwrap().parse::<u32>().unwrap();
    assert_eq!(number(&next), number(&first) + 1, "one new lease, and none in between");
}

#[tokio::test]
async fn a_missing_code_has_a_reason_and_values_their_end_also_from_the_cache() {
    let (world, connection) = World::new().await;
    let resolve = async |entry: &VaultEntry, fields| {
        let request = ResolveRequest::new(entry.id).fields(fields);
        world.broker.resolve(&world.access, request).await.unwrap()
    };
    let plain = world.bind(&connection, "plain", "paths://kv/a").await.unwrap();
    let resolved = resolve(&plain, Fields::ALL).await;
    assert_eq!(resolved.no_code.map(|none| none.reason), Some(NoCodeReason::Absent));
    assert!(resolved.one_time_code.is_none() && resolved.valid_until.is_none() && resolved.lease.is_none());
    assert!(resolve(&plain, Fields::CREDENTIALS).await.no_code.is_none(), "it was not asked for");
    let steam = world.bind(&connection, "steam", "paths://steam/a").await.unwrap();
    let resolved = resolve(&steam, Fields::ALL).await;
    assert!(resolved.one_time_code.is_some() && resolved.no_code.is_none());

    let now = world.clock.now().timestamp().as_second();
    let after = |seconds| Some(jiff::Timestamp::from_second(now + seconds).unwrap());
    let short = world.bind(&connection, "short", "paths://short/90").await.unwrap();
    let dynamic = world.bind(&connection, "dynamic", "paths://dynamic/db").await.unwrap();
    for _ in 0..2 {
        assert_eq!(resolve(&short, Fields::CREDENTIALS).await.valid_until, after(90));
        let lease = resolve(&dynamic, Fields::CREDENTIALS).await.lease.unwrap();
        assert_eq!((&*lease.id, Some(lease.expires_at), lease.renewable), ("lease-db-1", after(3_600), true));
        world.clock.advance(Duration::from_secs(10));
    }
}

#[tokio::test]
async fn further_fields_are_listed_and_resolved_live_and_their_names_recorded() {
    let (world, connection) = World::new().await;
    let entry = world.bind(&connection, "a", "paths://kv/a").await.unwrap();
    let listed = world.broker.entries().list_fields(&world.access, &entry.id.into()).await.unwrap();
    let kinds: Vec<_> = listed.iter().map(|field| (&*field.name, &field.kind)).collect();
    assert_eq!((kinds.len(), kinds[1], kinds[4]), (6, ("api-key", &FieldKind::Secret), ("blob", &FieldKind::Binary)));

    world.resolve(&entry).await;
    let request = || ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS).further(["api-key", "missing", "pin"]);
    for _ in 0..2 {
        let resolved = world.broker.resolve(&world.access, request()).await.unwrap();
        assert_eq!(
            (text(resolved.password.as_ref()), resolved.source),
            (Some("v2"), Source::Live),
            "from the same call"
        );
        let names: Vec<_> = resolved.further.iter().map(|field| &*field.name).collect();
        assert_eq!(names, ["api-key", "pin"], "a field that the item lacks is left out");
        let FieldValue::Text(key) = &resolved.further[0].value else { panic!("{resolved:?}") };
        assert_eq!(key.expose_secret(), "key-7f3e");
        assert!(matches!(resolved.further[1].value, FieldValue::OneTimeCode(Ok(_))), "{resolved:?}");
    }
    assert!(matches!(world.resolve(&entry).await.1, Source::Cached { .. }), "what was cached is left as it was");
    let page = world.broker.audit().records_of_all(&AuditQuery::default()).await.unwrap();
    let fields: Vec<_> = page.records.iter().map(|record| record.subject.fields.join(" ")).collect();
    assert!(fields.contains(&"username password field:api-key field:pin".to_owned()), "{fields:?}");
    assert!(page.records.iter().any(|record| record.operation == "list_fields"));

    let wrong = request().further(["a", "a"]);
    let error = world.broker.resolve(&world.access, wrong).await.unwrap_err();
    assert!(matches!(error, BrokerError::Invalid(InvalidInput::FurtherFields)), "{error}");
    let many = world.bind(&connection, "many", "paths://kv/many-fields").await.unwrap();
    let error = world.broker.entries().list_fields(&world.access, &many.id.into()).await.unwrap_err();
    assert!(matches!(error, BrokerError::Sandbox(_)) && error.to_string().contains("1000 further fields"), "{error}");
}

#[tokio::test]
async fn what_is_made_for_a_call_comes_from_one_call() {
    let (world, connection) = World::new().await;
    let entry = world.bind(&connection, "dynamic", "paths://dynamic/db").await.unwrap();
    for number in 1..=2 {
        let request = ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS).further(["note"]);
        let resolved = world.broker.resolve(&world.access, request).await.unwrap();
        assert_eq!(text(resolved.password.as_ref()), Some(&*format!("password-{number}")));
        assert_eq!(resolved.lease.unwrap().id, format!("lease-db-{number}"));
    }
}

#[tokio::test]
async fn a_lease_is_renewed_and_what_was_made_under_one_that_is_revoked_is_served_no_more() {
    let (world, connection) = World::new().await;
    // One broker reserves all of the other tier's few requests.
    let paid = ConnectionChanges::default().rate_limit_tier(Some("paid".into()));
    world.broker.connections().update(&world.access, connection.id, paid).await.unwrap();
    let beside = world.beside().await;
    let entry = world.bind(&connection, "dynamic", "paths://dynamic/db").await.unwrap();
    let selector = entry.id.into();
    let resolve = async |broker: &Broker| {
        let request = ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS);
        let resolved = broker.resolve(&world.access, request).await.unwrap();
        (resolved.lease.unwrap().id, resolved.source == Source::Live)
    };
    let (lease, _) = resolve(&world.broker).await;
    let (of_other, _) = resolve(&beside).await;
    assert!(!resolve(&world.broker).await.1 && !resolve(&beside).await.1, "both have cached it");

    let end = world.clock.now().timestamp().as_second() + 7_200;
    let renewed = world.broker.entries().renew_lease(&world.access, &selector, &lease, Some(7_200)).await.unwrap();
    assert_eq!((renewed.id, renewed.expires_at.as_second()), (lease.clone(), end));
    world.broker.entries().revoke_lease(&world.access, &selector, &lease).await.unwrap();
    assert!(resolve(&world.broker).await.1);
    // The other process sees it at its next read of the database.
    tokio::time::sleep(keyway::storage::MAX_AGE).await;
    assert!(resolve(&beside).await.1, "it may be the same lease, as far as is known: {of_other}");

    let unknown = world.broker.entries().renew_lease(&world.access, &selector, "none", None).await.unwrap_err();
    assert!(matches!(&unknown, BrokerError::Provider(error) if error.code == ErrorCode::NotFound), "{unknown}");
    let empty = world.broker.entries().revoke_lease(&world.access, &selector, "").await.unwrap_err();
    assert!(matches!(empty, BrokerError::Invalid(_)), "{empty}");
    let page = world.broker.audit().records_of_all(&AuditQuery::default()).await.unwrap();
    let named = |operation: &str| {
        let of_it = page.records.iter().filter(|record| record.operation == operation);
        of_it.filter_map(|record| record.subject.lease.as_deref()).collect::<Vec<_>>()
    };
    assert_eq!((named("renew_lease"), named("revoke_lease")), (vec![&*lease], vec![&*lease]));
    assert!(named("resolve").contains(&&*lease));
}

#[tokio::test]
async fn checking_an_item_makes_no_values() {
    let (world, connection) = World::new().await;
    let entry = world.bind(&connection, "dynamic", "paths://dynamic/db").await.unwrap();
    for _ in 0..3 {
        world.broker.connections().check_item(&world.access, connection.id, "paths://dynamic/db").await.unwrap();
    }
    assert_eq!(world.resolve(&entry).await.0, "password-1", "the first lease there is");
    let missing =
        world.broker.connections().check_item(&world.access, connection.id, "paths://nothing").await.unwrap_err();
    assert!(matches!(&missing, BrokerError::Provider(error) if error.code == ErrorCode::NotFound), "{missing}");
}

#[tokio::test]
async fn limits_of_its_own_are_kept_like_those_of_any_other() {
    let (world, connection) = World::new().await;
    let unknown = world.broker.connections().create(&world.access, new_connection(Some("golden"))).await.unwrap_err();
    assert_eq!(unknown.to_string(), "the rate-limit tier must be one of free, paid, short-windows");

    let limits = async || {
        let budget = world.broker.connections().budget(&world.access, connection.id).await.unwrap();
        let limited = budget
            .allowances
            .into_iter()
            .filter_map(|of| Some((of.scope.name(), of.requests_name(), of.period.as_secs(), of.limit?)));
        limited.collect::<Vec<_>>()
    };
    let free = [("credential", "reads", 3_600, 5), ("credential", "writes", 3_600, 2), ("account", "all", 86_400, 20)];
    assert_eq!(limits().await, free, "the first tier is the default");
    let changes = ConnectionChanges::default().rate_limit_tier(Some("paid".into()));
    let changed = world.broker.connections().update(&world.access, connection.id, changes).await.unwrap();
    assert_eq!(changed.rate_limit_tier.as_deref(), Some("paid"));
    assert_eq!(limits().await, [("credential", "reads", 3_600, 1_000)]);
    let changes = ConnectionChanges::default().rate_limit_tier(Some("short-windows".into()));
    world.broker.connections().update(&world.access, connection.id, changes).await.unwrap();
    assert_eq!(limits().await, [("credential", "all", 10, 3), ("account", "reads", 60, 10)]);

    // The tiers' counts are kept side by side, and the credentials are shown once.
    let second = world.broker.connections().create(&world.access, new_connection(Some("free"))).await.unwrap();
    let shown = world.broker.connections().budgets();
    assert_eq!(shown.len(), 1, "{shown:?}");
    let hour = shown[0].budget.allowance(BudgetScope::Credential, RequestKind::Read).unwrap();
    assert_eq!(hour.limit, Some(5), "of two tiers the lower limit");
    world.broker.connections().delete(&world.access, second.id).await.unwrap();

    let changes = ConnectionChanges::default().rate_limit_tier(None);
    let changed = world.broker.connections().update(&world.access, connection.id, changes).await.unwrap();
    assert_eq!(changed.rate_limit_tier, None);
    assert_eq!(limits().await, free, "the default again");
}

#[tokio::test]
async fn a_limit_that_a_foreign_provider_declares_refuses_calls_until_its_window_is_over() {
    let (mut world, first) = World::with_server().await;
    // Another credential of the same account.
    let mut second = new_connection(None);
    second.settings = settings().with("token", "another-token");
    let second = world.broker.connections().create(&world.access, second).await.unwrap();
    // Three requests in 10 s for each credential, ten reads in 60 s for the account.
    let live = ConnectionChanges::default().rate_limit_tier(Some("short-windows".into())).cache_ttl(CacheTtl::OFF);
    for id in [first.id, second.id] {
        world.broker.connections().update(&world.access, id, live.clone()).await.unwrap();
    }
    let of_first = world.bind(&first, "first", "paths://remote/a").await.unwrap();
    let of_second = world.bind(&second, "second", "paths://remote/a").await.unwrap();
    let refused = async |world: &World, entry: &VaultEntry| {
        let request = ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS);
        let error = world.broker.resolve(&world.access, request).await.unwrap_err();
        let BrokerError::NotCalled(NotCalled::BudgetSpent { scope, requests, limit, period, retry_after }) = error
        else {
            panic!("{error}")
        };
        assert_eq!(error.retry_after(), Some(retry_after));
        (scope, requests, limit, period.as_secs(), retry_after)
    };
    let credential = (BudgetScope::Credential, RequestKind::Any, 3, 10);
    let account = (BudgetScope::Account, RequestKind::Read, 10, 60);

    // One of the account's ten requests, then nine of the other credential.
    assert_eq!(world.resolve(&of_second).await, ("remote".into(), Source::Live));
    for round in 0..3 {
        for _ in 0..3 {
            assert_eq!(world.resolve(&of_first).await, ("remote".into(), Source::Live));
        }
        if round == 2 {
            break;
        }
        let (scope, requests, limit, period, wait) = refused(&world, &of_first).await;
        assert_eq!((scope, requests, limit, period), credential);
        // A window, and two of its sixty slots at most.
        assert!(wait > Duration::from_secs(10) && wait < Duration::from_millis(10_400), "{wait:?}");
        world.clock.advance(wait);
    }

    // The second credential has made no request for 20 s.
    let (scope, requests, limit, period, wait) = refused(&world, &of_second).await;
    assert_eq!((scope, requests, limit, period), account);
    assert!(wait > Duration::from_secs(30) && wait <= Duration::from_secs(42), "of the first request: {wait:?}");
    world.restart().await;
    let (scope, requests, limit, period, wait) = refused(&world, &of_second).await;
    assert_eq!((scope, requests, limit, period), account);
    world.clock.advance(wait);
    assert_eq!(world.resolve(&of_second).await, ("remote".into(), Source::Live));
}
