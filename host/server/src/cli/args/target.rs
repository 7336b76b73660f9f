//! The targets of commands: a workspace, a connection, a vault entry.

use clap::Args;
use keyway::{EntryId, EntrySelector};

use crate::cli::exit::CliError;

/// Which workspace a command is about.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct WorkspaceOption {
    /// The workspace, by id or name; optional when there is only one
    #[arg(long, short = 'w', env = "KEYWAY_WORKSPACE", value_name = "WORKSPACE")]
    pub(crate) workspace: Option<String>,
}

/// Which connection a command is about.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConnectionOption {
    /// The connection, by id or name; optional when there is only one
    #[arg(long, short = 'c', env = "KEYWAY_CONNECTION", value_name = "CONNECTION")]
    pub(crate) connection: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectionTarget {
    #[command(flatten)]
    pub(crate) connection: ConnectionOption,
    #[command(flatten)]
    pub(crate) workspace: WorkspaceOption,
}

/// Which vault entry a command is about.
#[derive(Debug, Args)]
pub(crate) struct EntryOption {
    /// The vault entry's id
    #[arg(conflicts_with_all = ["user", "domain"])]
    entry: Option<EntryId>,
    /// The entry's user, with --domain
    #[arg(long, value_name = "USER", requires = "domain")]
    user: Option<String>,
    /// The entry's site, with --user
    #[arg(long, value_name = "URL", requires = "user")]
    domain: Option<String>,
}

impl EntryOption {
    pub(crate) fn selector(self) -> Result<EntrySelector, CliError> {
        match (self.entry, self.user, self.domain) {
            (Some(id), _, _) => Ok(EntrySelector::Id(id)),
            (None, Some(user), Some(domain)) => Ok(EntrySelector::Pair { user, domain }),
            _ => Err(CliError::usage("name the vault entry by its id, or by --user and --domain")),
        }
    }
}
