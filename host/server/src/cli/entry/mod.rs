//! `keyway bind` and `keyway entry`.

mod input;
mod show;

use keyway::{Access, Attributes, Binding, BrokerError, CacheTtl, ErrorKind, TfaCode};
use keyway_runtime::ErrorCode;

use super::app::App;
use super::args::entry::{BindOptions, CreateOptions, EntryCommand, UpdateOptions};
use super::exit::CliError;
use super::output::Output;
use super::select;
use crate::cli::resolved::FieldViews;
use crate::host::Host;
use crate::http::body::Change;
use crate::http::vault::attributes::PROXY_VALUE;
use crate::http::vault::changes::EntryChanges;
use crate::view::resolved::FieldView;
use crate::view::tfa_code;
use input::Input;
use show::{Code, Deleted, Done, Entry, List, Row};

pub(super) async fn run(app: &App, command: EntryCommand) -> Result<(), CliError> {
    match command {
        EntryCommand::Create(options) => create(app, *options).await,
        EntryCommand::Update(options) => update(app, *options).await,
        EntryCommand::Delete { entry, workspace } => {
            let selector = entry.selector()?;
            let host = app.open_without_providers().await?;
            let access = select::workspace(host.broker(), &workspace).await?;
            host.broker().delete_entry(&access, &selector).await?;
            app.output.result(&Deleted::new())
        }
        EntryCommand::Get { entry, reveal, workspace } => {
            let selector = entry.selector()?;
            let host = app.open_without_providers().await?;
            let access = select::workspace(host.broker(), &workspace).await?;
            let entry = host.broker().get_entry(&access, &selector).await?;
            app.output.result(&Entry(Row::new(entry, reveal)))
        }
        EntryCommand::List { workspace } => {
            let host = app.open_without_providers().await?;
            let access = select::workspace(host.broker(), &workspace).await?;
            let (mut rows, mut next) = (Vec::new(), None);
            loop {
                let page = host.broker().list_entries(&access, next).await?;
                rows.extend(page.entries.into_iter().map(|entry| Row::new(entry, false)));
                next = page.next;
                if next.is_none() {
                    break;
                }
            }
            app.output.result(&List(rows))
        }
        EntryCommand::Fields { entry, workspace } => {
            let selector = entry.selector()?;
            let host = app.open().await?;
            let access = select::workspace(host.broker(), &workspace).await?;
            let fields = host.broker().list_fields(&access, &selector).await?;
            app.output.result(&FieldViews(fields.into_iter().map(FieldView::from).collect()))?;
            Ok(())
        }
        EntryCommand::Code { entry, workspace } => {
            let selector = entry.selector()?;
            let host = app.open().await?;
            let access = select::workspace(host.broker(), &workspace).await?;
            let TfaCode::Authenticator { code, expires_in_seconds } =
                host.broker().tfa_code(&access, &selector).await?
            else {
                return Err(CliError::new(ErrorKind::Internal, "this kind of two-factor code cannot be printed yet"));
            };
            app.output.result(&Code(tfa_code::Code::authenticator(code, expires_in_seconds)))
        }
    }
}

/// `keyway bind`
pub(super) async fn bind(app: &App, options: BindOptions) -> Result<(), CliError> {
    create(app, options.into()).await
}

async fn create(app: &App, options: CreateOptions) -> Result<(), CliError> {
    let is_bound = options.reference.is_some();
    // With providers, so that a reference of the wrong form is refused.
    let host = if is_bound { app.open().await? } else { app.open_without_providers().await? };
    let access = select::workspace(host.broker(), &options.workspace).await?;
    let mut changes = EntryChanges {
        permissioned_user_id: Some(options.user),
        domain: Some(options.domain),
        user_alias: options.alias.into(),
        tfa_method: options.tfa_method.into(),
        passkey: Some(options.passkey),
        secret_cache_ttl_seconds: options.cache_ttl.map(CacheTtl::from_seconds).into(),
        ..EntryChanges::default()
    };
    if let Some(reference) = options.reference {
        let connection = select::connection(host.broker(), &access, &options.connection).await?;
        (changes.secret_provider_id, changes.secret_ref) = (Change::Set(connection.id), Change::Set(reference));
    }
    let mut input = Input::new(host.broker(), &access);
    let ask = !is_bound && !options.passkey;
    input.credentials(&options.credentials, ask, &mut changes).await?;
    changes.attributes = input.attributes(&options.attributes, &Attributes::default()).await?;
    let entry = host.broker().create_entry(&access, changes.into_entry()?).await?;
    let binding = entry.binding().filter(|_| !options.check.no_check).cloned();
    app.output.result(&Done::created(entry))?;
    warn_of_what_is_not_seen(host, &access, binding).await;
    Ok(())
}

async fn update(app: &App, options: UpdateOptions) -> Result<(), CliError> {
    let selector = options.entry.selector()?;
    let looks = options.bind.is_some() && !options.check.no_check;
    let host = if options.bind.is_some() { app.open().await? } else { app.open_without_providers().await? };
    let access = select::workspace(host.broker(), &options.workspace).await?;
    let mut changes = EntryChanges {
        permissioned_user_id: options.new_user,
        domain: options.new_domain,
        user_alias: options.alias.into(),
        tfa_method: options.tfa_method.into(),
        passkey: options.passkey,
        secret_cache_ttl_seconds: options.cache_ttl.map(CacheTtl::from_seconds).into(),
        ..EntryChanges::default()
    };
    if let Some(reference) = options.bind {
        let connection = select::connection(host.broker(), &access, &options.connection).await?;
        (changes.secret_provider_id, changes.secret_ref) = (Change::Set(connection.id), Change::Set(reference));
    } else if options.unbind {
        (changes.secret_provider_id, changes.secret_ref) = (Change::Clear, Change::Clear);
    }
    let mut input = Input::new(host.broker(), &access);
    input.credentials(&options.credentials, false, &mut changes).await?;
    let before = match options.attributes.set_file.iter().any(|(name, _)| name == PROXY_VALUE) {
        false => Attributes::default(),
        true => host.broker().get_entry(&access, &selector).await?.content.attributes,
    };
    changes.attributes = input.attributes(&options.attributes, &before).await?;
    for name in &options.clear {
        clear(&mut changes, name)?;
    }
    let entry = host.broker().update_entry(&access, &selector, |entry| changes.apply(entry)).await?;
    let binding = entry.binding().filter(|_| looks).cloned();
    app.output.result(&Done::updated(entry))?;
    warn_of_what_is_not_seen(host, &access, binding).await;
    Ok(())
}

/// Looks whether the item that an entry was bound to is there. It is bound in any case: that its secret manager is out of order must not stand in the way.
async fn warn_of_what_is_not_seen(host: &Host, access: &Access, binding: Option<Binding>) {
    let Some(binding) = binding else { return };
    let Err(error) = host.broker().check_item(access, binding.connection_id, &binding.reference).await else { return };
    let told = match &error {
        BrokerError::Provider(error)
            if matches!(
                error.code,
                ErrorCode::InvalidReference | ErrorCode::NotFound | ErrorCode::PermissionDenied
            ) =>
        {
            "the entry is bound, but at present it does not resolve"
        }
        _ => "the entry is bound, but its item could not be checked",
    };
    Output::warning(&format!("{told}: {error}"));
}

fn clear(changes: &mut EntryChanges, name: &str) -> Result<(), CliError> {
    match name {
        "user_alias" => changes.user_alias = Change::Clear,
        "tfa_method" => changes.tfa_method = Change::Clear,
        "user_name" => changes.user_name = Change::Clear,
        "password" => changes.password = Change::Clear,
        "tfa_secret" => changes.tfa_secret = Change::Clear,
        "secret_cache_ttl_seconds" => changes.secret_cache_ttl_seconds = Change::Clear,
        name => changes.attributes.set(name, "null").map_err(|error| CliError::usage(format!("--clear: {error}")))?,
    }
    Ok(())
}
