//! The steps of the demo, each of them a call that a platform would make.

use std::path::PathBuf;

use keyway::{Access, Broker, EntryContent, EntryId, ErrorKind, NewConnection, ResolveRequest, Scope, Scopes};
use keyway_runtime::contract::Item;
use keyway_runtime::{Fields, Settings};
use secrecy::SecretString;

use super::account::Account;
use super::api::Api;
use super::report::{BoundEntry, Report};
use crate::cli::app::App;
use crate::cli::args::demo::DemoOptions;
use crate::cli::exit::CliError;
use crate::cli::resolved::Resolved;
use crate::cli::select::OPERATOR;
use crate::config::ServeConfig;
use crate::host::Host;
use crate::serve::Server;

/// The provider that the demo connects with.
const PROVIDER: &str = "1password";

/// The user of the demo's vault entry.
const USER: &str = "acme-prod";

/// How many items of an unknown account are searched for one with a one-time code.
const TRIES: usize = 5;

/// Runs all steps. The server listens but does not serve yet; with `--once` there is none.
pub(super) async fn all(
    app: &App,
    options: &DemoOptions,
    account: &Account,
    data_dir: PathBuf,
    report: &mut Report,
) -> Result<(Host, Option<Server>), CliError> {
    let host = report.step("Start the host", open(app, options, account, data_dir)).await?;
    let broker = host.broker();
    let (access, api_key) = report.step("Create a workspace", create_workspace(broker)).await?;
    let connection = report.step("Connect 1Password", connect(broker, &access, account)).await?;
    let connection_id = connection.shown.id;
    report.connection = Some(connection);

    report.items = report.step("List the items", list(broker, &access, connection_id)).await?;
    report.show_items();

    let mut candidates = report.items.clone();
    // A stable sort keeps the provider's order otherwise.
    candidates.sort_by_key(|item| !account.complete.contains(&item.reference));
    let binding = bind(broker, &access, connection_id, &candidates, !account.complete.is_empty());
    let entry = report.step("Bind a vault entry to an item", binding).await?;
    let id = entry.id;
    report.entry = Some(entry);

    let first = report.step("Resolve it", resolve(broker, &access, id, options.reveal, false)).await?;
    report.resolved.push(first);
    report.show_resolved();
    let again = report.step("Resolve it again", resolve(broker, &access, id, options.reveal, true)).await?;
    report.resolved.push(again);
    report.show_resolved();

    if options.once {
        return Ok((host, None));
    }
    let server = report.step("Serve the HTTP API", listen(broker, options)).await?;
    if let Some(another) = candidates.get(1).or(candidates.first()) {
        report.api =
            Some(Api::new(server.url().to_owned(), api_key, connection_id, &site(another), &another.reference));
    }
    Ok((host, Some(server)))
}

async fn open(
    app: &App,
    options: &DemoOptions,
    account: &Account,
    data_dir: PathBuf,
) -> Result<(Host, String), CliError> {
    let mut config = app.config_in(data_dir)?;
    if let Some(folder) = &options.components {
        config.providers = Some(folder.clone());
    }
    if let Some(rule) = &account.connect_to {
        config.egress = config.egress.with_connect_to(rule.clone());
    }
    let host = Host::open(&config).await?;
    let provider = crate::cli::provider::installed(&host, PROVIDER)?;
    let description = provider.description();
    let words = format!("{} provider {}, compiled and sandboxed", description.display_name, description.version);
    Ok((host, words))
}

async fn create_workspace(broker: &Broker) -> Result<((Access, SecretString), String), CliError> {
    let created = broker.workspaces().create("Demo", Scopes::from(Scope::Api).with(Scope::Resolve)).await?;
    let access = Access::operator(created.workspace.id, OPERATOR);
    Ok(((access, created.api_key), "with its own key".to_owned()))
}

async fn connect(
    broker: &Broker,
    access: &Access,
    account: &Account,
) -> Result<(crate::cli::connection::Row, String), CliError> {
    let new = NewConnection::new("Demo 1Password", PROVIDER, Settings::new().with("token", account.token.clone()));
    let row = crate::cli::connection::Row::from(broker.connections().create(access, new).await?);
    let rights = match row.shown.read_only {
        Some(true) => ", read-only: password rotations will be skipped",
        Some(false) => ", may write",
        None => "",
    };
    let words = format!("{}, token {}{rights}", row.account, row.hint());
    Ok((row, words))
}

async fn list(
    broker: &Broker,
    access: &Access,
    connection: keyway::ConnectionId,
) -> Result<(Vec<Item>, String), CliError> {
    let items = broker.connections().list_items(access, connection).await?;
    let vaults: std::collections::BTreeSet<_> = items.iter().map(|item| &item.vault_id).collect();
    let words = format!("{} items in {} vaults", items.len(), vaults.len());
    Ok((items, words))
}

/// Binds an entry to the first item that has a one-time code. Where that is unknown, tries the
/// first few items, each with its own entry. If none has a code, uses the first one that can be
/// resolved.
async fn bind(
    broker: &Broker,
    access: &Access,
    connection: keyway::ConnectionId,
    items: &[Item],
    known: bool,
) -> Result<(BoundEntry, String), CliError> {
    let (mut without_code, mut failed) = (None, None);
    for (number, item) in items.iter().take(if known { 1 } else { TRIES }).enumerate() {
        let user = if number == 0 { USER.to_owned() } else { format!("{USER}-{}", number + 1) };
        let domain = site(item);
        let entry =
            broker.entries().create(access, EntryContent::bound(&user, &domain, connection, &item.reference)).await?;
        let bound = BoundEntry {
            id: entry.id,
            permissioned_user_id: user,
            domain,
            secret_ref: item.reference.clone(),
            title: item.title.clone(),
        };
        if known {
            return Ok(told(bound));
        }
        // Asks only for the code, which is never cached.
        match broker.resolve(access, ResolveRequest::new(entry.id).fields(Fields::ONE_TIME_CODE)).await {
            Ok(resolution) if resolution.one_time_code.is_some() => return Ok(told(bound)),
            Ok(_) => without_code = without_code.or(Some(bound)),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    match (without_code, failed) {
        (Some(bound), _) => Ok(told(bound)),
        (None, Some(error)) => Err(error.into()),
        (None, None) => Err(CliError::new(ErrorKind::NotFound, "this service account sees no login item")
            .hint("put a login item into one of its vaults, or give it a vault that has one")),
    }
}

fn told(bound: BoundEntry) -> (BoundEntry, String) {
    let words = format!("{} at {} to \"{}\"", bound.permissioned_user_id, bound.domain, bound.title);
    (bound, words)
}

/// The site of an item, as the domain of an entry.
fn site(item: &Item) -> String {
    let address = item.urls.first();
    let url = address.and_then(|address| url::Url::parse(address).ok());
    let origin = url.filter(|url| url.host_str().is_some_and(|host| host != "localhost")).map(|url| url.origin());
    match origin {
        Some(origin) if origin.is_tuple() && origin.ascii_serialization().starts_with("http") => {
            origin.ascii_serialization()
        }
        _ => "https://acme.com".to_owned(),
    }
}

async fn resolve(
    broker: &Broker,
    access: &Access,
    entry: EntryId,
    reveal: bool,
    again: bool,
) -> Result<(Resolved, String), CliError> {
    let resolution = broker.resolve(access, ResolveRequest::new(entry)).await?;
    let resolved = Resolved::new(resolution, Fields::ALL, reveal);
    if resolved.cached != again {
        let message = if again {
            "user name and password were fetched again, although the cache keeps them for 5 minutes"
        } else {
            "user name and password came from the cache, although nothing had been resolved before"
        };
        return Err(CliError::new(ErrorKind::Internal, message));
    }
    let words = match (again, resolved.has_code()) {
        (false, true) => "everything live, in one call",
        (false, false) => "live; this item has no one-time code",
        (true, true) => "user name and password from the cache, the code live",
        (true, false) => "from the cache",
    };
    Ok((resolved, words.to_owned()))
}

async fn listen(broker: &Broker, options: &DemoOptions) -> Result<(Server, String), CliError> {
    let mut config = ServeConfig::new(&options.listen);
    config.insecure_plain_http = options.insecure_plain_http;
    let server = Server::bind_with(&config, broker.clone()).await?;
    let words = server.url().to_owned();
    Ok((server, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(url: &str) -> Item {
        serde_json::from_value(serde_json::json!({
            "id": "i", "title": "t", "vault_id": "v", "vault_name": "V", "reference": "op://v/i", "category": "login",
            "urls": [url],
        }))
        .unwrap()
    }

    #[test]
    fn the_domain_of_an_entry_is_the_site_of_its_item() {
        assert_eq!(site(&item("https://suppliers.northwind.example/login?x=1")), "https://suppliers.northwind.example");
        for odd in ["", "localhost", "http://localhost:3000", "ftp://files.example", "mailto:a@b.example"] {
            assert_eq!(site(&item(odd)), "https://acme.com", "{odd}");
        }
    }
}
