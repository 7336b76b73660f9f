//! Vault entries as they are printed: as data the same document as over HTTP, with the names of what is set and hidden. Credentials are hidden, as
//! ciphertext too, unless `--reveal` says otherwise; their values are for `keyway resolve`.

use std::io::{self, Write};

use keyway::VaultEntry;
use secrecy::ExposeSecret;
use serde::Serialize;

use crate::cli::connection::duration;
use crate::cli::output::{FAINT, GOOD, Show, Table, day_and_time, facts};
use crate::http::vault::entry::{self, own_credentials};
use crate::http::vault::expiry;
use crate::view::tfa_code;

/// An entry as data.
#[derive(Serialize)]
pub(super) struct Row {
    #[serde(flatten)]
    shown: entry::Entry,
    /// What is set, and `null` here because it may let somebody in.
    hidden: Vec<&'static str>,
}

impl Row {
    /// `reveal` shows what may let somebody in.
    pub(super) fn new(entry: VaultEntry, reveal: bool) -> Self {
        let shown = if reveal { entry.into() } else { entry::Entry::hiding(entry) };
        Self { hidden: shown.hidden(), shown }
    }

    fn entry(&self) -> &VaultEntry {
        &self.shown.entry
    }

    fn facts(&self, out: &mut dyn Write) -> io::Result<()> {
        let entry = self.entry();
        let id = entry.id.to_string();
        let mut lines = vec![("entry", id), ("user", entry.user.clone()), ("domain", entry.domain.clone())];
        lines.extend(entry.alias.clone().map(|alias| ("alias", alias)));
        let own = own_credentials(entry);
        match entry.binding() {
            Some(binding) => {
                let cache = binding.cache_ttl.map(|ttl| duration(ttl.seconds()));
                let cache = cache.unwrap_or_else(|| "the connection's".to_owned());
                lines.extend([("item", binding.reference.clone()), ("cache duration", cache)]);
            }
            None if own.is_empty() => lines.push(("credentials", "none".to_owned())),
            None => lines.push(("credentials", format!("its own ({})", own.join(", ")))),
        }
        lines.extend(entry.tfa_method.map(|method| ("second factor", method.to_string())));
        if entry.passkey {
            lines.push(("passkey", "yes".to_owned()));
        }
        for (name, _, json) in entry.attributes.iter() {
            lines.push((name, if self.hidden.contains(&name) { "set".to_owned() } else { json.to_owned() }));
        }
        lines.extend(expiry::effective(entry).map(|time| ("expires", day_and_time(time))));
        let lines: Vec<_> = lines.iter().map(|(label, value)| (*label, value.as_str())).collect();
        facts(out, &lines)
    }
}

/// `keyway entry get`
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Entry(pub(super) Row);

impl Show for Entry {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        self.0.facts(out)
    }
}

/// An entry that was created or changed.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Done {
    row: Row,
    #[serde(skip)]
    headline: &'static str,
}

impl Done {
    pub(super) fn created(entry: VaultEntry) -> Self {
        let is_bound = entry.binding().is_some();
        let headline = if is_bound { "Bound a vault entry to the item." } else { "Created the vault entry." };
        Self { row: Row::new(entry, false), headline }
    }

    pub(super) fn updated(entry: VaultEntry) -> Self {
        Self { row: Row::new(entry, false), headline: "Changed the vault entry." }
    }
}

impl Show for Done {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.headline)?;
        self.row.facts(out)?;
        let entry = self.row.entry();
        let what = if entry.binding().is_some() { "fetches what the item holds now" } else { "shows what it holds" };
        writeln!(out, "{FAINT}`keyway resolve {}` {what}.{FAINT:#}", entry.id)
    }
}

/// `keyway entry delete`
#[derive(Serialize)]
pub(super) struct Deleted {
    deleted: bool,
}

impl Deleted {
    pub(super) fn new() -> Self {
        Self { deleted: true }
    }
}

impl Show for Deleted {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Deleted the vault entry.")
    }
}

/// `keyway entry code`
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Code(pub(super) tfa_code::Code);

impl Show for Code {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let code = self.0.code.expose_secret();
        writeln!(out, "{code}  {GOOD}live{GOOD:#}, good for {} s", self.0.expires_in_seconds)
    }
}

/// `keyway entry list`
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct List(pub(super) Vec<Row>);

impl Show for List {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&["USER", "DOMAIN", "ID", "CREDENTIALS", "CREATED"]);
        for entry in self.0.iter().map(Row::entry) {
            let credentials = entry.binding().map_or("its own", |binding| &binding.reference);
            table.row([
                &entry.user,
                &entry.domain,
                &entry.id.to_string(),
                credentials,
                &day_and_time(entry.created_at),
            ]);
        }
        table.write(out, 0, "There is no vault entry yet. `keyway entry create` makes one.")
    }
}
