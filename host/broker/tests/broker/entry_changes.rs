//! Changing and deleting vault entries: each transition between credentials of its own and a binding, what is dropped
//! with it, and changes that race.

use std::time::{Duration, Instant};

use keyway::{
    AttributeChanges, BrokerError, Change, ClientKey, Connection, CredentialSource, EntryChanges, EntryId,
    EntrySelector, InvalidInput, NewEntry, ResolveRequest, Source, TfaMethod, VaultEntry,
};

use keyway_emulator_onepassword::{Endpoint, Fault, FaultRule, ItemInfo, ItemState};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;

use crate::support::{World, text};

const DOMAIN: &str = "https://acme.com";

impl World {
    fn encrypted(&self, value: &str) -> String {
        ClientKey::from_hex(&self.encryption_key).unwrap().encrypt(&value.into()).unwrap()
    }

    /// An entry with credentials of its own, an authenticator among them.
    async fn own(&self, user: &str) -> VaultEntry {
        let new = NewEntry {
            permissioned_user_id: user.into(),
            domain: DOMAIN.into(),
            user_alias: Some("Main".into()),
            tfa_method: Some(TfaMethod::Authenticator),
            user_name: Some(self.encrypted("alice")),
            password: Some(self.encrypted("hunter2-hunter2")),
            tfa_secret: Some(self.encrypted("GEZDGNBVGY3TQOJQ")),
            ..NewEntry::default()
        };
        self.broker.create_entry(&self.access, new).await.unwrap()
    }

    async fn update(&self, entry: &VaultEntry, changes: EntryChanges) -> Result<VaultEntry, BrokerError> {
        let updated = self.broker.update_entry(&self.access, &entry.id.into(), changes).await?;
        let stored = self.broker.get_entry(&self.access, &entry.id.into()).await.unwrap();
        assert_eq!(format!("{updated:?}"), format!("{stored:?}"), "what is answered is what is stored");
        Ok(updated)
    }
}

fn reference(world: &World, title: &str) -> String {
    let account = world.emulator.account("automation").unwrap();
    account.vault("Automation").unwrap().item(title).unwrap().reference.clone()
}

fn bind_to(connection: &Connection, reference: &str) -> EntryChanges {
    EntryChanges {
        secret_provider_id: Change::Set(connection.id),
        secret_ref: Change::Set(reference.into()),
        ..EntryChanges::default()
    }
}

fn unbind() -> EntryChanges {
    EntryChanges { secret_provider_id: Change::Clear, secret_ref: Change::Clear, ..EntryChanges::default() }
}

fn pair(user: &str) -> EntrySelector {
    EntrySelector::Pair { permissioned_user_id: user.into(), domain: DOMAIN.into() }
}

fn invalid(result: Result<VaultEntry, BrokerError>) -> InvalidInput {
    match result {
        Err(BrokerError::Invalid(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_not_mentioned_stays_and_what_is_cleared_goes() {
    let world = World::new().await;
    let entry = world.own("acme").await;
    let password = world.encrypted("another");
    let changes = EntryChanges { password: Change::Set(password.clone()), ..EntryChanges::default() };
    let entry = world.update(&entry, changes).await.unwrap();
    let CredentialSource::Own(own) = &entry.credentials else { panic!("bound") };
    assert_eq!((own.password.as_ref(), own.user_name.is_some()), (Some(&password), true));
    assert_eq!(entry.tfa_method, Some(TfaMethod::Authenticator));

    let changes = EntryChanges {
        user_alias: Change::Clear,
        tfa_method: Change::Clear,
        tfa_secret: Change::Set(ClientKey::from_hex(&world.encryption_key).map(|key| encrypted_null(&key)).unwrap()),
        ..EntryChanges::default()
    };
    let entry = world.update(&entry, changes).await.unwrap();
    let CredentialSource::Own(own) = &entry.credentials else { panic!("bound") };
    assert_eq!((entry.user_alias, entry.tfa_method, own.tfa_secret.as_ref()), (None, None, None));
    assert!(own.password.is_some());
}

/// As one of the published clients encrypts a value that is not set: its JSON is `null`, where a string's is quoted.
fn encrypted_null(key: &ClientKey) -> String {
    use aes_gcm::aead::{Aead, KeyInit};
    use secrecy::ExposeSecret;
    let bytes = data_encoding::HEXLOWER.decode(key.to_hex().expose_secret().as_bytes()).unwrap();
    let cipher = aes_gcm::Aes256Gcm::new_from_slice(&bytes).unwrap();
    let nonce = [7; 12];
    data_encoding::HEXLOWER.encode(&[&nonce[..], &cipher.encrypt(&nonce.into(), &b"null"[..]).unwrap()].concat())
}

#[tokio::test]
async fn binding_an_entry_erases_its_own_credentials_and_its_authenticator() {
    let (world, connection) = World::connected().await;
    let entry = world.own("acme").await;
    let reference = world.item("Automation", "Northwind Supplier Portal").reference;
    let bound = world.update(&entry, bind_to(&connection, &reference)).await.unwrap();
    assert_eq!(bound.binding().unwrap().reference, reference);
    assert_eq!(bound.tfa_method, None, "it cannot stay without its secret");
    assert_eq!(bound.user_alias.as_deref(), Some("Main"));

    // Nothing of them comes back.
    let own = world.update(&bound, unbind()).await.unwrap();
    let CredentialSource::Own(credentials) = own.credentials else { panic!("bound") };
    assert!(credentials.user_name.is_none() && credentials.password.is_none() && credentials.tfa_secret.is_none());
}

#[tokio::test]
async fn a_binding_is_only_left_by_saying_so() {
    let (world, connection) = World::connected().await;
    let bound = world.bind(&connection, "Northwind Supplier Portal").await;
    let credentials = || EntryChanges {
        user_name: Change::Set(world.encrypted("alice")),
        password: Change::Set(world.encrypted("hunter2-hunter2")),
        ..EntryChanges::default()
    };
    let error = invalid(world.update(&bound, credentials()).await);
    assert_eq!(error, InvalidInput::CredentialsForBound { fields: vec!["user_name", "password"] });
    assert!(error.to_string().contains("secret_provider_id and secret_ref as null"), "{error}");
    let half = EntryChanges { secret_ref: Change::Clear, ..credentials() };
    assert_eq!(invalid(world.update(&bound, half).await), InvalidInput::IncompleteBinding);
    // What sets nothing does no harm.
    let nothing = EntryChanges { password: Change::Clear, ..EntryChanges::default() };
    assert!(world.update(&bound, nothing).await.unwrap().binding().is_some());

    let both = EntryChanges { secret_provider_id: Change::Clear, secret_ref: Change::Clear, ..credentials() };
    world.update(&bound, both).await.unwrap();
    let resolved = world.resolve(&bound).await;
    assert_eq!(text(resolved.username.as_ref()), Some("alice"));
    assert_eq!(text(resolved.password.as_ref()), Some("hunter2-hunter2"));
}

#[tokio::test]
async fn a_binding_that_is_sent_again_without_a_duration_has_the_connections() {
    let (world, connection) = World::connected().await;
    let bound = world.bind(&connection, "Northwind Supplier Portal").await;
    let reference = bound.binding().unwrap().reference.clone();
    let ttl = |entry: &VaultEntry| entry.binding().unwrap().cache_ttl.map(|ttl| ttl.seconds());
    let change = |change| EntryChanges { secret_cache_ttl_seconds: change, ..EntryChanges::default() };

    let entry = world.update(&bound, change(Change::Set(60))).await.unwrap();
    assert_eq!(ttl(&entry), Some(60));
    let alias = EntryChanges { user_alias: Change::Set("Other".into()), ..EntryChanges::default() };
    assert_eq!(ttl(&world.update(&bound, alias).await.unwrap()), Some(60), "nothing was said about the binding");
    assert_eq!(ttl(&world.update(&bound, bind_to(&connection, &reference)).await.unwrap()), None);
    let both = EntryChanges { secret_cache_ttl_seconds: Change::Set(0), ..bind_to(&connection, &reference) };
    assert_eq!(ttl(&world.update(&bound, both).await.unwrap()), Some(0));
    assert_eq!(ttl(&world.update(&bound, change(Change::Clear)).await.unwrap()), None);

    let own = world.update(&bound, unbind()).await.unwrap();
    assert_eq!(invalid(world.update(&own, change(Change::Set(60))).await), InvalidInput::CacheDurationWithoutBinding);
    world.update(&own, change(Change::Clear)).await.unwrap();
}

#[tokio::test]
async fn the_rules_of_a_new_entry_hold_for_a_change() {
    let (world, connection) = World::connected().await;
    let own = world.own("own").await;
    let bound = world.bind(&connection, "Northwind Supplier Portal").await;
    let other = world.other_workspace().await;
    let foreign = world.broker.connect(&other, world.new_connection("automation")).await.unwrap();
    let set_method = |method| EntryChanges { tfa_method: Change::Set(method), ..EntryChanges::default() };

    assert_eq!(
        invalid(world.update(&bound, set_method(TfaMethod::Authenticator)).await),
        InvalidInput::BoundWithAuthenticator
    );
    for method in [TfaMethod::Email, TfaMethod::Sms, TfaMethod::MagicLink] {
        assert_eq!(world.update(&bound, set_method(method)).await.unwrap().tfa_method, Some(method));
    }
    let no_secret = EntryChanges { tfa_secret: Change::Clear, ..EntryChanges::default() };
    assert_eq!(invalid(world.update(&own, no_secret).await), InvalidInput::AuthenticatorWithoutSecret);
    let no_base32 = EntryChanges { tfa_secret: Change::Set(world.encrypted("not base32!")), ..EntryChanges::default() };
    assert_eq!(invalid(world.update(&own, no_base32).await), InvalidInput::TfaSecret);
    assert_eq!(
        invalid(
            world.update(&own, bind_to(&foreign, "op://mhlxx5y45opqk7p7prulriztqq/ch4arxhoemrdclbxyixyesgyt4")).await
        ),
        InvalidInput::UnknownConnection
    );
    assert!(matches!(
        invalid(world.update(&own, bind_to(&connection, "op://vault")).await),
        InvalidInput::Reference { .. }
    ));
    let domain = EntryChanges { domain: Some("acme.com".into()), ..EntryChanges::default() };
    assert_eq!(invalid(world.update(&own, domain).await), InvalidInput::Domain);
    let plain = EntryChanges { password: Change::Set("in plain".into()), ..EntryChanges::default() };
    assert!(matches!(world.update(&own, plain).await, Err(BrokerError::NotEncrypted { field: "password" })));

    let foreign = world.broker.update_entry(&other, &own.id.into(), EntryChanges::default()).await;
    assert!(matches!(foreign, Err(BrokerError::NotFound(_))));
}

#[tokio::test]
async fn a_passkey_and_a_binding_exclude_each_other_in_both_orders() {
    let (world, connection) = World::connected().await;
    let passkey = |passkey| EntryChanges { passkey: Some(passkey), ..EntryChanges::default() };
    let bound = world.bind(&connection, "Northwind Supplier Portal").await;
    assert_eq!(invalid(world.update(&bound, passkey(true)).await), InvalidInput::BoundWithPasskey);

    let own = world.own("own").await;
    assert!(world.update(&own, passkey(true)).await.unwrap().passkey);
    let bind = || bind_to(&connection, "op://mhlxx5y45opqk7p7prulriztqq/ch4arxhoemrdclbxyixyesgyt4");
    assert_eq!(invalid(world.update(&own, bind()).await), InvalidInput::BoundWithPasskey);
    let instead = EntryChanges { passkey: Some(false), ..bind() };
    assert!(world.update(&own, instead).await.unwrap().binding().is_some());

    let new = NewEntry {
        passkey: true,
        ..NewEntry::bound("new", DOMAIN, connection.id, "op://mhlxx5y45opqk7p7prulriztqq/ch4arxhoemrdclbxyixyesgyt4")
    };
    let error = world.broker.create_entry(&world.access, new).await;
    assert_eq!(invalid(error), InvalidInput::BoundWithPasskey);
}

#[tokio::test]
async fn a_renamed_entry_is_found_under_its_new_name_only() {
    let world = World::new().await;
    let entry = world.own("old").await;
    world.own("taken").await;
    world.broker.resolve(&world.access, ResolveRequest::new(pair("old"))).await.unwrap();
    let rename = |user: &str| EntryChanges { permissioned_user_id: Some(user.into()), ..EntryChanges::default() };
    assert!(matches!(world.update(&entry, rename("taken")).await, Err(BrokerError::EntryExists)));
    world.update(&entry, rename("new")).await.unwrap();
    let resolve = async |user: &str| world.broker.resolve(&world.access, ResolveRequest::new(pair(user))).await;
    assert!(matches!(resolve("old").await, Err(BrokerError::NotFound(_))), "also not from memory");
    assert_eq!(text(resolve("new").await.unwrap().username.as_ref()), Some("alice"));
}

#[tokio::test]
async fn a_change_of_binding_drops_what_was_cached() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Northwind Supplier Portal").await;
    let first = entry.binding().unwrap().reference.clone();
    let account = world.emulator.account("automation").unwrap();
    let items = &account.vault("Automation").unwrap().items;
    let usable = |item: &&ItemInfo| item.state == ItemState::Active && item.category == "login";
    let second = items.iter().filter(usable).find(|item| item.reference != first && item.username.is_some()).unwrap();

    let before = world.resolve(&entry).await;
    assert!(matches!(world.resolve(&entry).await.source, Source::Cached { .. }));
    world.update(&entry, bind_to(&connection, &second.reference)).await.unwrap();
    let after = world.resolve(&entry).await;
    assert_eq!(after.source, Source::Live);
    assert_eq!(text(after.username.as_ref()), second.username.as_deref());
    world.update(&entry, bind_to(&connection, &first)).await.unwrap();
    let again = world.resolve(&entry).await;
    assert_eq!(again.source, Source::Live, "what was there before was dropped, too");
    assert_eq!(text(again.username.as_ref()), text(before.username.as_ref()));
}

#[tokio::test]
async fn what_another_host_has_cached_of_a_binding_is_not_used_when_it_comes_back() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Northwind Supplier Portal").await;
    let (first, second) = (entry.binding().unwrap().reference.clone(), reference(&world, "Wide World Importers"));
    let other = world.beside().await;
    let resolve = || async { other.resolve(&world.access, ResolveRequest::new(entry.id)).await.unwrap().source };
    resolve().await;
    assert!(matches!(resolve().await, Source::Cached { .. }));
    world.update(&entry, bind_to(&connection, &second)).await.unwrap();
    world.update(&entry, bind_to(&connection, &first)).await.unwrap();
    // Within a second.
    let started = Instant::now();
    while resolve().await != Source::Live {
        assert!(started.elapsed() < Duration::from_secs(20));
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_its_way_when_the_binding_changed_is_not_used_when_it_comes_back() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Northwind Supplier Portal").await;
    let (first, second) = (entry.binding().unwrap().reference.clone(), reference(&world, "Wide World Importers"));
    world.emulator.reset_calls();
    world.emulator.fault(FaultRule::next_of(Endpoint::Item, Fault::Delay { milliseconds: 1_000 }));
    let (broker, access, id) = (world.broker.clone(), world.access.clone(), entry.id);
    let on_its_way = tokio::spawn(async move { broker.resolve(&access, ResolveRequest::new(id)).await });
    while world.emulator.calls().of(Endpoint::Item) == 0 {
        tokio::task::yield_now().await;
    }
    world.update(&entry, bind_to(&connection, &second)).await.unwrap();
    world.update(&entry, bind_to(&connection, &first)).await.unwrap();
    assert!(!on_its_way.is_finished(), "it was to be overtaken");
    on_its_way.await.unwrap().unwrap();
    assert_eq!(world.resolve(&entry).await.source, Source::Live);
    assert!(matches!(world.resolve(&entry).await.source, Source::Cached { .. }));
}

#[tokio::test]
async fn a_deleted_entry_is_gone_at_once_and_its_connection_stays() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Northwind Supplier Portal").await;
    world.resolve(&entry).await;
    let other = world.other_workspace().await;
    assert!(matches!(world.broker.delete_entry(&other, &entry.id.into()).await, Err(BrokerError::NotFound(_))));

    world.broker.delete_entry(&world.access, &entry.id.into()).await.unwrap();
    let resolved = world.broker.resolve(&world.access, ResolveRequest::new(entry.id)).await;
    assert!(matches!(resolved, Err(BrokerError::NotFound(_))));
    assert!(matches!(world.broker.delete_entry(&world.access, &entry.id.into()).await, Err(BrokerError::NotFound(_))));
    assert_eq!(world.broker.list_connections(&world.access).await.unwrap().len(), 1);
    // The pair is free again, and what was cached is not what the new entry gets.
    let entry = world.bind(&connection, "Northwind Supplier Portal").await;
    assert_eq!(world.resolve(&entry).await.source, Source::Live);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_changes_at_the_same_time_none_is_lost() {
    let world = World::new().await;
    let entry = world.own("acme").await;
    let names = ["user_agent", "location", "ip_address", "session_id", "user_id", "cookie_domain_to_store"];
    for round in 0..10 {
        let changing = names.map(|name| {
            let (broker, access, id) = (world.broker.clone(), world.access.clone(), entry.id);
            tokio::spawn(async move {
                let mut attributes = AttributeChanges::new();
                attributes.set(name, &format!("\"{round}\"")).unwrap();
                let changes = EntryChanges { attributes, ..EntryChanges::default() };
                broker.update_entry(&access, &EntryId::into(id), changes).await.unwrap();
            })
        });
        for change in changing {
            change.await.unwrap();
        }
        let stored = world.broker.get_entry(&world.access, &entry.id.into()).await.unwrap();
        for name in names {
            assert_eq!(stored.attributes.get(name), Some(&*format!("\"{round}\"")), "{name}");
        }
    }
}

#[tokio::test]
async fn a_domain_from_before_a_rule_may_be_sent_back() {
    let world = World::new().await;
    let entry = world.own("acme").await;
    let options = SqliteConnectOptions::new().filename(world.folder.path().join("keyway.db"));
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let stored = "UPDATE vault_entries SET domain = 'http://app.localhost' WHERE id = ?";
    sqlx::query(stored).bind(entry.id.as_uuid()).execute(&pool).await.unwrap();
    let back = |domain: &str| EntryChanges {
        domain: Some(domain.into()),
        user_alias: Change::Set("Renamed".into()),
        ..EntryChanges::default()
    };
    assert_eq!(
        world.update(&entry, back("http://app.localhost")).await.unwrap().user_alias.as_deref(),
        Some("Renamed")
    );
    assert_eq!(invalid(world.update(&entry, back("http://b.localhost")).await), InvalidInput::Domain);
}

#[tokio::test]
async fn session_data_has_a_time_and_expires_by_the_earlier_interval() {
    let world = World::new().await;
    let entry = world.own("acme").await;
    let set = async |values: &[(&str, &str)]| {
        let mut attributes = AttributeChanges::new();
        for (name, json) in values {
            attributes.set(name, json).unwrap();
        }
        world.update(&entry, EntryChanges { attributes, ..EntryChanges::default() }).await.unwrap()
    };
    let expiries =
        [("expiry_time_from_last_use", "\"2 days\""), ("expiry_time_from_session_data_set", "\"7 days 00:00:00\"")];
    let changed = set(&expiries).await;
    assert_eq!(
        (changed.session_data_set_at, changed.effective_expires_at()),
        (None, None),
        "there is nothing to expire"
    );

    let cookies = r#"[{"name": "s", "value": null}]"#;
    let changed = set(&[("cookies", cookies), ("local_storage", "{}")]).await;
    assert_eq!(changed.attributes.get("cookies"), Some(cookies));
    let set_at = changed.session_data_set_at.unwrap();
    let expires = changed.effective_expires_at().unwrap();
    assert_eq!(expires.as_second() - set_at.as_second(), 2 * 24 * 3_600);

    world.clock.advance(std::time::Duration::from_secs(60));
    let changed = set(&[("user_agent", "\"Mozilla\"")]).await;
    assert_eq!(changed.session_data_set_at, Some(set_at), "that is not session data");
    // What comes back as it is, however its client writes it, is as old as it was; and so is what is left when a part is cleared.
    for back in [cookies, r#"[{"value":null,"name":"\u0073"}]"#] {
        let changed = set(&[("cookies", back), ("local_storage", "{ }")]).await;
        assert_eq!(changed.session_data_set_at, Some(set_at), "{back}");
    }
    assert_eq!(set(&[("local_storage", "null")]).await.session_data_set_at, Some(set_at));
    let anew = set(&[("cookies", r#"[{"name": "s", "value": 1}]"#)]).await.session_data_set_at.unwrap();
    assert_eq!(anew.as_second() - set_at.as_second(), 60);

    let cleared = world.broker.clear_browser_state(&world.access, &pair("acme")).await.unwrap();
    assert_eq!((cleared.session_data_set_at, cleared.attributes.get("cookies")), (None, None));
    assert!(cleared.attributes.get("user_agent").is_some());
}

#[tokio::test]
async fn the_address_of_a_custom_proxy_is_encrypted_like_a_credential() {
    let world = World::new().await;
    let entry = world.own("acme").await;
    let set = async |values: &[(&str, &str)]| {
        let mut attributes = AttributeChanges::new();
        for (name, json) in values {
            attributes.set(name, json).unwrap();
        }
        world.update(&entry, EntryChanges { attributes, ..EntryChanges::default() }).await
    };
    let custom = ("proxy_setting", "\"custom\"");
    let plain = set(&[custom, ("proxy_value", "\"http://user:word@proxy.example:8080\"")]).await;
    assert!(matches!(plain, Err(BrokerError::NotEncrypted { field: "proxy_value" })));
    let alone = set(&[("proxy_value", "\"203.0.113.7\"")]).await;
    assert_eq!(invalid(alone), InvalidInput::ProxyValueWithoutSetting);

    set(&[("proxy_setting", "\"static\""), ("proxy_value", "\"203.0.113.7\"")]).await.unwrap();
    let sealed = format!("\"{}\"", world.encrypted("http://user:word@proxy.example:8080"));
    let changed = set(&[custom, ("proxy_value", &sealed)]).await.unwrap();
    assert_eq!(changed.attributes.get("proxy_value"), Some(&*sealed));
    // With the setting kept, another value has to be encrypted, too.
    let later = set(&[("proxy_value", "\"203.0.113.7\"")]).await;
    assert!(matches!(later, Err(BrokerError::NotEncrypted { .. })));
}
