//! Rotations of the broker, with `hvac` as the other client of the same secret.

use keyway::rotations::{BeginRotation, RotationState};
use keyway::{Access, Audit, Broker, EntryContent, MasterKey, NewConnection, Scopes, SqliteStorage};
use keyway_runtime::Settings;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::server::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_writes_the_new_password_and_overwrites_no_other_change_unasked() {
    let world = World::start().await;
    let secret = json!({ "username": "ada", "password": "old", "note": "kept" });
    world.bao.hvac("secrets.kv.v2.create_or_update_secret", json!({ "path": "acme", "secret": secret }));

    let storage = SqliteStorage::in_memory().await.unwrap();
    let builder = Broker::builder(world.runtime.clone(), storage, MasterKey::generate().unwrap());
    let builder = builder.provider(world.provider.clone()).background_work(false);
    let broker = builder.audit(Audit::in_memory()).open().await.unwrap();
    let workspace = broker.workspaces().create("Acme", Scopes::ALL).await.unwrap().workspace.id;
    let access = Access::operator(workspace, "tests");
    let settings = Settings::new().with("address", world.bao.url.as_str()).with("token", world.bao.token.as_str());
    let connection = NewConnection::new("Bao", "openbao", settings);
    let connection = broker.connections().create(&access, connection).await.unwrap();
    let new = EntryContent::bound("acme-prod", "https://acme.com", connection.id, "vault://secret/acme");
    let entry = broker.entries().create(&access, new).await.unwrap();

    let begun = broker.rotations().begin(&access, BeginRotation::new(entry.id)).await.unwrap();
    let password = begun.password.unwrap().expose_secret().to_owned();
    assert_eq!(world.bao.read("secret", "acme").0["password"], "old");
    let done = broker.rotations().commit(&access, begun.rotation.id).await.unwrap();
    assert_eq!(done.state, RotationState::Done);
    assert_eq!(world.bao.read("secret", "acme").0, json!({ "username": "ada", "password": password, "note": "kept" }));

    let begun = broker.rotations().begin(&access, BeginRotation::new(entry.id)).await.unwrap();
    let patch = json!({ "path": "acme", "secret": { "password": "theirs" } });
    world.bao.hvac("secrets.kv.v2.patch", patch);
    let met = broker.rotations().commit(&access, begun.rotation.id).await.unwrap();
    assert_eq!(met.state, RotationState::Conflicted);
    assert_eq!(world.bao.read("secret", "acme").0["password"], "theirs");
}
