//! `keyway audit`: reads the audit log, and checks that nobody has touched it.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use keyway::{
    AuditPage, AuditQuery, AuditRecord, AuditVerification, ConnectionId, Cursor, EntryId, ErrorKind, Operation, Order,
    OutcomeFilter, RotationId,
};
use serde::Serialize;

use super::App;
use super::arg_values::time;
use super::args::WorkspaceOption;
use super::exit::CliError;
use super::output::{BAD, FAINT, GOOD, Show, Table, printable};
use super::select;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List what was released, listed, changed and refused, by whom and when; of all workspaces, unless one is named
    List(Box<ListOptions>),
    /// Verify that no record was changed, removed, inserted or moved; else print the first bad one and exit with 8
    Verify,
}

#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    /// Only at this time or later, for example 2026-11-23T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Only by this API key (id or name) or operator
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    /// Only this operation, for example resolve or update_connection
    #[arg(long, value_name = "OPERATION")]
    operation: Option<Operation>,
    /// Only about this vault entry
    #[arg(long, value_name = "ID")]
    entry: Option<EntryId>,
    /// Only about this connection
    #[arg(long, value_name = "ID")]
    connection: Option<ConnectionId>,
    /// Only about this password rotation: its steps, and the releases of its new password
    #[arg(long, value_name = "ID")]
    rotation: Option<RotationId>,
    /// Only with this outcome: ok, begun, failed (any error), or the code of an error, for example FORBIDDEN
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<OutcomeFilter>,
    /// newest or oldest first
    #[arg(long, value_name = "ORDER", default_value = "newest")]
    order: Order,
    /// The largest number of records
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Continue after a page: its `next`
    #[arg(long, value_name = "NEXT")]
    cursor: Option<Cursor>,
    #[command(flatten)]
    workspace: WorkspaceOption,
}

pub(super) async fn run(app: &App, command: AuditCommand) -> Result<(), CliError> {
    // A mistyped folder must not be a new log in which all is well.
    let database = app.config()?.database();
    if !database.exists() {
        let message = format!("there is no database {}", database.display());
        return Err(CliError::new(ErrorKind::NotFound, message).hint("--data-dir names the folder that it is in"));
    }
    let host = app.open_without_providers().await?;
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
            let page = broker.audit_records_of_all(&query).await?;
            app.output.result(&Page::from(page))?;
            Ok(())
        }
        AuditCommand::Verify => {
            let verified = broker.verify_audit().await?;
            let first = verified.findings.first().map(ToString::to_string);
            app.output.result(&Verified { good: verified.is_good(), verified })?;
            match first {
                None => Ok(()),
                Some(first) => Err(CliError::audit(&first).in_result()),
            }
        }
    }
}

#[derive(Serialize)]
struct Page {
    records: Vec<AuditRecord>,
    next: Option<Cursor>,
    unreadable: u64,
}

impl From<AuditPage> for Page {
    fn from(page: AuditPage) -> Self {
        Self { records: page.records, next: page.next, unreadable: page.unreadable }
    }
}

impl Show for Page {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&["TIME", "WHO", "WHAT", "OUTCOME", "TO WHAT", "FIELDS", "FROM"]);
        for record in &self.records {
            let source = record.subject.source.map(|source| source.to_string()).unwrap_or_default();
            table.row([
                &record.at.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
                &record.actor.to_string(),
                &record.operation,
                record.outcome.as_str(),
                &subject(record),
                &record.subject.fields.join(" "),
                &source,
            ]);
        }
        table.write(out, 0, "There is no such record.")?;
        if self.unreadable > 0 {
            writeln!(out, "{BAD}{} lines are no records; `keyway audit verify` says more.{BAD:#}", self.unreadable)?;
        }
        if let Some(next) = &self.next {
            writeln!(out, "{FAINT}There is more: --cursor {next}{FAINT:#}")?;
        }
        Ok(())
    }
}

/// The most telling of what a record is about.
fn subject(record: &AuditRecord) -> String {
    let subject = &record.subject;
    let entry = subject.entry.map(|id| format!("entry {id}"));
    let connection = subject.connection.map(|id| format!("connection {id}"));
    let key = subject.api_key.map(|id| format!("key {id}"));
    let rotation = subject.rotation.map(|id| format!("rotation {id}"));
    let scope = subject.scope.as_ref().map(|scope| format!("needs the scope {scope}"));
    entry.or(connection).or(key).or(rotation).or(scope).unwrap_or_default()
}

#[derive(Serialize)]
struct Verified {
    good: bool,
    #[serde(flatten)]
    verified: AuditVerification,
}

impl Show for Verified {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let AuditVerification { records, segments, heads, findings, notes, .. } = &self.verified;
        if self.good {
            writeln!(out, "{GOOD}Good:{GOOD:#} {records} records in {segments} segments, unchanged and in order.")?;
        } else {
            writeln!(
                out,
                "{BAD}Bad:{BAD:#} {}, the first one first; {records} records are good.",
                match findings.len() {
                    1 => "1 finding".to_owned(),
                    number => format!("{number} findings"),
                }
            )?;
            for finding in findings {
                writeln!(out, "  {}", printable(&finding.to_string()))?;
            }
        }
        for note in notes {
            writeln!(out, "{FAINT}note:{FAINT:#} {}", printable(note))?;
        }
        for head in heads {
            writeln!(out, "{FAINT}head of series {}:{FAINT:#} record {}, {}", head.series, head.number, head.mac)?;
        }
        Ok(())
    }
}
