//! Options of `keyway rotation`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use keyway::rotations::RotationState;
use keyway::{EntryId, RotationId};

use super::target::{EntryOption, WorkspaceOption};
use super::values::{number, rotation_state};

#[derive(Debug, Subcommand)]
pub(crate) enum RotationCommand {
    /// Store a new password, then show it, to be set on the site. If the rotation is skipped, keep
    /// the site's password
    Begin(Box<BeginRotationOptions>),
    /// Confirm that the site has the new password, and write it to the item
    Commit {
        /// The rotation's id
        id: RotationId,
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
    /// Abandon a rotation, because the site refused the password
    Abandon {
        /// The rotation's id
        id: RotationId,
        /// Abandon it even after the commit, when only the rotation has the site's password
        #[arg(long)]
        discard_password: bool,
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
    /// Write the password to its item now, after a failed write-back
    Retry {
        /// The rotation's id
        id: RotationId,
        /// Overwrite a password that the item received in the meantime
        #[arg(long)]
        overwrite: bool,
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
    /// List rotations
    List {
        /// Only rotations in one of these states: skipped, prepared, committing, write_back_failed,
        /// conflicted, done, abandoned
        #[arg(long = "state", value_name = "STATES", value_delimiter = ',', value_parser = rotation_state)]
        states: Vec<RotationState>,
        /// Only unfinished rotations
        #[arg(long, conflicts_with = "states")]
        open: bool,
        /// Only rotations of this vault entry
        #[arg(long, value_name = "ENTRY")]
        entry: Option<EntryId>,
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
    /// Show a rotation
    Show(ShowRotationOptions),
}

#[derive(Debug, Args)]
pub(crate) struct BeginRotationOptions {
    #[command(flatten)]
    pub(crate) entry: EntryOption,
    /// A file with the new password, `-` for standard input, instead of a generated one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["length", "symbols", "no_symbols"])]
    pub(crate) password_file: Option<PathBuf>,
    /// Length of the generated password [default: 24]
    #[arg(long, value_name = "CHARACTERS", value_parser = number(12, 128))]
    pub(crate) length: Option<u32>,
    /// Symbols of the generated password [default: !#$%*+-=?@_]
    #[arg(long, value_name = "CHARACTERS", conflicts_with = "no_symbols")]
    pub(crate) symbols: Option<String>,
    /// Generate letters and digits only
    #[arg(long)]
    pub(crate) no_symbols: bool,
    /// Show the new password
    #[arg(long)]
    pub(crate) reveal: bool,
    /// Write the new password to a new file that only you can read
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) workspace: WorkspaceOption,
}

#[derive(Debug, Args)]
pub(crate) struct ShowRotationOptions {
    /// The rotation's id
    pub(crate) id: RotationId,
    /// Show the new password of an unfinished rotation
    #[arg(long)]
    pub(crate) reveal: bool,
    /// Write the new password to a new file that only you can read
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) workspace: WorkspaceOption,
}
