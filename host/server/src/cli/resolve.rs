//! `keyway resolve`.
//!
//! The cache lives in the process that resolves, so a command always asks the provider; a server that runs answers from its cache.

use keyway::{EntrySelector, ResolveRequest};
use keyway_runtime::Fields;

use super::App;
use super::args::{ResolveField, ResolveOptions};
use super::exit::CliError;
use super::select;
use crate::resolved::Resolved;

pub(super) async fn run(app: &App, options: ResolveOptions) -> Result<(), CliError> {
    let entry = match (options.entry, options.user, options.domain) {
        (Some(id), _, _) => EntrySelector::Id(id),
        (None, Some(permissioned_user_id), Some(domain)) => EntrySelector::Pair { permissioned_user_id, domain },
        _ => return Err(CliError::usage("name the vault entry by its id, or by --user and --domain")),
    };
    let asked = asked(&options.fields);
    let mut request = ResolveRequest::new(entry).fields(asked);
    request.rejected = options.rejected;
    let host = app.open().await?;
    let access = select::workspace(host.broker(), &options.workspace).await?;
    let resolution = host.broker().resolve(&access, request).await?;
    app.output.result(&Resolved::new(resolution, asked, options.reveal))?;
    Ok(())
}

/// The fields that are named; all of them when none is.
fn asked(named: &[ResolveField]) -> Fields {
    if named.is_empty() {
        return Fields::ALL;
    }
    named.iter().fold(Fields::default(), |asked, field| match field {
        ResolveField::Username => Fields { username: true, ..asked },
        ResolveField::Password => Fields { password: true, ..asked },
        ResolveField::OneTimeCode => Fields { one_time_code: true, ..asked },
    })
}
