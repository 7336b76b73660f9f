//! `keyway rotation`.
//!
//! A new password is printed only where that was asked for (`--reveal`), or written to a file that only its owner can read (`--out`). It is never lost
//! by not being printed: while the rotation is open, `keyway rotation show --reveal` has it.
//!
//! A command that leaves a rotation in another state than the one it was to get into prints it, says why on standard error, and ends with the exit code of
//! that reason.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use keyway::{Access, BeginRotation, ErrorKind, NewPassword, PasswordPolicy, Rotation, RotationFilter, RotationState};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::app::App;
use super::args::rotation::{BeginRotationOptions, RotationCommand, ShowRotationOptions};
use super::args::target::WorkspaceOption;
use super::exit::CliError;
use super::output::{FAINT, Show, Table, day_and_time, facts};
use super::{secret_input, select};
use crate::host::Host;
use crate::view::rotation::RotationView;
use crate::view::secret::shown;

pub(super) async fn run(app: &App, command: RotationCommand) -> Result<(), CliError> {
    match command {
        RotationCommand::Begin(options) => begin(app, *options).await,
        RotationCommand::Commit { id, workspace } => {
            let (host, access) = opened(app, &workspace).await?;
            let rotation = host.broker().commit_rotation(&access, id).await?;
            finish(app, rotation)
        }
        RotationCommand::Abandon { id, discard_password, workspace } => {
            let host = app.open_without_providers().await?;
            let access = select::workspace(host.broker(), &workspace).await?;
            let rotation = host.broker().abandon_rotation(&access, id, discard_password).await?;
            finish(app, rotation)
        }
        RotationCommand::Retry { id, overwrite, workspace } => {
            let (host, access) = opened(app, &workspace).await?;
            let rotation = host.broker().retry_rotation(&access, id, overwrite).await?;
            finish(app, rotation)
        }
        RotationCommand::List { states, open, entry, workspace } => {
            let host = app.open_without_providers().await?;
            let access = select::workspace(host.broker(), &workspace).await?;
            let states = if open { RotationState::OPEN.to_vec() } else { states };
            let (filter, mut rows, mut next) = (RotationFilter { states, entry }, Vec::new(), None);
            loop {
                let page = host.broker().list_rotations(&access, &filter, next).await?;
                rows.extend(page.rotations.into_iter().map(RotationView::from));
                next = page.next;
                if next.is_none() {
                    break;
                }
            }
            app.output.result(&List(rows))
        }
        RotationCommand::Show(options) => show(app, options).await,
    }
}

async fn opened<'a>(app: &'a App, workspace: &WorkspaceOption) -> Result<(&'a Host, Access), CliError> {
    let host = app.open().await?;
    let access = select::workspace(host.broker(), workspace).await?;
    Ok((host, access))
}

async fn begin(app: &App, options: BeginRotationOptions) -> Result<(), CliError> {
    let entry = options.entry.selector()?;
    let password = match &options.password_file {
        Some(file) => NewPassword::Given(secret_input::from_file(file)?),
        None => {
            let standard = PasswordPolicy::default();
            let symbols = if options.no_symbols { String::new() } else { options.symbols.unwrap_or(standard.symbols) };
            NewPassword::Generated(PasswordPolicy {
                length: options.length.unwrap_or(standard.length),
                symbols,
                ..standard
            })
        }
    };
    // Before the rotation, so that one whose password has no place to go is not begun.
    let place = options.out.map(NewFile::create).transpose()?;
    let (host, access) = opened(app, &options.workspace).await?;
    let begun = host.broker().begin_rotation(&access, BeginRotation::new(entry).password(password)).await?;
    let wrong = trouble(&begun.rotation, RotationState::Prepared);
    if let (Some(place), Some(password)) = (place, &begun.password) {
        place.keep(password)?;
    }
    let password = begun.password.filter(|_| options.reveal);
    app.output.result(&Shown { rotation: begun.rotation.into(), password })?;
    wrong
}

async fn show(app: &App, options: ShowRotationOptions) -> Result<(), CliError> {
    let place = options.out.map(NewFile::create).transpose()?;
    let host = app.open_without_providers().await?;
    let access = select::workspace(host.broker(), &options.workspace).await?;
    let rotation = host.broker().rotation(&access, options.id).await?;
    let mut password = match options.reveal || place.is_some() {
        true => Some(host.broker().reveal_rotation(&access, options.id).await?),
        false => None,
    };
    if let (Some(place), Some(password)) = (place, &password) {
        place.keep(password)?;
    }
    password = password.filter(|_| options.reveal);
    app.output.result(&Shown { rotation: rotation.into(), password })
}

fn finish(app: &App, rotation: Rotation) -> Result<(), CliError> {
    let wanted =
        if rotation.state == RotationState::Abandoned { RotationState::Abandoned } else { RotationState::Done };
    let wrong = trouble(&rotation, wanted);
    app.output.result(&Shown { rotation: rotation.into(), password: None })?;
    wrong
}

/// Whether the rotation is where the command was to get it.
fn trouble(rotation: &Rotation, wanted: RotationState) -> Result<(), CliError> {
    if rotation.state == wanted {
        return Ok(());
    }
    let id = rotation.id;
    let (kind, hint) = match rotation.state {
        RotationState::Committing => (
            ErrorKind::ProviderUnavailable,
            format!("the password is kept; a running server writes it, or `keyway rotation retry {id}`"),
        ),
        RotationState::Conflicted => (
            ErrorKind::Conflict,
            format!(
                "`keyway rotation show {id} --reveal` has the rotation's password. If it is the site's, \
                 `keyway rotation retry {id} --overwrite` writes it; if not, `keyway rotation abandon {id} --discard-password` gives it up"
            ),
        ),
        RotationState::Skipped => (ErrorKind::ProviderRefused, "do not change the password on the site".to_owned()),
        _ => (
            ErrorKind::ProviderRefused,
            format!("the password is kept; `keyway rotation retry {id}` writes it once the cause is removed"),
        ),
    };
    let reason = rotation.message.as_deref().unwrap_or("no reason is known");
    let message = format!("the password rotation is {}: {reason}", rotation.state);
    Err(CliError::new(kind, message).hint(hint).in_result())
}

/// A file for a password: made at once, for its owner only, and removed again if no password gets into it.
struct NewFile {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl NewFile {
    fn create(path: PathBuf) -> Result<Self, CliError> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&path) {
            Ok(file) => Ok(Self { path, file, kept: false }),
            Err(error) => Err(cannot_write(&path, &error)),
        }
    }

    fn keep(mut self, password: &SecretString) -> Result<(), CliError> {
        let written = writeln!(self.file, "{}", password.expose_secret()).and_then(|()| self.file.sync_all());
        self.kept = written.is_ok();
        written.map_err(|error| {
            cannot_write(&self.path, &error)
                .hint("the rotation has begun; `keyway rotation show --reveal` has the password")
        })
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> CliError {
    let (kind, why) = match error.kind() {
        io::ErrorKind::AlreadyExists => {
            (ErrorKind::Conflict, "it exists already; name a file that does not".to_owned())
        }
        _ => (ErrorKind::Invalid, error.to_string()),
    };
    CliError::new(kind, format!("cannot write the password to {}: {why}", path.display()))
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    rotation: RotationView,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    password: Option<SecretString>,
}

impl Show for Shown {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = &self.rotation;
        let (id, entry, begun) = (row.id.to_string(), row.entry_id.to_string(), day_and_time(row.created_at));
        let next = row.next_attempt_at.map(day_and_time).unwrap_or_default();
        let mut lines = vec![
            ("rotation", id.as_str()),
            ("state", row.state),
            ("entry", &entry),
            ("item", row.secret_ref.as_deref().unwrap_or("the entry itself")),
            ("begun", &begun),
        ];
        if !next.is_empty() {
            lines.push(("next attempt", &next));
        }
        if let Some(message) = &row.message {
            lines.push(("reason", message));
        }
        if let Some(password) = &self.password {
            lines.push(("password", password.expose_secret()));
        }
        facts(out, &lines)?;
        if row.state == RotationState::Prepared.name() {
            if self.password.is_none() {
                writeln!(out, "{FAINT}`keyway rotation show {id} --reveal` shows the new password.{FAINT:#}")?;
            }
            writeln!(
                out,
                "{FAINT}Set the new password on the site, then `keyway rotation commit {id}`; if the site refuses it, \
                 `keyway rotation abandon {id}`.{FAINT:#}"
            )?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct List(Vec<RotationView>);

impl Show for List {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&["ID", "STATE", "ENTRY", "ITEM", "BEGUN", "REASON"]);
        for row in &self.0 {
            table.row([
                &row.id.to_string(),
                row.state,
                &row.entry_id.to_string(),
                row.secret_ref.as_deref().unwrap_or("the entry itself"),
                &day_and_time(row.created_at),
                row.reason.as_deref().unwrap_or_default(),
            ]);
        }
        table.write(out, 0, "There is no such password rotation.")
    }
}
