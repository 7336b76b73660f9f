//! `keyway resolve`.
//!
//! The cache lives in the process that resolves, so a command always asks the provider; a server that runs answers from its cache.

use keyway::{EntrySelector, ResolveRequest};

use super::App;
use super::args::ResolveOptions;
use super::exit::CliError;
use super::select;
use crate::resolved::Resolved;

pub(super) async fn run(app: &App, options: ResolveOptions) -> Result<(), CliError> {
    let entry = match (options.entry, options.user, options.domain) {
        (Some(id), _, _) => EntrySelector::Id(id),
        (None, Some(permissioned_user_id), Some(domain)) => EntrySelector::Pair { permissioned_user_id, domain },
        _ => return Err(CliError::usage("name the vault entry by its id, or by --user and --domain")),
    };
    let host = app.open().await?;
    let access = select::workspace(host.broker(), &options.workspace).await?;
    let resolution = host.broker().resolve(&access, ResolveRequest::new(entry)).await?;
    app.output.result(&Resolved::new(resolution, options.reveal));
    host.close().await;
    Ok(())
}
