//! `keyway bind` and `keyway entry`.

mod input;
mod show;

use keyway::entries::{Attributes, Binding, TfaCode};
use keyway::{Access, BrokerError, CacheTtl, ErrorKind};
use keyway_runtime::ErrorCode;
use secrecy::ExposeSecret;
use serde_json::json;

use super::app::App;
use super::args::entry::{
    AttributeOptions, BindOptions, CreateOptions, CredentialOptions, EntryCommand, UpdateOptions,
};
use super::exit::CliError;
use super::output::{GOOD, Output};
use super::select;
use crate::host::Host;
use crate::http::vault::attributes::PROXY_VALUE;
use crate::http::vault::changes::EntryChanges;
use crate::view::resolved::FieldView;
use crate::view::tfa_code::Code;
use input::Input;
use show::{Row, done, list};

pub(super) async fn run(app: &App, command: EntryCommand) -> Result<(), CliError> {
    match command {
        EntryCommand::Create(options) => create(app, *options).await,
        EntryCommand::Update(options) => update(app, *options).await,
        EntryCommand::Delete(target) => {
            let selector = target.entry.selector()?;
            let (host, access) = app.open_without_providers_in(&target.workspace).await?;
            host.broker().entries().delete(&access, &selector).await?;
            app.output.result(&json!({ "deleted": true }), |out| writeln!(out, "Deleted the vault entry."))
        }
        EntryCommand::Get { entry, reveal, workspace } => {
            let selector = entry.selector()?;
            let (host, access) = app.open_without_providers_in(&workspace).await?;
            let row = Row::new(host.broker().entries().get(&access, &selector).await?, reveal);
            app.output.result(&row, |out| row.facts(out))
        }
        EntryCommand::List(workspace) => {
            let (host, access) = app.open_without_providers_in(&workspace).await?;
            let (mut rows, mut next) = (Vec::new(), None);
            loop {
                let page = host.broker().entries().list(&access, next).await?;
                rows.extend(page.entries.into_iter().map(|entry| Row::new(entry, false)));
                next = page.next;
                if next.is_none() {
                    break;
                }
            }
            let none_yet = "There is no vault entry yet. `keyway entry create` creates one.";
            let of = ("vault_entries", Some(&access));
            let empty = select::instead_of(&rows, host.broker(), of, none_yet).await;
            list(app, &rows, &empty)
        }
        EntryCommand::Fields(target) => {
            let selector = target.entry.selector()?;
            let (host, access) = app.open_in(&target.workspace).await?;
            let fields = host.broker().entries().list_fields(&access, &selector).await?;
            let fields: Vec<_> = fields.into_iter().map(FieldView::from).collect();
            let empty = "The item has nothing else.";
            app.output.list(&fields, ["NAME", "LABEL", "KIND"], empty, |table, field| {
                table.row([&field.name, &field.label, &field.kind]);
            })
        }
        EntryCommand::Code { target, code } => {
            let selector = target.entry.selector()?;
            let (host, access) = app.open_in(&target.workspace).await?;
            let TfaCode::Authenticator { code, expires_in, times_handed_out } =
                host.broker().entries().tfa_code(&access, &selector, code.into()).await?
            else {
                return Err(CliError::new(ErrorKind::Internal, "this kind of two-factor code cannot be printed yet"));
            };
            let code = Code::authenticator(code, expires_in, times_handed_out);
            app.output.result(&code, |out| {
                let left = code.expires_in_seconds;
                writeln!(out, "{}  {GOOD}live{GOOD:#}, good for {left} s", code.code.expose_secret())
            })
        }
    }
}

/// `keyway bind`
pub(super) async fn bind(app: &App, options: BindOptions) -> Result<(), CliError> {
    let BindOptions { reference, new, tfa_method, cache_ttl, place } = options;
    let (credentials, attributes) = (CredentialOptions::default(), AttributeOptions::default());
    let reference = Some(reference);
    create(app, CreateOptions { reference, new, tfa_method, passkey: false, cache_ttl, place, credentials, attributes })
        .await
}

async fn create(app: &App, options: CreateOptions) -> Result<(), CliError> {
    let is_bound = options.reference.is_some();
    // Opened with providers, so that a reference of the wrong form is refused.
    let (host, access) = app.open_for(&options.place.workspace, is_bound).await?;
    let mut changes = EntryChanges {
        permissioned_user_id: Some(options.new.user),
        domain: Some(options.new.domain),
        user_alias: options.new.alias.map(Some),
        tfa_method: options.tfa_method.map(Some),
        passkey: Some(options.passkey),
        secret_cache_ttl_seconds: options.cache_ttl.map(CacheTtl::from_seconds).map(Some),
        ..EntryChanges::default()
    };
    if let Some(reference) = options.reference {
        let connection = select::connection(host.broker(), &access, &options.place.connection).await?;
        (changes.secret_provider_id, changes.secret_ref) = (Some(Some(connection.id)), Some(Some(reference)));
    }
    let mut input = Input::new(host.broker(), &access);
    let ask = !is_bound && !options.passkey;
    input.credentials(&options.credentials, ask, &mut changes).await?;
    changes.attributes = input.attributes(&options.attributes, &Attributes::default()).await?;
    if changes.is_empty_entry() {
        let hint = "give --user-name-file, --password-file, --tfa-secret-file or an item's reference; without a terminal nothing is asked";
        return Err(CliError::usage("the vault entry would be empty").hint(hint));
    }
    let entry = host.broker().entries().create(&access, changes.into_entry()?).await?;
    let binding = entry.binding().filter(|_| !options.place.no_check).cloned();
    done(app, entry, if is_bound { "Bound a vault entry to the item." } else { "Created the vault entry." })?;
    warn_of_what_is_not_seen(host, &access, binding).await;
    Ok(())
}

async fn update(app: &App, options: UpdateOptions) -> Result<(), CliError> {
    let selector = options.entry.selector()?;
    let looks = options.bind.is_some() && !options.place.no_check;
    let (host, access) = app.open_for(&options.place.workspace, options.bind.is_some()).await?;
    let mut changes = EntryChanges {
        permissioned_user_id: options.new_user,
        domain: options.new_domain,
        user_alias: options.alias.map(Some),
        tfa_method: options.tfa_method.map(Some),
        passkey: options.passkey,
        secret_cache_ttl_seconds: options.cache_ttl.map(CacheTtl::from_seconds).map(Some),
        ..EntryChanges::default()
    };
    if let Some(reference) = options.bind {
        let connection = select::connection(host.broker(), &access, &options.place.connection).await?;
        (changes.secret_provider_id, changes.secret_ref) = (Some(Some(connection.id)), Some(Some(reference)));
    } else if options.unbind {
        (changes.secret_provider_id, changes.secret_ref) = (Some(None), Some(None));
    }
    let mut input = Input::new(host.broker(), &access);
    input.credentials(&options.credentials, false, &mut changes).await?;
    let before = match options.attributes.set_file.iter().any(|(name, _)| name == PROXY_VALUE) {
        false => Attributes::default(),
        true => host.broker().entries().get(&access, &selector).await?.content.attributes,
    };
    changes.attributes = input.attributes(&options.attributes, &before).await?;
    for name in &options.clear {
        clear(&mut changes, name)?;
    }
    if changes == EntryChanges::default() {
        return Err(
            CliError::usage("there is nothing to change").hint("`keyway entry update --help` lists the options")
        );
    }
    let entry = host.broker().entries().update(&access, &selector, |entry| changes.apply(entry)).await?;
    let binding = entry.binding().filter(|_| looks).cloned();
    done(app, entry, "Changed the vault entry.")?;
    warn_of_what_is_not_seen(host, &access, binding).await;
    Ok(())
}

/// Checks that the bound item exists and is a login. The binding stays in any case: a failure of
/// the secret manager must not prevent it.
async fn warn_of_what_is_not_seen(host: &Host, access: &Access, binding: Option<Binding>) {
    let Some(binding) = binding else { return };
    let checked = host.broker().connections().check_item(access, binding.connection_id, &binding.reference).await;
    let error = match checked {
        Ok(None) => return,
        Ok(Some(reason)) => {
            return Output::warning(&format!("the entry is bound, but it resolves to nothing: {reason}"));
        }
        Err(error) => error,
    };
    let told = match &error {
        BrokerError::Provider(error)
            if matches!(
                error.code,
                ErrorCode::InvalidReference | ErrorCode::NotFound | ErrorCode::PermissionDenied
            ) =>
        {
            "the entry is bound, but does not resolve at present"
        }
        _ => "the entry is bound, but its item could not be checked",
    };
    Output::warning(&format!("{told}: {error}"));
}

fn clear(changes: &mut EntryChanges, name: &str) -> Result<(), CliError> {
    match name {
        "user_alias" => changes.user_alias = Some(None),
        "tfa_method" => changes.tfa_method = Some(None),
        "user_name" => changes.user_name = Some(None),
        "password" => changes.password = Some(None),
        "tfa_secret" => changes.tfa_secret = Some(None),
        "secret_cache_ttl_seconds" => changes.secret_cache_ttl_seconds = Some(None),
        name => changes.attributes.set(name, "null").map_err(|error| CliError::usage(format!("--clear: {error}")))?,
    }
    Ok(())
}
