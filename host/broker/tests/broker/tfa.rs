//! The current code of an entry's second factor: every method, with own credentials and bound.

use std::time::Duration;

use keyway::entries::{Credentials, NoTfaCode, TfaCode, TfaMethod, VaultEntry};
use keyway::keys::ClientKey;
use keyway::keyway_runtime::Fields;
use keyway::keyway_runtime::contract::NoCodeReason;
use keyway::{
    Access, Broker, BrokerError, EntryContent, EntryId, EntrySelector, InvalidInput, ResolveRequest, WantedCode,
};
use keyway_emulator_onepassword::{ItemChange, ItemInfo, ItemState};
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

fn unused() -> WantedCode {
    WantedCode::default().unused(true)
}

async fn code(world: &World, entry: &VaultEntry) -> Result<(String, u64), BrokerError> {
    let (code, left, _) = code_as(world, entry, WantedCode::default()).await?;
    Ok((code, left))
}

/// The code, for how many seconds it is current, and how often it was handed out.
async fn code_as(world: &World, entry: &VaultEntry, wanted: WantedCode) -> Result<(String, u64, u32), BrokerError> {
    asked(world.broker.clone(), world.access.clone(), entry.id, wanted).await
}

/// The same for a caller of its own.
async fn asked(
    broker: Broker,
    access: Access,
    entry: EntryId,
    wanted: WantedCode,
) -> Result<(String, u64, u32), BrokerError> {
    match broker.entries().tfa_code(&access, &entry.into(), wanted).await? {
        TfaCode::Authenticator { code, expires_in, times_handed_out } => {
            Ok((code.code.expose_secret().to_owned(), expires_in.as_secs(), times_handed_out))
        }
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
    let error = world.broker.entries().tfa_code(&world.access, &nobody, WantedCode::default()).await.unwrap_err();
    assert!(matches!(error, BrokerError::NotFound(_)));
    let other = world.other_workspace().await;
    let foreign = world.broker.entries().tfa_code(&other, &none.id.into(), WantedCode::default()).await;
    assert!(matches!(foreign, Err(BrokerError::NotFound(_))));
}

/// One-time passwords that make no code, each with its reason and a word of the message.
fn without_codes() -> [(&'static str, NoCodeReason, &'static str); 4] {
    let unsupported = || NoCodeReason::Other("unsupported".into());
    [
        ("otpauth://hotp/x?secret=GEZDGNBVGY3TQOJQ&counter=1", NoCodeReason::CounterBased, "HOTP"),
        ("otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&digits=10", unsupported(), "number of digits"),
        ("otpauth-migration://offline?data=x", unsupported(), "migration"),
        ("not base32!", NoCodeReason::Malformed, "not base32"),
    ]
}

#[tokio::test]
async fn a_one_time_password_that_makes_no_code_says_why_harms_no_other_value_and_is_no_entrys_own() {
    let (world, connection) = World::connected().await;
    let title = "Northwind Supplier Portal";
    let bound = world.bind(&connection, title).await;
    for (stored, reason, word) in without_codes() {
        let change = ItemChange { otpauth: Some(stored.into()), ..ItemChange::default() };
        world.emulator.change_item("Automation", title, &change).unwrap();
        world.broker.connections().clear_cache(&world.access, connection.id).await.unwrap();
        let key = ClientKey::from_hex(&world.encryption_key).unwrap();
        let encrypted = |text: &str| Some(key.encrypt(&text.into()).unwrap());
        let credentials =
            Credentials { user_name: encrypted("ada"), password: encrypted("kept"), tfa_secret: encrypted(stored) };
        let own = EntryContent::own(stored, "https://acme.com", credentials);
        let refused = world.broker.entries().create(&world.access, own).await.unwrap_err().to_string();
        assert!(refused.contains(word), "{refused}");
        let resolved = world.resolve(&bound).await;
        assert!(resolved.username.is_some() && resolved.password.is_some() && resolved.one_time_code.is_none());
        let none = resolved.no_code.unwrap();
        assert!(none.reason == reason && none.message.contains(word), "{none:?}");
        let error = code(&world, &bound).await.unwrap_err();
        assert!(matches!(&error, BrokerError::NoTfaCode(NoTfaCode::NotMade(why)) if why.contains(word)), "{error}");
    }
}

#[tokio::test]
async fn an_entrys_own_secret_is_read_like_an_items() {
    let world = World::new().await;
    world.clock.set_wall(jiff::Timestamp::from_second(59).unwrap());
    for (secret, length) in [
        ("otpauth://totp/Steam:gamer?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Steam", 5),
        ("otpauth://totp/Game:player#1234?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Game", 6),
        ("otpauth://totp/Forum:who?me?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", 6),
        ("otpauth://totp/x?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&amp;digits=8", 8),
    ] {
        let entry = own(&world, Some(TfaMethod::Authenticator), Some(secret)).await;
        let (code, _) = code(&world, &entry).await.unwrap();
        assert_eq!(code.len(), length, "{secret}");
        assert!(length != 6 || code == "287082", "{secret}");
        world.broker.entries().delete(&world.access, &entry.id.into()).await.unwrap();
    }
}

#[tokio::test]
async fn a_code_says_how_often_it_was_handed_out_whichever_way_and_through_whichever_entry() {
    let (world, connection) = World::connected().await;
    let title = "Northwind Supplier Portal";
    let one = world.bind(&connection, title).await;
    let reference = one.binding().unwrap().reference.clone();
    let other = EntryContent::bound("other", "https://acme.com", connection.id, reference);
    let other = world.broker.entries().create(&world.access, other).await.unwrap();
    // Not at the end of a period, of which the item's codes have their own.
    while jiff::Timestamp::now().as_second() % 30 >= 20 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(world.resolve(&one).await.times_handed_out, Some(1));
    assert_eq!(code_as(&world, &other, WantedCode::default()).await.unwrap().2, 2);
    assert_eq!(world.resolve(&other).await.times_handed_out, Some(3));
    assert_eq!(world.credentials(&one).await.times_handed_out, None, "no code was asked for");
}

#[tokio::test]
async fn callers_that_want_unused_codes_get_different_ones_or_are_told_when_to_ask_again() {
    let world = World::new().await;
    let entry = own(&world, Some(TfaMethod::Authenticator), Some(SECRET)).await;
    world.clock.set_wall(jiff::Timestamp::from_second(1_111_111_100).unwrap());
    let (first, left, times) = code_as(&world, &entry, unused()).await.unwrap();
    assert_eq!((first.as_str(), left, times), ("081804", 10, 1));
    let waiting = tokio::spawn(asked(world.broker.clone(), world.access.clone(), entry.id, unused()));
    // Until that one waits, which is when the next period is taken.
    let refused = loop {
        tokio::task::yield_now().await;
        let request = ResolveRequest::new(entry.id).code(unused());
        match tokio::time::timeout(Duration::from_millis(50), world.broker.resolve(&world.access, request)).await {
            Ok(Err(refused)) => break refused,
            Ok(Ok(resolved)) => panic!("{resolved:?}"),
            // It reserved the period first, and gave it back when it was cancelled.
            Err(_) => {}
        }
    };
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(10)), "{refused}");
    assert!(!waiting.is_finished());
    world.clock.advance(Duration::from_secs(10));
    let (second, left, times) = waiting.await.unwrap().unwrap();
    assert_eq!((left, times), (30, 1));
    assert_ne!(second, first);
    assert_eq!(code(&world, &entry).await.unwrap().0, second, "others may share it");
}

#[tokio::test]
async fn a_code_that_ends_too_soon_is_waited_for() {
    let world = World::new().await;
    let entry = own(&world, Some(TfaMethod::Authenticator), Some(SECRET)).await;
    world.clock.set_wall(jiff::Timestamp::from_second(1_111_111_100).unwrap());
    let at_least = |min_seconds_left| WantedCode::default().min_seconds_left(min_seconds_left);
    assert_eq!(code_as(&world, &entry, at_least(10)).await.unwrap().1, 10);
    let waiting = tokio::spawn(asked(world.broker.clone(), world.access.clone(), entry.id, at_least(11)));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(waiting.await.unwrap().unwrap().1, 30);
    let error = code_as(&world, &entry, at_least(31)).await.unwrap_err();
    assert!(matches!(error, BrokerError::Invalid(InvalidInput::MinSecondsLeft { period: 30 })), "{error}");
    let request = ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS).code(unused());
    let error = world.broker.resolve(&world.access, request).await.unwrap_err();
    assert!(matches!(error, BrokerError::Invalid(InvalidInput::CodeNotAsked)), "{error}");
}
