//! The current code of an entry's second factor: every method, with own credentials and bound.

use std::time::Duration;

use keyway::entries::{Credentials, NoTfaCode, TfaCode, TfaMethod, VaultEntry};
use keyway::keys::ClientKey;
use keyway::{BrokerError, EntryContent, EntrySelector};
use keyway_emulator_onepassword::{ItemInfo, ItemState};
use secrecy::ExposeSecret;

use crate::support::World;

/// The secret of RFC 6238, appendix B, as people may store it.
const SECRET: &str = "gezd gnbv gy3t qojq gezd gnbv gy3t qojq";

async fn own(world: &World, method: Option<TfaMethod>, secret: Option<&str>) -> VaultEntry {
    let key = ClientKey::from_hex(&world.encryption_key).unwrap();
    let tfa_secret = secret.map(|secret| key.encrypt(&secret.into()).unwrap());
    let user = format!("{method:?} {}", secret.is_some());
    let own = EntryContent::own(user, "https://acme.com", Credentials { tfa_secret, ..Credentials::default() });
    let new = own.tfa_method(method);
    world.broker.entries().create(&world.access, new).await.unwrap()
}

async fn code(world: &World, entry: &VaultEntry) -> Result<(String, u64), BrokerError> {
    match world.broker.entries().tfa_code(&world.access, &entry.id.into()).await? {
        TfaCode::Authenticator { code, expires_in } => Ok((code.code.expose_secret().to_owned(), expires_in.as_secs())),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_authenticators_code_is_that_of_the_second_and_says_for_how_long() {
    let world = World::new().await;
    let entry = own(&world, Some(TfaMethod::Authenticator), Some(SECRET)).await;
    world.clock.set_wall(jiff::Timestamp::from_second(1_111_111_109).unwrap());
    assert_eq!(code(&world, &entry).await.unwrap(), ("081804".into(), 1));
    world.clock.set_wall(jiff::Timestamp::from_second(1_111_111_110).unwrap());
    let (next, left) = code(&world, &entry).await.unwrap();
    assert_eq!(left, 30);
    assert_ne!(next, "081804");
    // Resolving returns the same code.
    let resolved = world.resolve(&entry).await.one_time_code.unwrap();
    assert_eq!(resolved.code.expose_secret(), next);
    // Without a method, the form of the secret decides.
    let entry = own(&world, None, Some(SECRET)).await;
    assert_eq!(code(&world, &entry).await.unwrap().0, next);
}

#[tokio::test]
async fn a_bound_entry_has_the_live_code_of_its_item_and_nothing_is_kept() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Northwind Supplier Portal").await;
    world.item_reads();
    let (first, left) = code(&world, &entry).await.unwrap();
    assert!(first.len() == 6 && (1..=30).contains(&left), "{left}");
    assert_eq!(world.item_reads(), 1);
    code(&world, &entry).await.unwrap();
    assert_eq!(world.item_reads(), 1, "every code needs its own call");
    world.clock.advance(Duration::from_secs(1));

    let account = world.emulator.account("automation").unwrap();
    let items = &account.vault("Automation").unwrap().items;
    let usable = |item: &&ItemInfo| item.state == ItemState::Active && item.category == "login";
    let without = items.iter().filter(usable).find(|item| !item.has_one_time_code).unwrap();
    let entry = world.bind(&connection, &without.title).await;
    let error = code(&world, &entry).await.unwrap_err();
    assert!(matches!(error, BrokerError::NoTfaCode(NoTfaCode::NotOnItem)), "{error}");
}

#[tokio::test]
async fn resolving_a_bound_entry_whose_codes_come_by_email_still_gives_the_live_code_of_its_item() {
    let (world, connection) = World::connected().await;
    let plain = world.bind(&connection, "Northwind Supplier Portal").await;
    let new = EntryContent::bound(
        "by e-mail",
        "https://acme.com",
        connection.id,
        plain.binding().unwrap().reference.as_str(),
    )
    .tfa_method(TfaMethod::Email);
    let entry = world.broker.entries().create(&world.access, new).await.unwrap();
    let mut agreed = false;
    // The period may end between the two readings; the next attempt is then within one period.
    for _ in 0..3 {
        world.item_reads();
        let resolved = world.resolve(&entry).await.one_time_code.unwrap();
        assert_eq!(world.item_reads(), 1);
        agreed |= resolved.code.expose_secret() == code(&world, &plain).await.unwrap().0;
    }
    assert!(agreed);
}

#[tokio::test]
async fn what_has_no_code_to_read_says_why() {
    let (world, connection) = World::connected().await;
    let expected = [
        (Some(TfaMethod::Email), NoTfaCode::NoEmail),
        (Some(TfaMethod::Sms), NoTfaCode::Method(TfaMethod::Sms)),
        (Some(TfaMethod::MagicLink), NoTfaCode::Method(TfaMethod::MagicLink)),
    ];
    for (method, reason) in expected {
        let mine = own(&world, method, None).await;
        let new = EntryContent::bound(
            format!("bound {method:?}"),
            "https://acme.com",
            connection.id,
            "op://mhlxx5y45opqk7p7prulriztqq/ch4arxhoemrdclbxyixyesgyt4",
        )
        .tfa_method(method);
        let bound = world.broker.entries().create(&world.access, new).await.unwrap();
        for entry in [mine, bound] {
            let error = code(&world, &entry).await.unwrap_err();
            assert!(matches!(&error, BrokerError::NoTfaCode(actual) if *actual == reason), "{method:?}: {error}");
        }
    }
    let none = own(&world, None, None).await;
    let error = code(&world, &none).await.unwrap_err();
    assert!(matches!(error, BrokerError::NoTfaCode(NoTfaCode::NoSecondFactor)), "{error}");

    let nobody = EntrySelector::Pair { user: "nobody".into(), domain: "https://acme.com".into() };
    let error = world.broker.entries().tfa_code(&world.access, &nobody).await.unwrap_err();
    assert!(matches!(error, BrokerError::NotFound(_)));
    let other = world.other_workspace().await;
    assert!(matches!(world.broker.entries().tfa_code(&other, &none.id.into()).await, Err(BrokerError::NotFound(_))));
}
