//! The emulator as a program: prints one line of JSON with its address and content, then runs until
//! it is told to end.

use std::io::Write;
use std::net::SocketAddr;

use clap::Parser;
use keyway_emulator_onepassword::{Emulator, Options};
use tokio::signal::unix::{SignalKind, signal};

/// A server that speaks the 1Password service account protocol, with made-up accounts.
///
/// The first line on standard output is a JSON object: url, control_url, and accounts with their
/// tokens, vaults and items. It runs until SIGINT or SIGTERM.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The protocol's address; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The control endpoint's address
    #[arg(long, default_value = "127.0.0.1:0")]
    control_listen: SocketAddr,
    /// The server that tokens name; "self" for the emulator's own http address
    #[arg(long, default_value = "my.1password.com")]
    sign_in_address: String,
    /// Determines ids, tokens and keys: the same seed gives the same ones
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many logins to put into a vault "Bulk"; 0 for no such vault
    #[arg(long, default_value_t = 0)]
    bulk_items: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let emulator = Emulator::start_with(Options {
        listen: arguments.listen,
        control_listen: arguments.control_listen,
        sign_in_address: (arguments.sign_in_address != "self").then_some(arguments.sign_in_address),
        seed: arguments.seed,
        bulk_items: arguments.bulk_items,
        ..Options::default()
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Installed before the line is printed, because a reader of the line may end the program at
        // once.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&emulator.info())?)?;
        out.flush()?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        anyhow::Ok(())
    })
}
