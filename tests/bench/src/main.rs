//! Measurements of the project's speed goals, made in one run and printed as ratios.
//!
//! A number alone says more about the machine than about the program. So every row is compared with
//! a measurement in the same process at the same time, alternating: the same code without the
//! sandbox, the official client, a round trip over loopback. Nothing here passes or fails; the
//! goals are printed beside the results. `cargo xtask bench` builds what is needed and runs it.

mod attack;
mod attackers;
mod audit;
mod broker;
mod http;
mod neighbours;
mod official;
mod report;
mod sandbox;
mod scale;
mod server;
mod start;
mod statistics;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use report::Report;

/// Measures Keyway and what it is compared with.
#[derive(Parser)]
struct Options {
    /// Print data instead of a table
    #[arg(long)]
    json: bool,
    /// Divide the number of repetitions by this, for a first look
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    quick: u32,
    /// Measure only this part (may be given several times)
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The sandbox and the same code without it
    Sandbox,
    /// 1Password's own SDK
    Official,
    /// The broker
    Broker,
    /// The cost of the audit log
    Audit,
    /// The HTTP API
    Http,
    /// A large workspace and a small one
    Scale,
    /// A workspace while others do their worst
    Neighbours,
    /// The start of the server
    Start,
}

fn main() -> Result<()> {
    let reactor = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if reactor.block_on(http::serve_constant())? {
        return Ok(());
    }
    let options = Options::parse();
    let mut report = Report::default();
    let quick = options.quick as usize;
    let parts = Part::value_variants().iter().filter(|part| options.only.is_empty() || options.only.contains(part));
    reactor.block_on(async {
        for part in parts {
            eprintln!(
                "Measuring: {}.",
                part.to_possible_value().and_then(|part| part.get_help().map(ToString::to_string)).unwrap_or_default()
            );
            match part {
                Part::Sandbox => sandbox::measure(&mut report, quick).await?,
                Part::Official => official::measure(&mut report, quick).await?,
                Part::Broker => broker::measure(&mut report, quick).await?,
                Part::Audit => audit::measure(&mut report, quick).await?,
                Part::Http => http::measure(&mut report, quick).await?,
                Part::Scale => scale::measure(&mut report, quick).await?,
                Part::Neighbours => neighbours::measure(&mut report, quick).await?,
                Part::Start => start::measure(&mut report, quick)?,
            }
        }
        anyhow::Ok(())
    })?;
    report.print(options.json)
}
