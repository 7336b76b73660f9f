//! What one workspace gets while another, and strangers without a key, do their worst.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyway::EntryId;
use keyway_e2e::Lab;
use keyway_emulator_onepassword::Fault;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::sleep;

use crate::attack::Attack;
use crate::attackers::{Hostile, strangers};
use crate::report::{Report, Row};
use crate::sandbox::everywhere;
use crate::server::{Client, Data, Served, is_cached};
use crate::statistics::{median, percentile, ratio, show, timed};

/// How many sockets have no key.
const STRANGERS: usize = 10_000;

/// The files that this process opens for everything else.
const OTHER_FILES: usize = 6_000;

/// How long the secret manager takes for each request.
const SLOW: Duration = Duration::from_secs(5);

/// How long each quiet turn takes.
const QUIET: Duration = Duration::from_secs(10);

/// How long each attack takes once it is under way: longer than the server waits for a client that
/// does not read.
const ATTACK: Duration = Duration::from_secs(40);

/// How long an attack needs to get under way, and the server to recover from it.
const CHANGE: Duration = Duration::from_secs(10);

/// How long the measured client waits for an answer: longer than the server's own limit.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many errors are printed.
const SHOWN: usize = 10;

pub(crate) async fn measure(report: &mut Report, quick: usize) -> Result<()> {
    // The server inherits the limit.
    let sockets = STRANGERS.min(allow_files().saturating_sub(OTHER_FILES));
    let lab = Lab::start().await?;
    let data = Data::create(&lab).await?;
    let connection = data.connect("Bench 1Password").await?;
    let entry = data.bind("bench", connection).await?;
    let hostile = Hostile::create(&lab, &data).await?;
    let groups = [strangers(sockets), hostile.groups(&data.api_key)].concat();
    let served = data.serve(&lab.emulator).await?;
    let address = &served.process.address;

    let mut measured = Measured::start(&served, entry).await?;
    hostile.log_in(address).await?;
    lab.emulator.fault(everywhere(Fault::Delay { milliseconds: SLOW.as_millis() as u64 }));
    let (mut quiet, mut attacked) = (Vec::new(), Vec::new());
    let (mut sent, mut attacked_for) = ([0; 2], Duration::ZERO);
    for _ in 0..2 {
        measured.resolve_for(QUIET / quick as u32, &mut quiet).await?;
        let attack = Attack::begin(address, &groups)?;
        sleep(CHANGE).await;
        measured.longest = Duration::ZERO;
        let (before, begun) = (attack.sent(), Instant::now());
        measured.resolve_for(ATTACK / quick as u32, &mut attacked).await?;
        attacked_for += begun.elapsed();
        for ((sum, before), now) in sent.iter_mut().zip(before).zip(attack.sent()) {
            *sum += now - before;
        }
        eprintln!("  The longest resolve took {}. The attackers:", show(measured.longest));
        attack.print();
        drop(attack);
        sleep(CHANGE).await;
    }
    let [connections, requests] = sent.map(|sent| sent as f64 / attacked_for.as_secs_f64());
    let (late, quiet_late) = (percentile(&mut attacked, 99.0), percentile(&mut quiet, 99.0));
    let (attacked, quiet) = (median(&mut attacked), median(&mut quiet));
    let errors = measured.errors;
    report.add(Row {
        what: "cached resolve over HTTP while the neighbours do their worst, median and 99th percentile",
        ours: format!(
            "{}, {} ({sockets} sockets without a key, {requests:.0} requests and {connections:.0} connections a second)",
            show(attacked),
            show(late)
        ),
        compared_with: format!("without them: {}, {}", show(quiet), show(quiet_late)),
        ratio: format!("{:.2} times as long, {errors} errors", ratio(attacked, quiet)),
        goal: Some(("at most 3 times, and no error", ratio(attacked, quiet) <= 3.0 && errors == 0)),
    });
    Ok(())
}

/// Lets this process and its children open as many files as the system allows, and says how many.
fn allow_files() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If that fails, the number is the one before.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
}

/// The client whose times are measured: one connection with one request at a time.
struct Measured {
    client: Client,
    address: String,
    resolve: Vec<u8>,
    longest: Duration,
    errors: usize,
}

impl Measured {
    /// Connects and fills the cache.
    async fn start(served: &Served, entry: EntryId) -> Result<Self> {
        let (address, resolve) = (served.process.address.clone(), served.resolve(entry));
        let mut client = Client::connect(&address).await?;
        client.expect(&resolve).await?;
        ensure!(is_cached(client.expect(&resolve).await?), "the value was not in the cache");
        Ok(Self { client, address, resolve, longest: Duration::ZERO, errors: 0 })
    }

    /// Resolves one time after the other.
    async fn resolve_for(&mut self, time: Duration, times: &mut Vec<Duration>) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < time {
            let (time, answer) = timed(tokio::time::timeout(PATIENCE, self.client.expect(&self.resolve))).await;
            self.longest = self.longest.max(time);
            match answer.context("no answer").flatten().map(drop) {
                Ok(()) => times.push(time),
                Err(error) => self.failed(&error).await?,
            }
        }
        Ok(())
    }

    /// Counts an error and connects again.
    async fn failed(&mut self, error: &anyhow::Error) -> Result<()> {
        self.errors += 1;
        if self.errors <= SHOWN {
            eprintln!("Error of the measured workspace: {error:#}");
        }
        self.client = Client::connect(&self.address).await.context("the server accepts no connections any more")?;
        Ok(())
    }
}
