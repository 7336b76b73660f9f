//! The demo's output: text while it runs, and one JSON document at the end.
//!
//! The text goes to standard output, or to standard error when data was asked for.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use keyway_runtime::contract::Item;
use serde::Serialize;

use super::account::Account;
use super::api::Api;
use crate::cli::connection;
use crate::cli::exit::CliError;
use crate::cli::output::{BAD, FAINT, GOOD, HEADING, Output, printable};
use crate::cli::resolved::{Resolved, milliseconds, ms};
use crate::view::connection::as_secret_items;

/// How many items the text shows; the data has all.
const ITEMS_SHOWN: usize = 12;

/// The indentation of the steps' results.
const INDENT: usize = 4;

/// Everything that happened.
#[derive(Serialize)]
pub(super) struct Report {
    /// Whether every step worked.
    ok: bool,
    /// `emulator` or `1password`.
    account: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    emulator_url: Option<String>,
    steps: Vec<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connection: Option<connection::Row>,
    #[serde(serialize_with = "as_secret_items")]
    pub(super) items: Vec<Item>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) entry: Option<BoundEntry>,
    /// The first resolve, and the repeated one.
    pub(super) resolved: Vec<Resolved>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api: Option<Api>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<CliError>,
    #[serde(skip)]
    output: Output,
    #[serde(skip)]
    once: bool,
}

/// One step.
#[derive(Serialize)]
struct Step {
    name: &'static str,
    ok: bool,
    #[serde(rename = "ms", serialize_with = "milliseconds")]
    time: Duration,
}

/// The vault entry of the demo.
#[derive(Serialize)]
pub(super) struct BoundEntry {
    pub(super) id: keyway::EntryId,
    pub(super) permissioned_user_id: String,
    pub(super) domain: String,
    pub(super) secret_ref: String,
    pub(super) title: String,
}

impl Report {
    pub(super) fn new(output: Output, account: &Account, once: bool) -> Self {
        Self {
            ok: false,
            account: if account.emulator.is_some() { "emulator" } else { "1password" },
            emulator_url: account.emulator.clone(),
            steps: Vec::new(),
            connection: None,
            items: Vec::new(),
            entry: None,
            resolved: Vec::new(),
            api: None,
            error: None,
            output,
            once,
        }
    }

    /// Writes text for the user. A closed pipe is no reason to stop.
    pub(super) fn tell(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        let _ = if self.output.json {
            let mut out = anstream::stderr().lock();
            write(&mut out).and_then(|()| out.flush())
        } else {
            Output::text(write)
        };
    }

    pub(super) fn heading(&self) {
        let place = match &self.emulator_url {
            Some(url) => format!("with the 1Password emulator at {url}"),
            None => "with the 1Password account of your token".to_owned(),
        };
        self.tell(|out| writeln!(out, "{HEADING}Keyway{HEADING:#} {place}\n"));
    }

    /// Runs a step. Prints its name first, then its outcome, its duration and a few words.
    pub(super) async fn step<T>(
        &mut self,
        name: &'static str,
        work: impl Future<Output = Result<(T, String), CliError>>,
    ) -> Result<T, CliError> {
        let number = self.steps.len() + 1;
        self.tell(|out| write!(out, "{number:2}  {name:32}"));
        let started = Instant::now();
        let result = work.await;
        let time = started.elapsed();
        self.steps.push(Step { name, ok: result.is_ok(), time });
        match result {
            Ok((done, words)) => {
                self.tell(|out| {
                    writeln!(out, "{GOOD}ok{GOOD:#} {:>9}  {FAINT}{}{FAINT:#}", ms(time), printable(&words))
                });
                Ok(done)
            }
            Err(error) => {
                self.tell(|out| writeln!(out, "{BAD}failed{BAD:#} {:>5}\n", ms(time)));
                Err(error.during(name))
            }
        }
    }

    /// The items, as a table.
    pub(super) fn show_items(&self) {
        self.tell(|out| {
            writeln!(out)?;
            connection::write_items(out, &self.items, INDENT, ITEMS_SHOWN)?;
            writeln!(out)
        });
    }

    /// The last resolve.
    pub(super) fn show_resolved(&self) {
        if let Some(resolved) = self.resolved.last() {
            self.tell(|out| {
                writeln!(out)?;
                resolved.fields(out, INDENT)?;
                writeln!(out)
            });
        }
    }

    /// Ends the report: the API to try, and the data if that was asked for.
    pub(super) fn end(&mut self, error: Option<&CliError>) {
        self.ok = error.is_none();
        self.error = error.cloned();
        if let Some(api) = self.api.as_ref().filter(|_| self.ok) {
            self.tell(|out| api_text(out, api));
        }
        if self.ok && self.once {
            let time: Duration = self.steps.iter().map(|step| step.time).sum();
            let count = self.steps.len();
            self.tell(|out| writeln!(out, "{GOOD}All {count} steps worked{GOOD:#}, in {}.", ms(time)));
        }
        if self.output.json {
            let _ = self.output.json_line(self);
        }
    }
}

fn api_text(out: &mut dyn Write, api: &Api) -> io::Result<()> {
    use secrecy::ExposeSecret;
    writeln!(out, "\nThe HTTP API is at {HEADING}{}{HEADING:#}. Try it from another terminal:\n", api.url)?;
    writeln!(out, "    export CC_API_KEY={}", api.api_key.expose_secret())?;
    for curl in &api.curl {
        writeln!(out, "\n    {FAINT}# {}{FAINT:#}\n    {}", curl.about, printable(&curl.command))?;
    }
    writeln!(out, "\nCtrl-C ends the demo.")
}
