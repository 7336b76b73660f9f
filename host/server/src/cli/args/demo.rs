//! Options of `keyway demo`.

use std::path::PathBuf;

use clap::Args;

use super::values::address_and_port;

#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// The folder of provider components, 1Password's among them [default: that of --providers]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) components: Option<PathBuf>,
    /// Use a 1Password emulator: a file with what it said about itself
    #[arg(long, value_name = "FILE", conflicts_with = "token_file")]
    pub(crate) emulator_info: Option<PathBuf>,
    /// Use the real 1Password with the service account token in this file (or in KEYWAY_OP_TOKEN), `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// End after the last step; the exit code says whether every step worked
    #[arg(long)]
    pub(crate) once: bool,
    /// Show the password
    #[arg(long)]
    pub(crate) reveal: bool,
    /// Where to serve the HTTP API; port 0 is any free one
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:0",
        value_parser = address_and_port
    )]
    pub(crate) listen: String,
}
