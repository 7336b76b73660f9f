//! The whole of embedding Keyway: a workspace, a connection, an entry, and what it resolves to.
//!
//!     cargo xtask build-components
//!     export OP_SERVICE_ACCOUNT_TOKEN=ops_...
//!     cargo run -p keyway --example embed -- target/components keyway-data

use std::error::Error;
use std::path::Path;

use keyway::keyway_runtime::{ProviderFolder, Runtime, RuntimeBuilder, Settings};
use keyway::{Access, Audit, Broker, EntryContent, MasterKey, NewConnection, ResolveRequest, Scope, SqliteStorage};
use secrecy::{ExposeSecret, SecretString};

/// Connects 1Password, binds an entry to its first item, and says what the entry resolves to.
pub(crate) async fn embed(
    runtime: RuntimeBuilder,
    providers: &Path,
    data: &Path,
    token: SecretString,
) -> Result<String, Box<dyn Error>> {
    // Once for each process: the sandbox, the providers of a folder, the database, the master key.
    let runtime = runtime.build()?;
    let folder = ProviderFolder::open(&runtime, providers).await?;
    let storage = SqliteStorage::open(data.join("keyway.db")).await?;
    let master_key = MasterKey::from_file_or_generate(data.join("master.key"))?;
    let broker = Broker::builder(runtime, storage, master_key)
        .provider_folder(folder)
        .audit(Audit::in_folder(data.join("audit")))
        .open()
        .await?;

    // Once for each customer: a workspace, and a connection, which is verified before it is stored.
    let workspace = broker.workspaces().create("Acme", Scope::Api).await?.workspace;
    let access = Access::operator(workspace.id, "onboarding");
    let connection = NewConnection::new("Acme 1Password", "1password", Settings::new().with("token", token));
    let connection = broker.connections().create(&access, connection).await?;

    // Once for each credential: which item it comes from.
    let items = broker.connections().list_items(&access, connection.id).await?;
    let item = items.first().ok_or("this service account sees no items")?;
    let entry = EntryContent::bound("acme-prod", "https://acme.com", connection.id, &item.reference);
    let entry = broker.entries().create(&access, entry).await?;

    // At every run: the values as they are now, or from the cache for as long as the connection's
    // cache duration allows.
    let resolved = broker.resolve(&access, ResolveRequest::new(entry.id)).await?;
    let username = resolved.username.as_ref().map_or("(none)", |username| username.expose_secret());
    let password = if resolved.password.is_some() { "present" } else { "absent" };
    Ok(format!("{}: user name {username}, password {password}, {:?}", item.title, resolved.source))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let providers = arguments.next().ok_or("say where the provider components are")?;
    let data = arguments.next().ok_or("say where the database and the master key shall be")?;
    std::fs::create_dir_all(&data)?;
    let token = std::env::var("OP_SERVICE_ACCOUNT_TOKEN").map_err(|_| "OP_SERVICE_ACCOUNT_TOKEN is not set")?;
    println!("{}", embed(Runtime::builder(), Path::new(&providers), Path::new(&data), token.into()).await?);
    Ok(())
}
