//! `keyway audit`: reads the audit log, and checks that nobody has touched it.

use std::io::{self, Write};

use keyway::{AuditPage, AuditQuery, AuditRecord, AuditVerification, Cursor, ErrorKind};
use serde::Serialize;

use super::app::App;
use super::args::audit::AuditCommand;
use super::exit::CliError;
use super::output::{BAD, FAINT, GOOD, Show, Table, printable};
use super::select;

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
            let page = broker.audit().records_of_all(&query).await?;
            app.output.result(&Page::from(page))
        }
        AuditCommand::Verify => {
            let verified = broker.audit().verify().await?;
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
