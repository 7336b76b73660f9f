//! Options of `keyway demo`.

use std::path::PathBuf;

use clap::Args;

use super::values::address_and_port;

#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// The folder of provider components, including 1Password's [default: that of --providers]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) components: Option<PathBuf>,
    /// Use the 1Password emulator that this file describes
    #[arg(long, value_name = "FILE", conflicts_with = "token_file")]
    pub(crate) emulator_info: Option<PathBuf>,
    /// Use the real 1Password with the service account token in this file (or in KEYWAY_OP_TOKEN),
    /// `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Exit after the last step; the exit code says whether every step succeeded
    #[arg(long)]
    pub(crate) once: bool,
    /// Show the password
    #[arg(long)]
    pub(crate) reveal: bool,
    /// Address to serve the HTTP API at; port 0 picks a free port
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:0",
        value_parser = address_and_port
    )]
    pub(crate) listen: String,
    /// Serve plain HTTP where other machines can reach it, as in a container
    #[arg(long)]
    pub(crate) insecure_plain_http: bool,
}
