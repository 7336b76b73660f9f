//! Vault entries as they are printed. As data: the same document as over HTTP, with the names of
//! hidden values. Credentials are hidden even as ciphertext, unless `--reveal` is given; `keyway
//! resolve` shows their values.

use std::io::{self, Write};

use keyway::entries::VaultEntry;
use serde::Serialize;

use crate::cli::app::App;
use crate::cli::connection::duration;
use crate::cli::exit::CliError;
use crate::cli::output::{FAINT, day_and_time, facts};
use crate::http::vault::entry::{self, own_credentials};
use crate::http::vault::expiry;

/// An entry as data.
#[derive(Serialize)]
pub(super) struct Row {
    #[serde(flatten)]
    shown: entry::Entry,
    /// Names of values that are set, but `null` here because they may grant access.
    hidden: Vec<&'static str>,
}

impl Row {
    /// `reveal` shows values that may grant access.
    pub(super) fn new(entry: VaultEntry, reveal: bool) -> Self {
        let shown = entry::Entry { entry, hides: !reveal };
        Self { hidden: shown.hidden(), shown }
    }

    fn entry(&self) -> &VaultEntry {
        &self.shown.entry
    }

    pub(super) fn facts(&self, out: &mut dyn Write) -> io::Result<()> {
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

/// Prints an entry that was created or changed.
pub(super) fn done(app: &App, entry: VaultEntry, headline: &str) -> Result<(), CliError> {
    let row = Row::new(entry, false);
    app.output.result(&row, |out| {
        writeln!(out, "{headline}")?;
        row.facts(out)?;
        let entry = row.entry();
        let what = if entry.binding().is_some() { "fetches what the item holds now" } else { "shows what it holds" };
        writeln!(out, "{FAINT}`keyway resolve {}` {what}.{FAINT:#}", entry.id)
    })
}

/// `keyway entry list`
pub(super) fn list(app: &App, rows: &[Row], empty: &str) -> Result<(), CliError> {
    app.output.list(rows, ["USER", "DOMAIN", "ID", "CREDENTIALS", "CREATED"], empty, |table, row| {
        let entry = row.entry();
        let credentials = entry.binding().map_or("its own", |binding| &binding.reference);
        table.row([&entry.user, &entry.domain, &entry.id, &credentials, &day_and_time(entry.created_at)]);
    })
}
