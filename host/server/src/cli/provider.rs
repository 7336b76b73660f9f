//! `keyway provider`: the installed providers, and what a component declares.

use std::io::{self, Write};
use std::path::Path;

use keyway::{BrokerError, ErrorKind};
use keyway_runtime::contract::{Alternative, CountedRequests, Description, LimitScope, RateLimit};
use keyway_runtime::{FileStatus, Limits, Provider, Runtime};
use serde::Serialize;

use super::app::App;
use super::args::ProviderCommand;
use super::budget::window;
use super::exit::CliError;
use super::output::{BAD, GOOD, HEADING, Table, facts, printable};
use crate::host::{Host, prepare_runtime};
use crate::regular_file;
use crate::view::view;

pub(super) async fn run(app: &App, command: ProviderCommand) -> Result<(), CliError> {
    match command {
        ProviderCommand::List => {
            let host = app.open().await?;
            let (folder, rows) = (app.config()?.provider_folder(), rows(host));
            list(app, &folder, &rows)?;
            in_use(&folder, &rows)
        }
        ProviderCommand::Inspect { provider } => {
            // A file needs no database.
            if provider.ends_with(".wasm") || provider.contains(std::path::MAIN_SEPARATOR) {
                let runtime = prepare_runtime(&app.config()?).await?.build();
                return inspected(app, &runtime, &load(&runtime, &provider).await?);
            }
            let host = app.open().await?;
            // A file may have any name. Where it is also that of an installed provider, the
            // provider wins.
            let is_file = Path::new(&provider).exists() && host.broker().providers().get(&provider).is_none();
            let found = if is_file { load(host.runtime(), &provider).await? } else { installed(host, &provider)? };
            inspected(app, host.runtime(), &found)
        }
    }
}

fn inspected(app: &App, runtime: &Runtime, provider: &Provider) -> Result<(), CliError> {
    let inspected = Inspected {
        description: provider.description().clone(),
        digest: provider.digest().to_owned(),
        limits: runtime.limits().into(),
    };
    app.output.result(&inspected, |out| inspected.show(out))
}

/// The installed provider of that type. If there is none, its file may have been refused.
pub(crate) fn installed(host: &Host, provider_type: &str) -> Result<Provider, CliError> {
    let providers = host.broker().providers();
    providers.get(provider_type).ok_or_else(|| {
        let installed = providers.list().iter().map(|provider| provider.description().provider_type.clone()).collect();
        let error = BrokerError::ProviderNotInstalled { provider_type: provider_type.to_owned(), installed };
        with_refused(host, error.into())
    })
}

/// Adds a file of the provider folder that was refused, which may be what is missing.
fn with_refused(host: &Host, error: CliError) -> CliError {
    match files(host).into_iter().find_map(|status| Some((status.file, status.error?))) {
        Some((file, reason)) => error.hint(format!("{file} was refused: {reason}")),
        None => error,
    }
}

/// The installed provider, if there is exactly one.
pub(crate) fn only_one(host: &Host) -> Result<Provider, CliError> {
    let providers = host.broker().providers().list();
    match providers.as_slice() {
        [provider] => Ok(provider.clone()),
        [] => Err(with_refused(host, CliError::new(ErrorKind::NotInstalled, "no provider is installed"))),
        several => {
            let types = several.iter().map(|provider| provider.description().provider_type.as_str());
            let types = types.collect::<Vec<_>>().join(", ");
            Err(CliError::usage(format!("several providers are installed; name one of {types}")))
        }
    }
}

fn files(host: &Host) -> Vec<FileStatus> {
    host.providers().map(|folder| folder.files()).unwrap_or_default()
}

async fn load(runtime: &Runtime, file: &str) -> Result<Provider, CliError> {
    let bytes = regular_file::read_up_to(Path::new(file), runtime.limits().component_bytes as u64)
        .map_err(|error| CliError::unreadable(&error, format!("cannot read {file}: {error}")))?;
    runtime.load(&bytes).await.map_err(|error| CliError::load(file, &error))
}

view! {
    struct Row of file: (FileStatus, Option<Provider>) {
        file: String = file.0.file,
        provider_type: Option<String> = file.0.provider_type,
        display_name: Option<String> = file.1.as_ref().map(|provider| provider.description().display_name.clone()),
        version: Option<String> = file.1.as_ref().map(|provider| provider.description().version.clone()),
        digest: Option<String> = file.0.digest,
        /// Why the file as it is now is not in use.
        error: Option<String> = file.0.error,
        /// The file that serves its provider type in its place.
        served_by: Option<String> = file.0.served_by,
    }
}

fn rows(host: &Host) -> Vec<Row> {
    let providers = host.broker().providers();
    let row = |status: FileStatus| {
        let provider = status.provider_type.as_deref().and_then(|name| providers.get(name));
        Row::from((status, provider))
    };
    files(host).into_iter().map(row).collect()
}

fn list(app: &App, folder: &Path, rows: &[Row]) -> Result<(), CliError> {
    app.output.result(rows, |out| {
        let table = Table::of(["TYPE", "NAME", "VERSION", "FILE", "DIGEST"], rows, |table, row| {
            let digest = row.digest.as_deref().and_then(|digest| digest.get(..12)).unwrap_or("not in use");
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            table.row([&text(&row.provider_type), &text(&row.display_name), &text(&row.version), &row.file, &digest]);
        });
        let folder = folder.display().to_string();
        let empty =
            format!("The provider folder {} is empty. Put a component (a .wasm file) into it.", printable(&folder));
        table.write(out, 0, &empty)?;
        for row in rows {
            if let Some(error) = &row.error {
                writeln!(out, "{BAD}{}{BAD:#}: {}", printable(&row.file), printable(error))?;
            }
        }
        Ok(())
    })
}

/// An error when no provider is in use.
fn in_use(folder: &Path, rows: &[Row]) -> Result<(), CliError> {
    if rows.iter().any(|row| row.provider_type.is_some()) {
        return Ok(());
    }
    let folder = folder.display();
    let error = match rows {
        [] => CliError::new(ErrorKind::NotInstalled, format!("no provider is in use: {folder} has no component"))
            .hint("put a component, a .wasm file, into it"),
        _ => CliError::all_refused(format!("no provider is in use: every component in {folder} was refused"))
            .hint("the list says why each was; put others in their place"),
    };
    Err(error.in_result())
}

#[derive(Serialize)]
struct Inspected {
    description: Description,
    /// SHA-256 of the component.
    digest: String,
    limits: LimitsOfACall,
}

view! {
    /// What this host allows a call of any provider.
    struct LimitsOfACall of limits: &Limits {
        time_seconds: f64 = limits.call_time.as_secs_f64(),
        memory_bytes: usize = limits.memory_bytes,
        answer_bytes: usize = limits.output_bytes,
        response_body_bytes: u64 = limits.response_body_bytes,
        log_bytes: usize = limits.log_bytes,
    }
}

impl Inspected {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let Description { display_name, version, provider_type, reference_format, .. } = &self.description;
        writeln!(out, "{HEADING}{} {}{HEADING:#}", printable(display_name), printable(version))?;
        facts(out, &[("type", provider_type), ("references", reference_format), ("digest", &self.digest)])?;
        for attribute in &self.description.attributes {
            facts(out, &[(&*printable(&attribute.name), &attribute.value)])?;
        }

        writeln!(out, "\n{HEADING}It can{HEADING:#}")?;
        let (able, has) = (self.description.capabilities, self.description.interfaces);
        let abilities = [
            (true, "check a connection, and resolve user name and password"),
            (able.one_time_codes, "resolve one-time codes"),
            (able.list_items, "list items"),
            (able.write, "write new passwords back"),
            (able.conditional_writes, "write atomically, and only to an unchanged item"),
        ];
        let optional = [
            (has.item_fields, "further fields of an item"),
            (has.leases, "values under a lease"),
            (has.refresh, "durable state that it renews"),
        ];
        for (can, what) in abilities.into_iter().chain(optional.into_iter().filter(|(has, _)| *has)) {
            let (style, word) = if can { (GOOD, "yes") } else { (BAD, "no ") };
            writeln!(out, "  {style}{word}{style:#}  {what}")?;
        }

        writeln!(out, "\n{HEADING}It connects to{HEADING:#}")?;
        for destination in &self.description.destinations {
            match destination.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(name) => writeln!(out, "  the address in the setting `{}`", printable(name))?,
                None => writeln!(out, "  {}", printable(destination))?,
            }
        }
        if self.description.destinations.is_empty() {
            writeln!(out, "  nothing")?;
        }

        writeln!(out, "\n{HEADING}It asks for{HEADING:#}")?;
        let headings = ["SETTING", "LABEL", "SECRET", "REQUIRED", "DEFAULT"];
        let yes = |yes: bool| if yes { "yes" } else { "no" };
        let table = Table::of(headings, &self.description.settings, |table, spec| {
            let default = spec.default.as_deref().unwrap_or_default();
            table.row([&spec.name, &spec.label, &yes(spec.secret), &yes(spec.required), &default]);
        });
        table.write(out, 2, "nothing")?;
        for group in &self.description.setting_groups {
            let sets: Vec<_> = group.alternatives.iter().map(set).collect();
            writeln!(out, "  {}: {}", printable(&group.label), printable(&sets.join(", or ")))?;
        }

        writeln!(out, "\n{HEADING}Its server allows{HEADING:#}")?;
        let mut table = Table::new(["TIER", "LABEL", "REQUESTS", "COUNTED AS"]);
        for tier in &self.description.rate_limits {
            if tier.limits.is_empty() {
                table.row([&tier.name, &tier.label, &"any number", &""]);
            }
            for limit in &tier.limits {
                let allowed = format!("{} in {}", limit.max_requests, window(limit.window_seconds.into()));
                table.row([&tier.name, &tier.label, &allowed, &counted_as(limit)]);
            }
        }
        table.write(out, 2, "any number of requests")?;

        writeln!(out, "\n{HEADING}This host allows each call{HEADING:#}")?;
        let limits = &self.limits;
        let (memory, answer) = (limits.memory_bytes >> 20, limits.answer_bytes >> 20);
        let (body, log) = (limits.response_body_bytes >> 20, limits.log_bytes >> 10);
        let time = limits.time_seconds;
        writeln!(
            out,
            "  {time} s, {memory} MiB of memory, answers of {answer} MiB, bodies of {body} MiB, {log} KiB of log"
        )
    }
}

/// The settings of an alternative, by name.
fn set(set: &Alternative) -> String {
    let optional = set.optional.iter().map(|name| format!("[{name}]"));
    let names: Vec<_> = set.required.iter().cloned().chain(optional).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(" and ") }
}

/// Which requests are counted, and for whom, in the contract's words.
fn counted_as(limit: &RateLimit) -> String {
    let requests: &str = match &limit.requests {
        CountedRequests::Reads => "reads",
        CountedRequests::Writes => "writes",
        CountedRequests::All => "all",
        CountedRequests::Other(other) => other,
        _ => "other",
    };
    let scope: &str = match &limit.scope {
        LimitScope::Credential => "credential",
        LimitScope::Account => "account",
        LimitScope::Other(other) => other,
        _ => "other",
    };
    format!("{requests} of the {scope}")
}
