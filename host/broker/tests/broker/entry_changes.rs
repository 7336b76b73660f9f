//! Changing and deleting vault entries: each transition between own credentials and a binding, what
//! it drops, and racing changes.

use std::time::{Duration, Instant};

use keyway::connections::Connection;
use keyway::entries::{AttributeKind, Binding, CredentialSource, Credentials, TfaMethod, VaultEntry};
use keyway::keys::ClientKey;
use keyway::storage::EntryStorage;
use keyway::{BrokerError, CacheTtl, EntryContent, EntryId, EntrySelector, InvalidInput, ResolveRequest, Source};

use keyway_emulator_onepassword::{Endpoint, Fault, FaultRule, ItemInfo, ItemState};

use crate::support::{World, text};

const DOMAIN: &str = "https://acme.com";

impl World {
    fn encrypted(&self, value: &str) -> String {
        ClientKey::from_hex(&self.encryption_key).unwrap().encrypt(&value.into()).unwrap()
    }

    /// An entry with its own credentials, including an authenticator.
    async fn own(&self, user: &str) -> VaultEntry {
        let credentials = Credentials {
            user_name: Some(self.encrypted("alice")),
            password: Some(self.encrypted("hunter2-hunter2")),
            tfa_secret: Some(self.encrypted("GEZDGNBVGY3TQOJQ")),
        };
        let new = EntryContent::own(user, DOMAIN, credentials).alias("Main").tfa_method(TfaMethod::Authenticator);
        self.broker.entries().create(&self.access, new).await.unwrap()
    }

    async fn update(
        &self,
        entry: &VaultEntry,
        change: impl Fn(&mut EntryContent) + Send + Sync,
    ) -> Result<VaultEntry, BrokerError> {
        let change = |entry: &mut EntryContent| {
            change(entry);
            Ok(())
        };
        let updated = self.broker.entries().update(&self.access, &entry.id.into(), change).await?;
        let stored = self.broker.entries().get(&self.access, &entry.id.into()).await.unwrap();
        assert_eq!(format!("{updated:?}"), format!("{stored:?}"), "the answer equals what is stored");
        Ok(updated)
    }
}

fn reference(world: &World, title: &str) -> String {
    let account = world.emulator.account("automation").unwrap();
    account.vault("Automation").unwrap().item(title).unwrap().reference.clone()
}

fn bind_to(connection: &Connection, reference: &str) -> impl Fn(&mut EntryContent) + Send + Sync + use<> {
    let binding = Binding::new(connection.id, reference);
    move |entry| entry.credentials = CredentialSource::Bound(binding.clone())
}

fn unbind(entry: &mut EntryContent) {
    entry.credentials = CredentialSource::default();
}

fn pair(user: &str) -> EntrySelector {
    EntrySelector::Pair { user: user.into(), domain: DOMAIN.into() }
}

fn invalid(result: Result<VaultEntry, BrokerError>) -> InvalidInput {
    match result {
        Err(BrokerError::Invalid(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_not_changed_stays_and_an_encrypted_null_is_no_value() {
    let world = World::new().await;
    let entry = world.own("acme").await;
    let password = world.encrypted("another");
    let change = |entry: &mut EntryContent| entry.own_credentials_mut().unwrap().password = Some(password.clone());
    let entry = world.update(&entry, change).await.unwrap();
    let own = entry.own_credentials().unwrap();
    assert_eq!((own.password.as_ref(), own.user_name.is_some()), (Some(&password), true));
    assert_eq!(entry.tfa_method, Some(TfaMethod::Authenticator));

    let null = ClientKey::from_hex(&world.encryption_key).map(|key| encrypted_null(&key)).unwrap();
    for (value, is_null) in [(null.as_str(), true), (&password, false), ("in plain", false)] {
        assert_eq!(world.broker.entries().is_encrypted_null(&world.access, value).await.unwrap(), is_null, "{value}");
    }
    let change = |entry: &mut EntryContent| {
        (entry.alias, entry.tfa_method) = (None, None);
        entry.own_credentials_mut().unwrap().tfa_secret = Some(null.clone());
    };
    let entry = world.update(&entry, change).await.unwrap();
    let own = entry.own_credentials().unwrap();
    assert_eq!((entry.alias.as_ref(), entry.tfa_method, own.tfa_secret.as_ref()), (None, None, None));
    assert!(own.password.is_some());
}

/// A value that is not set, encrypted as one of the published clients does: its JSON is `null`,
/// where a string's is quoted.
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
    assert_eq!(bound.alias.as_deref(), Some("Main"));

    // None of them comes back.
    let own = world.update(&bound, unbind).await.unwrap();
    assert_eq!(own.own_credentials(), Some(&Credentials::default()));
}

#[tokio::test]
async fn a_bound_entry_can_be_given_credentials_of_its_own_instead() {
    let (world, connection) = World::connected().await;
    let bound = world.bind(&connection, "Northwind Supplier Portal").await;
    let own = Credentials {
        user_name: Some(world.encrypted("alice")),
        password: Some(world.encrypted("hunter2-hunter2")),
        tfa_secret: None,
    };
    world.update(&bound, |entry| entry.credentials = CredentialSource::Own(own.clone())).await.unwrap();
    let resolved = world.resolve(&bound).await;
    assert_eq!(text(resolved.username.as_ref()), Some("alice"));
    assert_eq!(text(resolved.password.as_ref()), Some("hunter2-hunter2"));
}

#[tokio::test]
async fn a_binding_has_a_duration_of_its_own_until_it_is_replaced() {
    let (world, connection) = World::connected().await;
    let bound = world.bind(&connection, "Northwind Supplier Portal").await;
    let reference = bound.binding().unwrap().reference.clone();
    let ttl = |entry: &VaultEntry| entry.binding().unwrap().cache_ttl;
    let minute = Some(CacheTtl::from_seconds(60));

    let entry = world.update(&bound, |entry| entry.binding_mut().unwrap().cache_ttl = minute).await.unwrap();
    assert_eq!(ttl(&entry), minute);
    let renamed = world.update(&bound, |entry| entry.alias = Some("Other".into())).await.unwrap();
    assert_eq!(ttl(&renamed), minute, "nothing was said about the binding");
    assert_eq!(ttl(&world.update(&bound, bind_to(&connection, &reference)).await.unwrap()), None);
}

#[tokio::test]
async fn a_change_that_is_refused_by_who_makes_it_changes_nothing_and_is_told_in_their_words() {
    let world = World::new().await;
    let entry = world.own("acme").await;
    let refuse = |entry: &mut EntryContent| {
        entry.alias = Some("Other".into());
        Err(InvalidInput::Refused("not on Sundays".into()))
    };
    let error = world.broker.entries().update(&world.access, &entry.id.into(), refuse).await.unwrap_err();
    assert_eq!((error.to_string(), error.kind()), ("not on Sundays".into(), keyway::ErrorKind::Invalid));
    let stored = world.broker.entries().get(&world.access, &entry.id.into()).await.unwrap();
    assert_eq!(stored.alias.as_deref(), Some("Main"));
}

#[tokio::test]
async fn the_rules_of_a_new_entry_hold_for_a_change() {
    let (world, connection) = World::connected().await;
    let own = world.own("own").await;
    let bound = world.bind(&connection, "Northwind Supplier Portal").await;
    let other = world.other_workspace().await;
    let foreign = world.broker.connections().create(&other, world.new_connection("automation")).await.unwrap();
    let set_method = |method| move |entry: &mut EntryContent| entry.tfa_method = Some(method);

    assert_eq!(
        invalid(world.update(&bound, set_method(TfaMethod::Authenticator)).await),
        InvalidInput::BoundWithAuthenticator
    );
    for method in [TfaMethod::Email, TfaMethod::Sms, TfaMethod::MagicLink] {
        assert_eq!(world.update(&bound, set_method(method)).await.unwrap().tfa_method, Some(method));
    }
    let secret = |secret: Option<String>| {
        move |entry: &mut EntryContent| entry.own_credentials_mut().unwrap().tfa_secret = secret.clone()
    };
    assert_eq!(invalid(world.update(&own, secret(None)).await), InvalidInput::AuthenticatorWithoutSecret);
    let no_base32 = secret(Some(world.encrypted("not base32!")));
    let refused = invalid(world.update(&own, no_base32).await);
    assert!(matches!(&refused, InvalidInput::TfaSecret(reason) if reason.contains("not base32")), "{refused}");
    // Also of an entry whose codes come in another way for now.
    world.update(&own, set_method(TfaMethod::Email)).await.unwrap();
    let no_base32 = secret(Some(world.encrypted("not base32!")));
    assert!(matches!(invalid(world.update(&own, no_base32).await), InvalidInput::TfaSecret(_)));
    world.update(&own, set_method(TfaMethod::Authenticator)).await.unwrap();
    let counting = secret(Some(world.encrypted("otpauth://hotp/x?secret=GEZDGNBVGY3TQOJQ&counter=1")));
    let refused = invalid(world.update(&own, counting).await);
    assert!(matches!(&refused, InvalidInput::TfaSecret(reason) if reason.contains("HOTP")), "{refused}");
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
    let domain = world.update(&own, |entry| entry.domain = "acme.com".into()).await;
    assert_eq!(invalid(domain), InvalidInput::Domain);
    let plain = |entry: &mut EntryContent| entry.own_credentials_mut().unwrap().password = Some("in plain".into());
    let refused = world.update(&own, plain).await;
    assert!(matches!(refused, Err(BrokerError::NotEncrypted { field }) if field == "password"));

    let foreign = world.broker.entries().update(&other, &own.id.into(), |_| Ok(())).await;
    assert!(matches!(foreign, Err(BrokerError::NotFound(_))));
}

#[tokio::test]
async fn a_passkey_and_a_binding_exclude_each_other_in_both_orders() {
    let (world, connection) = World::connected().await;
    let passkey = |passkey| move |entry: &mut EntryContent| entry.passkey = passkey;
    let bound = world.bind(&connection, "Northwind Supplier Portal").await;
    assert_eq!(invalid(world.update(&bound, passkey(true)).await), InvalidInput::BoundWithPasskey);

    let own = world.own("own").await;
    assert!(world.update(&own, passkey(true)).await.unwrap().passkey);
    let bind = || bind_to(&connection, "op://mhlxx5y45opqk7p7prulriztqq/ch4arxhoemrdclbxyixyesgyt4");
    assert_eq!(invalid(world.update(&own, bind()).await), InvalidInput::BoundWithPasskey);
    let instead = |entry: &mut EntryContent| {
        entry.passkey = false;
        bind()(entry);
    };
    assert!(world.update(&own, instead).await.unwrap().binding().is_some());

    let new =
        EntryContent::bound("new", DOMAIN, connection.id, "op://mhlxx5y45opqk7p7prulriztqq/ch4arxhoemrdclbxyixyesgyt4")
            .passkey(true);
    let error = world.broker.entries().create(&world.access, new).await;
    assert_eq!(invalid(error), InvalidInput::BoundWithPasskey);
}

#[tokio::test]
async fn a_renamed_entry_is_found_under_its_new_name_only() {
    let world = World::new().await;
    let entry = world.own("old").await;
    world.own("taken").await;
    world.broker.resolve(&world.access, ResolveRequest::new(pair("old"))).await.unwrap();
    let rename = |user: &'static str| move |entry: &mut EntryContent| entry.user = user.into();
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
    assert!(matches!(world.broker.entries().delete(&other, &entry.id.into()).await, Err(BrokerError::NotFound(_))));

    world.broker.entries().delete(&world.access, &entry.id.into()).await.unwrap();
    let resolved = world.broker.resolve(&world.access, ResolveRequest::new(entry.id)).await;
    assert!(matches!(resolved, Err(BrokerError::NotFound(_))));
    assert!(matches!(
        world.broker.entries().delete(&world.access, &entry.id.into()).await,
        Err(BrokerError::NotFound(_))
    ));
    assert_eq!(world.broker.connections().list(&world.access).await.unwrap().len(), 1);
    // The pair is free again, and the new entry does not receive the old one's cached values.
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
                let value = format!("\"{round}\"");
                let change = |entry: &mut EntryContent| entry.attributes.set(name, AttributeKind::Plain, &value);
                broker.entries().update(&access, &EntryId::into(id), change).await.unwrap();
            })
        });
        for change in changing {
            change.await.unwrap();
        }
        let stored = world.broker.entries().get(&world.access, &entry.id.into()).await.unwrap();
        for name in names {
            assert_eq!(stored.attributes.get(name), Some(&*format!("\"{round}\"")), "{name}");
        }
    }
}

#[tokio::test]
async fn a_domain_from_before_a_rule_may_be_sent_back() {
    let world = World::new().await;
    let entry = world.own("acme").await;
    let mut stored = world.storage.entry(world.access.workspace(), &entry.id.into()).await.unwrap().unwrap();
    stored.domain = "http://app.localhost".into();
    assert!(world.storage.update_entry(&stored, stored.version).await.unwrap());
    let back = |domain: &'static str| {
        move |entry: &mut EntryContent| (entry.domain, entry.alias) = (domain.into(), Some("Renamed".into()))
    };
    assert_eq!(world.update(&entry, back("http://app.localhost")).await.unwrap().alias.as_deref(), Some("Renamed"));
    assert_eq!(invalid(world.update(&entry, back("http://b.localhost")).await), InvalidInput::Domain);
}

#[tokio::test]
async fn a_browsers_state_has_a_time_and_is_cleared_together() {
    let world = World::new().await;
    let entry = world.own("acme").await;
    let set = async |values: &[(&'static str, AttributeKind, &'static str)]| {
        let change = |entry: &mut EntryContent| {
            for (name, kind, json) in values {
                entry.attributes.set(*name, *kind, json).unwrap();
            }
        };
        world.update(&entry, change).await.unwrap()
    };
    use AttributeKind::{BrowserState, Plain};
    assert_eq!(set(&[("user_agent", Plain, "\"Mozilla\"")]).await.session_data_set_at, None);

    let cookies = r#"[{"name": "s", "value": null}]"#;
    let changed = set(&[("cookies", BrowserState, cookies), ("local_storage", BrowserState, "{}")]).await;
    assert_eq!(changed.attributes.get("cookies"), Some(cookies));
    let set_at = changed.session_data_set_at.unwrap();

    world.clock.advance(std::time::Duration::from_secs(60));
    let changed = set(&[("user_agent", Plain, "\"Mozilla/5.0\"")]).await;
    assert_eq!(changed.session_data_set_at, Some(set_at), "that is not browser state");
    // Data that is sent back unchanged, in any formatting, keeps its age. So does the rest when a
    // part is cleared.
    for back in [cookies, r#"[{"value":null,"name":"\u0073"}]"#] {
        let changed = set(&[("cookies", BrowserState, back), ("local_storage", BrowserState, "{ }")]).await;
        assert_eq!(changed.session_data_set_at, Some(set_at), "{back}");
    }
    let part = world.update(&entry, |entry| entry.attributes.remove("local_storage")).await.unwrap();
    assert_eq!(part.session_data_set_at, Some(set_at));
    let anew = set(&[("cookies", BrowserState, r#"[{"name": "s", "value": 1}]"#)]).await.session_data_set_at.unwrap();
    assert_eq!(anew.as_second() - set_at.as_second(), 60);

    let cleared = world.broker.entries().clear_browser_state(&world.access, &pair("acme")).await.unwrap();
    assert_eq!((cleared.session_data_set_at, cleared.attributes.get("cookies")), (None, None));
    assert!(cleared.attributes.get("user_agent").is_some());
}

#[tokio::test]
async fn an_attribute_that_clients_encrypt_must_open_like_a_credential() {
    let world = World::new().await;
    let entry = world.own("acme").await;
    let set = async |json: &str| {
        let change = |entry: &mut EntryContent| {
            entry.attributes.set("proxy_value", AttributeKind::Encrypted, json).unwrap();
        };
        world.update(&entry, change).await
    };
    let plain = set("\"http://user:word@proxy.example:8080\"").await;
    assert!(matches!(plain, Err(BrokerError::NotEncrypted { field }) if field == "proxy_value"));
    assert!(matches!(invalid(set("7").await), InvalidInput::EncryptedNotText { field } if field == "proxy_value"));
    let sealed = format!("\"{}\"", world.encrypted("http://user:word@proxy.example:8080"));
    assert_eq!(set(&sealed).await.unwrap().attributes.get("proxy_value"), Some(&*sealed));
    let null = ClientKey::from_hex(&world.encryption_key).map(|key| encrypted_null(&key)).unwrap();
    assert_eq!(set(&format!("\"{null}\"")).await.unwrap().attributes.get("proxy_value"), None);
}
