//! What the project says about its speed, measured in one run and printed as ratios.
//!
//! A number alone says more about the machine than about the program, so every row is compared with something that ran in the same
//! process at the same time, in turns: the same code without the sandbox, the official client, a round trip over loopback. Nothing here passes or
//! fails; the goals are printed beside what was seen. `cargo xtask bench` builds what is needed and runs it.

mod broker;
mod official;
mod report;
mod sandbox;
mod start;
mod statistics;

use anyhow::Result;
use clap::Parser;

use report::Report;

/// Measures Keyway against what it is compared with.
#[derive(Parser)]
struct Options {
    /// Print data instead of a table
    #[arg(long)]
    json: bool,
    /// Divide the number of repetitions by this, for a first look
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    quick: u32,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let reactor = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::default();
    let quick = options.quick as usize;
    reactor.block_on(async {
        progress("the sandbox against the same code without it");
        sandbox::measure(&mut report, quick).await?;
        progress("1Password's own SDK");
        official::measure(&mut report, quick).await?;
        progress("the broker");
        broker::measure(&mut report, quick).await?;
        progress("the start of the server");
        start::measure(&mut report, quick)
    })?;
    report.print(options.json)
}

/// Says what is going on; the measurements take a minute.
fn progress(what: &str) {
    eprintln!("Measuring {what}.");
}
