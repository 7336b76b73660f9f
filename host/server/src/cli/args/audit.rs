//! Options of `keyway audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use keyway::audit::{Cursor, Operation, Order, OutcomeFilter};
use keyway::{ConnectionId, EntryId, RotationId};

use super::target::WorkspaceOption;
use super::values::{number, time};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List the records of releases, listings, changes and refusals, with actor and time; of all
    /// workspaces unless one is given
    List(Box<ListOptions>),
    /// Verify that no record was changed, removed, inserted or moved. Otherwise list what is
    /// wrong and exit with code 8
    Verify(VerifyOptions),
    /// Print the root of the log, one line of JSON, to be kept on another machine for
    /// `verify --root`
    Root,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyOptions {
    /// Also verify that everything is there that this root vouches for: a file with the line that
    /// `keyway audit root` printed, or - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) root: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    /// Only records at this time or later, for example 2026-11-23T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) since: Option<Timestamp>,
    /// Only records before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) until: Option<Timestamp>,
    /// Only records of this API key (id or name) or operator
    #[arg(long, value_name = "ACTOR")]
    pub(crate) actor: Option<String>,
    /// Only records of this operation, for example resolve or update_connection
    #[arg(long, value_name = "OPERATION")]
    pub(crate) operation: Option<Operation>,
    /// Only records about this vault entry
    #[arg(long, value_name = "ID")]
    pub(crate) entry: Option<EntryId>,
    /// Only records about this connection
    #[arg(long, value_name = "ID")]
    pub(crate) connection: Option<ConnectionId>,
    /// Only records about this password rotation: its steps, and the releases of its new password
    #[arg(long, value_name = "ID")]
    pub(crate) rotation: Option<RotationId>,
    /// Only records with this outcome: ok, begun, failed (any error), or an error code, for example
    /// FORBIDDEN
    #[arg(long, value_name = "OUTCOME")]
    pub(crate) outcome: Option<OutcomeFilter>,
    /// Order of the records: newest or oldest first
    #[arg(long, value_name = "ORDER", default_value = "newest")]
    pub(crate) order: Order,
    /// Maximum number of records
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = number(1, 1_000))]
    pub(crate) limit: u32,
    /// Continue after an earlier page, with its `next`
    #[arg(long, value_name = "NEXT")]
    pub(crate) cursor: Option<Cursor>,
    #[command(flatten)]
    pub(crate) workspace: WorkspaceOption,
}
