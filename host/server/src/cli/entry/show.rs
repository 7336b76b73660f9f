//! Vault entries as they are printed. Credentials never are, not as ciphertext either: `keyway resolve` is for them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use jiff::Timestamp;
use keyway::{Attributes, ConnectionId, CredentialSource, EntryId, OneTimeCode, TfaMethod, VaultEntry};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Value;

use crate::cli::connection::duration;
use crate::cli::output::{FAINT, GOOD, Show, Table, day_and_time, facts};
use crate::resolved::exposed;

/// An entry as data.
#[derive(Serialize)]
pub(super) struct Row {
    id: EntryId,
    permissioned_user_id: String,
    domain: String,
    user_alias: Option<String>,
    tfa_method: Option<TfaMethod>,
    passkey: bool,
    /// `provider`, or `own` for credentials that the entry holds itself.
    credentials: &'static str,
    /// Which of its own it has.
    own_credentials: Vec<&'static str>,
    secret_provider_id: Option<ConnectionId>,
    secret_ref: Option<String>,
    secret_cache_ttl_seconds: Option<u32>,
    /// Those that are set; `null` for what is not to be shown.
    attributes: BTreeMap<&'static str, Value>,
    session_data_set_at: Option<Timestamp>,
    effective_expires_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl Row {
    /// `reveal` shows attributes that may let somebody in.
    pub(super) fn new(entry: VaultEntry, reveal: bool) -> Self {
        let attributes = entry.attributes.iter().map(|(name, json)| {
            let shown = reveal || !Attributes::is_secret(name);
            (name, if shown { serde_json::from_str(json).unwrap_or_default() } else { Value::Null })
        });
        let attributes = attributes.collect();
        let (session_data_set_at, effective_expires_at) = (entry.session_data_set_at, entry.effective_expires_at());
        let (binding, own) = match entry.credentials {
            CredentialSource::Bound(binding) => (Some(binding), None),
            CredentialSource::Own(own) => (None, Some(own)),
        };
        let own_credentials = own.iter().flat_map(|own| {
            let all = [("user_name", &own.user_name), ("password", &own.password), ("tfa_secret", &own.tfa_secret)];
            all.into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name)
        });
        Self {
            id: entry.id,
            permissioned_user_id: entry.permissioned_user_id,
            domain: entry.domain,
            user_alias: entry.user_alias,
            tfa_method: entry.tfa_method,
            passkey: entry.passkey,
            credentials: if binding.is_some() { "provider" } else { "own" },
            own_credentials: own_credentials.collect(),
            secret_provider_id: binding.as_ref().map(|binding| binding.connection_id),
            secret_cache_ttl_seconds: binding.as_ref().and_then(|binding| binding.cache_ttl).map(|ttl| ttl.seconds()),
            secret_ref: binding.map(|binding| binding.reference),
            attributes,
            session_data_set_at,
            effective_expires_at,
            created_at: entry.created_at,
            updated_at: entry.updated_at,
        }
    }

    fn facts(&self, out: &mut dyn Write) -> io::Result<()> {
        let id = self.id.to_string();
        let mut lines =
            vec![("entry", id), ("user", self.permissioned_user_id.clone()), ("domain", self.domain.clone())];
        lines.extend(self.user_alias.clone().map(|alias| ("alias", alias)));
        match &self.secret_ref {
            Some(reference) => {
                let cache = self.secret_cache_ttl_seconds.map_or_else(|| "the connection's".to_owned(), duration);
                lines.extend([("item", reference.clone()), ("cache duration", cache)]);
            }
            None if self.own_credentials.is_empty() => lines.push(("credentials", "none".to_owned())),
            None => lines.push(("credentials", format!("its own ({})", self.own_credentials.join(", ")))),
        }
        lines.extend(self.tfa_method.map(|method| ("second factor", method.to_string())));
        if self.passkey {
            lines.push(("passkey", "yes".to_owned()));
        }
        for (name, value) in &self.attributes {
            lines.push((name, if value.is_null() { "set".to_owned() } else { value.to_string() }));
        }
        lines.extend(self.effective_expires_at.map(|time| ("expires", day_and_time(time))));
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
        let what =
            if self.row.secret_ref.is_some() { "fetches what the item holds now" } else { "shows what it holds" };
        writeln!(out, "{FAINT}`keyway resolve {}` {what}.{FAINT:#}", self.row.id)
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
pub(super) struct Code {
    r#type: &'static str,
    #[serde(serialize_with = "exposed")]
    code: SecretString,
    expires_in_seconds: u64,
}

impl Code {
    pub(super) fn new(code: OneTimeCode, expires_in_seconds: u64) -> Self {
        Self { r#type: "authenticator", code: code.code, expires_in_seconds }
    }
}

impl Show for Code {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let code = self.code.expose_secret();
        writeln!(out, "{code}  {GOOD}live{GOOD:#}, good for {} s", self.expires_in_seconds)
    }
}

/// `keyway entry list`
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct List(pub(super) Vec<Row>);

impl Show for List {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&["USER", "DOMAIN", "ID", "CREDENTIALS", "CREATED"]);
        for row in &self.0 {
            let credentials = row.secret_ref.as_deref().unwrap_or("its own");
            table.row([
                &row.permissioned_user_id,
                &row.domain,
                &row.id.to_string(),
                credentials,
                &day_and_time(row.created_at),
            ]);
        }
        table.write(out, 0, "There is no vault entry yet. `keyway entry create` makes one.")
    }
}
