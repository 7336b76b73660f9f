//! Connections with the 1Password component and the emulator.

use std::time::Duration;

use keyway::connections::ConnectionChanges;
use keyway::keyway_runtime::{CallError, ErrorCode, ProviderFolder, Runtime, Settings};
use keyway::{
    Access, Audit, Broker, BrokerError, CacheTtl, InvalidInput, MasterKey, NewConnection, Scope, SqliteStorage, Thing,
};

use crate::support::{World, component};

#[tokio::test]
async fn a_connection_is_verified_and_shown_without_its_token() {
    let (world, connection) = World::connected().await;
    let token = world.token("automation");
    assert_eq!(connection.name, "Acme automation");
    assert_eq!(connection.provider_type, "1password");
    assert_eq!(connection.cache_ttl.seconds(), 300);
    assert_eq!(connection.read_only, Some(false));
    assert_eq!(connection.hints["token"], token[token.len() - 4..]);
    assert_eq!(world.broker.connections().list(&world.access).await.unwrap(), std::slice::from_ref(&connection));
    assert!(!format!("{connection:?}").contains(&token));
}

#[tokio::test]
async fn a_read_only_account_is_marked() {
    let world = World::new().await;
    assert_eq!(world.connect("auditor").await.read_only, Some(true));
}

#[tokio::test]
async fn what_does_not_pass_the_check_is_not_stored() {
    let world = World::new().await;
    let token = world.token("automation");
    let cases = [
        ("a password", "invalid-settings"),
        (&token[..token.len() - 20], "invalid-settings"),
        ("", "invalid-settings"),
    ];
    for (token, code) in cases {
        let mut new = world.new_connection("automation");
        new.settings = Settings::new().with("token", token);
        let error = world.broker.connections().create(&world.access, new).await.unwrap_err();
        assert!(matches!(&error, BrokerError::NotVerified { .. }), "{error}");
        assert_eq!(error.provider_error().unwrap().code(), code, "{error}");
        assert!(token.is_empty() || !error.to_string().contains(token));
    }
    world.emulator.revoke_token("automation", 401).unwrap();
    let error = world.broker.connections().create(&world.access, world.new_connection("automation")).await.unwrap_err();
    assert!(
        matches!(&error, BrokerError::NotVerified { source: CallError::Provider(error) } if error.code == ErrorCode::Unauthenticated),
        "{error}"
    );
    assert!(!error.is_internal());
    assert!(world.broker.connections().list(&world.access).await.unwrap().is_empty());
}

#[tokio::test]
async fn unknown_providers_settings_and_empty_names_are_refused_with_what_there_is() {
    let world = World::new().await;
    let mut new = world.new_connection("automation");
    new.provider_type = "bitwarden".into();
    let error = world.broker.connections().create(&world.access, new).await.unwrap_err();
    assert!(error.to_string().contains("bitwarden") && error.to_string().contains("1password"), "{error}");

    let mut new = world.new_connection("automation");
    new.settings.set("tokn", "ops_x");
    let error = world.broker.connections().create(&world.access, new).await.unwrap_err();
    assert!(error.to_string().contains("tokn"), "{error}");

    let mut new = world.new_connection("automation");
    new.name = "  ".into();
    let error = world.broker.connections().create(&world.access, new).await.unwrap_err();
    assert!(matches!(error, BrokerError::Invalid(InvalidInput::Required { field: "name" })));
}

#[tokio::test]
async fn items_of_all_readable_vaults_are_listed() {
    let (world, connection) = World::connected().await;
    let items = world.broker.connections().list_items(&world.access, connection.id).await.unwrap();
    let item = world.item("Automation", "Northwind Supplier Portal");
    let listed = items.iter().find(|listed| listed.reference == item.reference).unwrap();
    assert_eq!(
        (listed.title.as_str(), listed.vault_name.as_deref()),
        ("Northwind Supplier Portal", Some("Automation"))
    );
    assert!(items.iter().any(|item| item.vault_name.as_deref() == Some("Staging")));
    assert!(items.iter().all(|item| item.title != "Old Fax Gateway"), "archived items are left out");
}

#[tokio::test]
async fn the_login_of_the_check_serves_the_calls_that_follow() {
    let (mut world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Wide World Importers").await;
    world.resolve(&entry).await;
    world.broker.connections().list_items(&world.access, connection.id).await.unwrap();
    assert_eq!(world.emulator.calls().logins, 1);
    world.restart().await;
    world.resolve(&entry).await;
    assert_eq!(world.emulator.calls().logins, 2, "a session is in memory only");
}

#[tokio::test]
async fn new_settings_are_checked_first_and_then_used_at_once() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Wide World Importers").await;
    world.resolve(&entry).await;

    let refused = ConnectionChanges::default().settings(Settings::new().with("token", "ops_no"));
    let error = world.broker.connections().update(&world.access, connection.id, refused).await.unwrap_err();
    assert!(matches!(error, BrokerError::NotVerified { .. }));
    assert_eq!(world.broker.connections().list(&world.access).await.unwrap(), std::slice::from_ref(&connection));

    let auditor = world.token("auditor");
    let changes = ConnectionChanges::default().settings(Settings::new().with("token", auditor.as_str()));
    let changed = world.broker.connections().update(&world.access, connection.id, changes).await.unwrap();
    assert_eq!(changed.hints["token"], auditor[auditor.len() - 4..]);
    assert_eq!(changed.read_only, Some(true));
    assert_eq!(changed.created_at, connection.created_at);

    world.emulator.revoke_token("automation", 401).unwrap();
    world.item_reads();
    world.resolve(&entry).await;
    assert_eq!(world.item_reads(), 1, "what the old token had read is not used any more");
}

#[tokio::test]
async fn a_new_name_keeps_token_session_and_cache() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Wide World Importers").await;
    world.resolve(&entry).await;
    let changes = ConnectionChanges::default().name("New name").cache_ttl(CacheTtl::ONE_HOUR);
    let changed = world.broker.connections().update(&world.access, connection.id, changes).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.cache_ttl), ("New name", CacheTtl::ONE_HOUR));
    world.item_reads();
    assert!(matches!(world.resolve(&entry).await.source, keyway::Source::Cached { .. }));
    world.broker.connections().list_items(&world.access, connection.id).await.unwrap();
    assert_eq!(world.emulator.calls().logins, 0, "no new login");
}

#[tokio::test]
async fn a_connection_that_is_not_there_cannot_be_changed() {
    let world = World::new().await;
    let unknown = uuid::Uuid::nil().into();
    let error =
        world.broker.connections().update(&world.access, unknown, ConnectionChanges::default()).await.unwrap_err();
    assert!(matches!(error, BrokerError::NotFound(Thing::Connection)));
}

#[tokio::test]
async fn a_provider_that_is_put_into_the_folder_can_be_connected_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::builder().build().unwrap();
    let providers = ProviderFolder::open(&runtime, folder.path()).await.unwrap();
    let storage = SqliteStorage::in_memory().await.unwrap();
    let builder = Broker::builder(runtime, storage, MasterKey::generate().unwrap());
    let broker = builder.provider_folder(providers).audit(Audit::in_memory()).open().await.unwrap();
    let created = broker.workspaces().create("Acme", Scope::Api).await.unwrap();
    let access = Access::operator(created.workspace.id, "tests");
    let new = || NewConnection::new("Echo", "echo", Settings::new().with("token", "token"));
    let error = broker.connections().create(&access, new()).await.unwrap_err();
    assert!(matches!(&error, BrokerError::ProviderNotInstalled { installed, .. } if installed.is_empty()), "{error}");

    std::fs::write(folder.path().join("echo.wasm"), component("fixtures/echo")).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while broker.providers().get("echo").is_none() {
        assert!(std::time::Instant::now() < deadline, "the provider was not found");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let connection = broker.connections().create(&access, new()).await.unwrap();
    assert_eq!(broker.connections().list_items(&access, connection.id).await.unwrap().len(), 3);
}
