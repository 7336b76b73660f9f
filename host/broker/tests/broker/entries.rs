//! Vault entries: the rules for bindings, and entries with their own credentials.

use keyway::entries::{AttributeKind, CredentialSource, Credentials, ENTRIES_PER_PAGE, TfaMethod, VaultEntry};
use keyway::{BrokerError, CacheTtl, ConnectionId, EntryContent, EntrySelector, InvalidInput, ResolveRequest};

use crate::support::{World, text};

async fn create(world: &World, new: EntryContent) -> Result<VaultEntry, BrokerError> {
    world.broker.entries().create(&world.access, new).await
}

fn of_user(mut entry: EntryContent, user: &str) -> EntryContent {
    entry.user = user.into();
    entry
}

fn entry(user: &str) -> EntryContent {
    EntryContent::new(user, "https://acme.com")
}

#[tokio::test]
async fn a_bound_entry_is_found_by_id_and_by_pair() {
    let (world, connection) = World::connected().await;
    let reference = world.item("Automation", "Northwind Supplier Portal").reference;
    let mut new = EntryContent::bound("acme-prod", "https://acme.com", connection.id, reference.as_str())
        .alias("Acme")
        .tfa_method(TfaMethod::Email);
    new.binding_mut().unwrap().cache_ttl = Some(CacheTtl::from_seconds(60));
    let created = create(&world, new).await.unwrap();
    let pair = EntrySelector::Pair { user: "acme-prod".into(), domain: "https://acme.com".into() };
    for selector in [created.id.into(), pair] {
        let found = world.broker.entries().get(&world.access, &selector).await.unwrap();
        assert_eq!(found.id, created.id);
        assert_eq!((found.alias.as_deref(), found.tfa_method), (Some("Acme"), Some(TfaMethod::Email)));
        let CredentialSource::Bound(binding) = found.content.credentials else { panic!("not bound") };
        assert_eq!(binding.connection_id, connection.id);
        assert_eq!((binding.reference, binding.cache_ttl), (reference.clone(), Some(CacheTtl::from_seconds(60))));
    }
    let normalised = EntrySelector::Pair { user: "acme-prod".into(), domain: "https://acme.com/".into() };
    assert!(world.broker.entries().get(&world.access, &normalised).await.is_err(), "domains are compared exactly");
}

#[tokio::test]
async fn the_rules_for_bound_entries_are_enforced() {
    let (world, connection) = World::connected().await;
    let reference = world.item("Automation", "Northwind Supplier Portal").reference;
    let bound = || EntryContent::bound("acme", "https://acme.com", connection.id, reference.as_str());
    let other = world.other_workspace().await;
    let foreign = world.broker.connections().create(&other, world.new_connection("automation")).await.unwrap();
    let bound_to = |connection: ConnectionId, reference: &str| {
        EntryContent::bound("acme", "https://acme.com", connection, reference)
    };
    let cases = [
        (
            bound().tfa_method(TfaMethod::Authenticator),
            "the authenticator method is not available for provider-backed vault entries; the one-time code comes from the bound item",
        ),
        (bound_to(foreign.id, &reference), "the connection does not belong to this workspace"),
        (bound_to(uuid::Uuid::nil().into(), &reference), "the connection does not belong to this workspace"),
        (
            bound_to(connection.id, "https://example.com/item"),
            "reference: A reference of 1Password begins with op://, as in op://<vaultId>/<itemId>.",
        ),
        (bound_to(connection.id, ""), "reference is required and must not be empty"),
        (of_user(bound(), ""), "user is required and must not be empty"),
        (of_user(bound(), &"x".repeat(513)), "user is too long: at most 512 characters are allowed"),
    ];
    for (new, message) in cases {
        let error = create(&world, new).await.unwrap_err();
        assert!(matches!(error, BrokerError::Invalid(_)), "{error}");
        assert_eq!(error.to_string(), message);
    }
    assert!(world.broker.entries().list(&world.access, None).await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn the_other_two_factor_methods_are_accepted_on_bound_entries() {
    let (world, connection) = World::connected().await;
    for method in [TfaMethod::Email, TfaMethod::Sms, TfaMethod::MagicLink] {
        let new = EntryContent::bound(
            method.to_string(),
            "https://acme.com",
            connection.id,
            "op://mhlxx5y45opqk7p7prulriztqq/ch4arxhoemrdclbxyixyesgyt4",
        )
        .tfa_method(method);
        assert_eq!(create(&world, new).await.unwrap().tfa_method, Some(method));
    }
}

#[tokio::test]
async fn a_domain_is_an_address_and_not_localhost() {
    let world = World::new().await;
    let none = ["acme.com", "ftp://acme.com", "https://", "http://localhost:3000", "", "not a url"];
    let local = ["http://localhost.", "http://app.localhost", "https://LOCALHOST./x"];
    // Look-alikes of another value, which would be stored as a different one.
    let mended = [" https://acme.com", "https://acme.com ", "https:acme.com", "https:\\\\acme.com", "https:/acme.com"];
    let invisible = ["https://ac\u{200b}me.com", "https://acme\u{ad}.com", "https://acme.com/\u{202e}x"];
    for domain in none.into_iter().chain(local).chain(mended).chain(invisible) {
        let error = create(&world, EntryContent::new("a", domain)).await.unwrap_err();
        assert!(matches!(error, BrokerError::Invalid(_)), "{domain}: {error}");
    }
    let letters = format!("https://acme.com/{}", "\u{e9}".repeat(2_000));
    for domain in [
        "https://acme.com",
        "http://127.0.0.1:3000",
        "HTTPS://Acme.com/Login?x=1",
        "https://b\u{fc}cher.example",
        &letters,
    ] {
        assert_eq!(create(&world, EntryContent::new("a", domain)).await.unwrap().domain, domain);
    }
}

#[tokio::test]
async fn user_and_domain_are_unique_in_a_workspace_and_only_there() {
    let world = World::new().await;
    create(&world, entry("acme")).await.unwrap();
    assert!(matches!(create(&world, entry("acme")).await, Err(BrokerError::EntryExists)));
    create(&world, EntryContent::new("acme", "https://other.com")).await.unwrap();
    let other = world.other_workspace().await;
    world.broker.entries().create(&other, entry("acme")).await.unwrap();
}

async fn encrypt(world: &World, value: &str) -> String {
    let key = keyway::keys::ClientKey::from_hex(&world.encryption_key).unwrap();
    key.encrypt(&value.into()).unwrap()
}

#[tokio::test]
async fn an_entrys_own_credentials_come_back_as_they_were_sent() {
    let mut world = World::new().await;
    let (user_name, password) = (encrypt(&world, "user").await, encrypt(&world, "password").await);
    let own = Credentials {
        user_name: Some(user_name.clone()),
        password: Some(password.to_uppercase()),
        ..Credentials::default()
    };
    let new = EntryContent::own("acme", "https://acme.com", own);
    let created = create(&world, new).await.unwrap();
    world.restart().await;
    let found = world.broker.entries().get(&world.access, &created.id.into()).await.unwrap();
    let CredentialSource::Own(credentials) = found.content.credentials else { panic!("not its own") };
    assert_eq!(credentials.user_name, Some(user_name));
    assert_eq!(credentials.password, Some(password.to_uppercase()));
    assert_eq!(credentials.tfa_secret, None);
    let resolved = world.broker.resolve(&world.access, ResolveRequest::new(created.id)).await.unwrap();
    assert_eq!(text(resolved.username.as_ref()), Some("user"));
    assert_eq!(text(resolved.password.as_ref()), Some("password"));
    assert!(resolved.one_time_code.is_none());
}

#[tokio::test]
async fn credentials_under_another_key_are_refused() {
    let world = World::new().await;
    let other = world.other_workspace().await;
    let key = keyway::keys::ClientKey::from_hex(&world.broker.keys().encryption_key(&other).await.unwrap()).unwrap();
    for wrong in ["in plain".to_owned(), key.encrypt(&"password".into()).unwrap()] {
        let own = Credentials { password: Some(wrong.clone()), ..Credentials::default() };
        let error = create(&world, EntryContent::own("acme", "https://acme.com", own)).await.unwrap_err();
        assert!(matches!(&error, BrokerError::NotEncrypted { field } if field == "password"), "{error}");
        assert!(!error.to_string().contains(&wrong));
    }
}

#[tokio::test]
async fn the_authenticator_method_needs_its_secret() {
    let world = World::new().await;
    let new = entry("acme").tfa_method(TfaMethod::Authenticator);
    let error = create(&world, new).await.unwrap_err();
    assert!(matches!(error, BrokerError::Invalid(InvalidInput::AuthenticatorWithoutSecret)));
    let tfa_secret = Some(encrypt(&world, "GEZDGNBVGY3TQOJQ").await);
    let own = EntryContent::own("acme", "https://acme.com", Credentials { tfa_secret, ..Credentials::default() });
    create(&world, own.tfa_method(TfaMethod::Authenticator)).await.unwrap();
}

#[tokio::test]
async fn entries_are_listed_page_by_page_in_the_order_of_their_creation() {
    let world = World::new().await;
    let count = ENTRIES_PER_PAGE as usize + 1;
    for number in 0..count {
        create(&world, entry(&format!("user-{number}"))).await.unwrap();
    }
    let first = world.broker.entries().list(&world.access, None).await.unwrap();
    let second = world.broker.entries().list(&world.access, first.next).await.unwrap();
    assert_eq!((first.entries.len(), second.entries.len(), second.next), (count - 1, 1, None));
    let users = first.entries.iter().chain(&second.entries).map(|entry| entry.user.clone());
    assert!(users.eq((0..count).map(|number| format!("user-{number}"))));
}

#[tokio::test]
async fn a_page_with_large_entries_has_few_of_them() {
    const SIZE: usize = 400_000;
    let world = World::new().await;
    for number in 0..10 {
        let mut new = entry(&format!("user-{number}"));
        let storage = format!(r#"{{"a": "{}"}}"#, "x".repeat(SIZE));
        new.attributes.set("local_storage", AttributeKind::BrowserState, &storage).unwrap();
        create(&world, new).await.unwrap();
    }
    let (mut after, mut users) = (None, Vec::new());
    loop {
        let page = world.broker.entries().list(&world.access, after).await.unwrap();
        assert_eq!(page.entries.len(), 2, "what fits into a megabyte");
        users.extend(page.entries.into_iter().map(|entry| entry.content.user));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(users.into_iter().eq((0..10).map(|number| format!("user-{number}"))));
}
