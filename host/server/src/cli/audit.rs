//! `keyway audit`: reads the audit log, and verifies that it is unchanged.

use std::io::{self, Write};
use std::path::Path;

use keyway::ErrorKind;
use keyway::audit::{AuditPage, AuditQuery, AuditRecord, AuditRoot, AuditVerification, InvalidRoot};
use serde::Serialize;

use super::app::App;
use super::args::audit::AuditCommand;
use super::exit::CliError;
use super::output::{BAD, FAINT, GOOD, Table, printable};
use super::select;
use crate::regular_file;

pub(super) async fn run(app: &App, command: AuditCommand) -> Result<(), CliError> {
    let host = app.open_read_only().await?;
    let broker = host.broker();
    match command {
        AuditCommand::List(options) => {
            let mut query = AuditQuery::default();
            if options.workspace.workspace.is_some() {
                query.workspace = Some(select::workspace(broker, &options.workspace).await?.workspace());
            }
            query.since = options.since;
            query.until = options.until;
            query.actor = options.actor;
            query.operation = options.operation;
            query.entry = options.entry;
            query.connection = options.connection;
            query.rotation = options.rotation;
            query.outcome = options.outcome;
            query.order = options.order;
            query.limit = Some(options.limit as usize);
            query.cursor = options.cursor;
            let mut page = broker.audit().records_of_all(&query).await?;
            // A page ends early when it finds little in much.
            while page.records.len() < options.limit as usize
                && let Some(next) = page.next.take()
            {
                query.limit = Some(options.limit as usize - page.records.len());
                query.cursor = Some(next);
                let more = broker.audit().records_of_all(&query).await?;
                page.records.extend(more.records);
                page.unreadable += more.unreadable;
                page.next = more.next;
            }
            app.output.result(&page, |out| show(out, &page))
        }
        AuditCommand::Verify(options) => {
            let verified = match options.root {
                Some(file) => broker.audit().verify_since(&kept_root(&file)?).await?,
                None => broker.audit().verify().await?,
            };
            let first = verified.findings.first().map(ToString::to_string);
            let verified = Verified { good: verified.is_good(), verified };
            app.output.result(&verified, |out| verified.show(out))?;
            first.map_or(Ok(()), |first| Err(CliError::audit(&first).in_result()))
        }
        // The same with --json: it is a JSON document, and its bytes count.
        AuditCommand::Root => {
            let root = broker.audit().root().await?;
            app.output.exactly(&root.to_string())
        }
    }
}

/// The root in a file, or on standard input for `-`.
fn kept_root(file: &Path) -> Result<AuditRoot, CliError> {
    let text = if file == Path::new("-") { regular_file::read_stdin() } else { regular_file::read(file) };
    let place = file.display();
    let text =
        text.map_err(|error| CliError::unreadable(&error, format!("cannot read a root from {place}: {error}")))?;
    let root = std::str::from_utf8(&text).map_err(|_| InvalidRoot).and_then(str::parse);
    root.map_err(|error| CliError::new(ErrorKind::Invalid, format!("{place}: {error}")))
}

fn show(out: &mut dyn Write, page: &AuditPage) -> io::Result<()> {
    let headings = ["TIME", "WHO", "WHAT", "OUTCOME", "TO WHAT", "FIELDS", "FROM", "COMPONENT"];
    let table = Table::of(headings, &page.records, |table, record| {
        let time = record.at.strftime("%Y-%m-%d %H:%M:%S%.3f");
        let fields = record.subject.fields.join(" ");
        let source = record.subject.source.map(|source| source.to_string()).unwrap_or_default();
        let outcome = record.outcome.as_str();
        let component = component(record);
        table.row([&time, &record.actor, &record.operation, &outcome, &subject(record), &fields, &source, &component]);
    });
    table.write(out, 0, "There are no such records.")?;
    if page.unreadable > 0 {
        writeln!(out, "{BAD}{} lines are not records; `keyway audit verify` shows details.{BAD:#}", page.unreadable)?;
    }
    for file in &page.left_out {
        writeln!(out, "{BAD}{file} cannot be read and was left out; `keyway audit verify` shows details.{BAD:#}")?;
    }
    if let Some(next) = &page.next {
        writeln!(out, "{FAINT}There is more: --cursor {next}{FAINT:#}")?;
    }
    Ok(())
}

/// The most telling part of a record's subject.
fn subject(record: &AuditRecord) -> String {
    let subject = &record.subject;
    let entry = subject.entry.map(|id| format!("entry {id}"));
    let connection = subject.connection.map(|id| format!("connection {id}"));
    let key = subject.api_key.map(|id| format!("key {id}"));
    let rotation = subject.rotation.map(|id| format!("rotation {id}"));
    let scope = subject.scope.as_ref().map(|scope| format!("needs the scope {scope}"));
    let provider = subject.provider_type.as_ref().map(|provider| {
        subject
            .file
            .as_ref()
            .map_or_else(|| format!("provider {provider}"), |file| format!("provider {provider} in {file}"))
    });
    entry.or(connection).or(key).or(rotation).or(scope).or(provider).unwrap_or_default()
}

/// The component that served, and for a change of it also the one before.
fn component(record: &AuditRecord) -> String {
    let short = |digest: &String| digest.get(..12).unwrap_or(digest).to_owned();
    let component = record.subject.component.as_ref().map(short).unwrap_or_default();
    match record.subject.former_component.as_ref().map(short) {
        Some(former) => format!("{former} -> {component}"),
        None => component,
    }
}

#[derive(Serialize)]
struct Verified {
    good: bool,
    #[serde(flatten)]
    verified: AuditVerification,
}

impl Verified {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let AuditVerification { records, segments, heads, root, kept_root, findings, notes, .. } = &self.verified;
        if self.good {
            writeln!(
                out,
                "{GOOD}Good:{GOOD:#} {records} records in {segments} segment{}, unchanged and in order.",
                if *segments == 1 { "" } else { "s" }
            )?;
        } else {
            let plural = if findings.len() == 1 { "" } else { "s" };
            let number = format!("{} finding{plural}", findings.len());
            writeln!(out, "{BAD}Bad:{BAD:#} {number}; {records} other records are good.")?;
            for finding in findings {
                writeln!(out, "  {}", printable(&finding.to_string()))?;
            }
        }
        for note in notes {
            writeln!(out, "{FAINT}note:{FAINT:#} {}", printable(note))?;
        }
        match kept_root {
            Some(kept) => {
                writeln!(out, "{FAINT}note:{FAINT:#} compared with root {kept}; the database is at root {root}.")?
            }
            None => writeln!(
                out,
                "{FAINT}note:{FAINT:#} an earlier copy of log and database together would look the same. --root with a root that was kept elsewhere tells."
            )?,
        }
        for head in heads {
            writeln!(out, "{FAINT}head of series {}:{FAINT:#} record {}, {}", head.series, head.number, head.mac)?;
        }
        Ok(())
    }
}
