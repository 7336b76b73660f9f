//! `keyway rotation`.
//!
//! A new password is printed only on request (`--reveal`), or written to a file that only its owner
//! can read (`--out`). Not printing it never loses it: while the rotation is open, `keyway rotation
//! show --reveal` has it.
//!
//! A command that leaves a rotation in another state than intended prints the rotation, says why on
//! standard error, and ends with the exit code of that reason.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use keyway::ErrorKind;
use keyway::rotations::{BeginRotation, NewPassword, PasswordPolicy, Rotation, RotationFilter, RotationState};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tempfile::TempPath;

use super::app::App;
use super::args::rotation::{BeginRotationOptions, RotationCommand, ShowRotationOptions};
use super::exit::CliError;
use super::output::{FAINT, Output, day_and_time, facts};
use super::{secret_input, select};
use crate::view::rotation::RotationView;
use crate::view::secret::shown;

/// Shown instead of an item for an entry with credentials of its own.
const NO_ITEM: &str = "the entry itself";

pub(super) async fn run(app: &App, command: RotationCommand) -> Result<(), CliError> {
    match command {
        RotationCommand::Begin(options) => begin(app, *options).await,
        RotationCommand::Commit { id, workspace } => {
            let (host, access) = app.open_in(&workspace).await?;
            finish(app, host.broker().rotations().commit(&access, id).await?)
        }
        RotationCommand::Abandon { id, discard_password, workspace } => {
            let (host, access) = app.open_without_providers_in(&workspace).await?;
            finish(app, host.broker().rotations().abandon(&access, id, discard_password).await?)
        }
        RotationCommand::Retry { id, overwrite, workspace } => {
            let (host, access) = app.open_in(&workspace).await?;
            finish(app, host.broker().rotations().retry(&access, id, overwrite).await?)
        }
        RotationCommand::List { states, open, entry, workspace } => {
            let (host, access) = app.open_without_providers_in(&workspace).await?;
            let states = if open { RotationState::OPEN.to_vec() } else { states };
            let (filter, mut rows, mut next) = (RotationFilter { states, entry }, Vec::new(), None);
            loop {
                let page = host.broker().rotations().list(&access, &filter, next).await?;
                rows.extend(page.rotations.into_iter().map(RotationView::from));
                next = page.next;
                if next.is_none() {
                    break;
                }
            }
            let of = ("rotations", Some(&access));
            let empty = select::instead_of(&rows, host.broker(), of, "There are no such password rotations.").await;
            list(app, &rows, &empty)
        }
        RotationCommand::Show(options) => show(app, options).await,
    }
}

async fn begin(app: &App, options: BeginRotationOptions) -> Result<(), CliError> {
    let entry = options.entry.selector()?;
    let password = match &options.password_file {
        Some(file) => NewPassword::Given(secret_input::from_file(file)?),
        None => {
            let mut policy = PasswordPolicy::default();
            policy.length = options.length.map_or(policy.length, |length| length as usize);
            let symbols = options.symbols.unwrap_or(policy.symbols);
            policy.symbols = if options.no_symbols { String::new() } else { symbols };
            NewPassword::Generated(policy)
        }
    };
    // Before the rotation, so that a rotation is not begun when its password has no place to go.
    let place = options.out.map(NewFile::create).transpose()?;
    let (host, access) = app.open_in(&options.workspace).await?;
    let begun = host.broker().rotations().begin(&access, BeginRotation::new(entry).password(password)).await?;
    let wrong = trouble(&begun.rotation, RotationState::Prepared);
    let written = keep(place, begun.password.as_ref())?;
    let password = begun.password.filter(|_| options.reveal);
    print(app, begun.rotation, password, written)?;
    wrong
}

async fn show(app: &App, options: ShowRotationOptions) -> Result<(), CliError> {
    let place = options.out.map(NewFile::create).transpose()?;
    let (host, access) = app.open_without_providers_in(&options.workspace).await?;
    let rotation = host.broker().rotations().get(&access, options.id).await?;
    let password = match options.reveal || place.is_some() {
        true => Some(host.broker().rotations().reveal(&access, options.id).await?),
        false => None,
    };
    let written = keep(place, password.as_ref())?;
    print(app, rotation, password.filter(|_| options.reveal), written)
}

/// Writes the password, and says where it is.
fn keep(place: Option<NewFile>, password: Option<&SecretString>) -> Result<Option<PathBuf>, CliError> {
    place.zip(password).map(|(place, password)| place.keep(password)).transpose()
}

fn finish(app: &App, rotation: Rotation) -> Result<(), CliError> {
    let wanted =
        if rotation.state == RotationState::Abandoned { RotationState::Abandoned } else { RotationState::Done };
    let wrong = trouble(&rotation, wanted);
    print(app, rotation, None, None)?;
    wrong
}

/// An error unless the rotation is in the state that the command wanted.
fn trouble(rotation: &Rotation, wanted: RotationState) -> Result<(), CliError> {
    if rotation.state == wanted {
        return Ok(());
    }
    let id = rotation.id;
    let reason = rotation.message.as_deref().unwrap_or("the reason is unknown");
    if rotation.state == RotationState::Skipped {
        // Nothing failed, and there is nothing to try again.
        Output::warning(&format!("the password was not rotated; do not change it on the site: {reason}"));
        return Ok(());
    }
    let (kind, hint) = match rotation.state {
        RotationState::Committing => (
            ErrorKind::ProviderUnavailable,
            format!("the password is kept; a running server writes it, or `keyway rotation retry {id}`"),
        ),
        RotationState::Conflicted => (
            ErrorKind::Conflict,
            format!(
                "`keyway rotation show {id} --reveal` has the rotation's password. If it is the site's, \
                 `keyway rotation retry {id} --overwrite` writes it; if not, `keyway rotation abandon {id} --discard-password` discards it"
            ),
        ),
        _ => (
            ErrorKind::ProviderRefused,
            format!("the password is kept; `keyway rotation retry {id}` writes it after you remove the cause"),
        ),
    };
    let message = format!("the password rotation is {}: {reason}", rotation.state);
    Err(CliError::new(kind, message).hint(hint).in_result())
}

/// A file for a password: created at once for its owner only, and removed if no password is
/// written.
struct NewFile(File, TempPath);

impl NewFile {
    fn create(path: PathBuf) -> Result<Self, CliError> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let made = options.open(&path).and_then(|file| Ok(Self(file, TempPath::try_from_path(&path)?)));
        made.map_err(|error| cannot_write(&path, &error))
    }

    fn keep(mut self, password: &SecretString) -> Result<PathBuf, CliError> {
        let path = self.1.to_path_buf();
        let written = writeln!(self.0, "{}", password.expose_secret()).and_then(|()| self.0.sync_all());
        written.and_then(|()| Ok(self.1.keep()?)).map_err(|error| {
            cannot_write(&path, &error).hint("the rotation has begun; `keyway rotation show --reveal` has the password")
        })
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> CliError {
    let place = format!("cannot write the password to {}", path.display());
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            CliError::new(ErrorKind::Conflict, format!("{place}: it already exists; name a new file"))
        }
        _ => CliError::unreadable(error, format!("{place}: {error}")),
    }
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    rotation: RotationView,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    password: Option<SecretString>,
    /// The file that the password was written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<PathBuf>,
}

fn print(
    app: &App,
    rotation: Rotation,
    password: Option<SecretString>,
    password_file: Option<PathBuf>,
) -> Result<(), CliError> {
    let data = Shown { rotation: rotation.into(), password, password_file };
    app.output.result(&data, |out| {
        let (row, password) = (&data.rotation, data.password.as_ref());
        let (id, entry, begun) = (row.id.to_string(), row.entry_id.to_string(), day_and_time(row.created_at));
        let next = row.next_attempt_at.map(day_and_time);
        let file = data.password_file.as_ref().map(|file| file.display().to_string());
        let mut lines = vec![
            ("rotation", id.as_str()),
            ("state", row.state),
            ("entry", &entry),
            ("item", row.secret_ref.as_deref().unwrap_or(NO_ITEM)),
            ("begun", &begun),
        ];
        lines.extend(next.as_deref().map(|next| ("next attempt", next)));
        lines.extend(row.message.as_deref().map(|message| ("reason", message)));
        lines.extend(password.map(|password| ("password", password.expose_secret())));
        lines.extend(file.as_deref().map(|file| ("password in", file)));
        facts(out, &lines)?;
        if row.state != RotationState::Prepared.name() {
            return Ok(());
        }
        if password.is_none() && file.is_none() {
            writeln!(out, "{FAINT}`keyway rotation show {id} --reveal` shows the new password.{FAINT:#}")?;
        }
        writeln!(
            out,
            "{FAINT}Set the new password on the site, then `keyway rotation commit {id}`; if the site refuses it, \
             `keyway rotation abandon {id}`.{FAINT:#}"
        )
    })
}

fn list(app: &App, rows: &[RotationView], empty: &str) -> Result<(), CliError> {
    let headings = ["ID", "STATE", "ENTRY", "ITEM", "BEGUN", "REASON"];
    app.output.list(rows, headings, empty, |table, row| {
        let (item, reason) = (row.secret_ref.as_deref().unwrap_or(NO_ITEM), row.reason.as_deref().unwrap_or_default());
        table.row([&row.id, &row.state, &row.entry_id, &item, &day_and_time(row.created_at), &reason]);
    })
}
