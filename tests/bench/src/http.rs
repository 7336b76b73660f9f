//! The HTTP API: its overhead over the broker, and a comparison with a handler that does nothing.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use keyway::{EntryId, ResolveRequest};
use keyway_e2e::Lab;
use keyway_emulator_onepassword::{Endpoint, Fault};
use keyway_runtime::Fields;
use keyway_server::serve::Server;
use tokio::net::TcpListener;

use crate::report::{Report, Row};
use crate::sandbox::{FAR, everywhere};
use crate::server::{Client, Data, Process, Served, is_cached, resolve_live};
use crate::statistics::{median, percentile, ratio, show, timed};

/// Concurrent keep-alive connections.
const CONNECTIONS: usize = 64;
/// The throughput of the best-known caching agent, in plaintext and without audit.
const ANCHOR_A_SECOND: f64 = 39_900.0;
const ANCHOR_MEDIAN: Duration = Duration::from_micros(29);

pub(crate) async fn measure(report: &mut Report, quick: usize) -> Result<()> {
    let lab = Lab::start().await?;
    live(report, &lab, quick).await?;
    let data = Data::create(&lab).await?;
    let connection = data.connect("Bench 1Password").await?;
    let entry = data.bind("bench", connection).await?;
    let served = data.serve(&lab.emulator).await?;
    cached(report, &served, entry, quick).await?;
    outage(report, &lab, &served, entry, quick).await
}

/// Live resolves in this process, alternating between HTTP and a direct call.
async fn live(report: &mut Report, lab: &Lab, quick: usize) -> Result<()> {
    let data = Data::create(lab).await?;
    let connection = data.connect("Bench 1Password").await?;
    let entry = data.bind("bench", connection).await?;
    let server = Server::bind("127.0.0.1:0", data.broker.clone()).await?;
    let mut client = Client::connect(server.url().trim_start_matches("http://")).await?;
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async {
        let _ = ended.await;
    }));
    // A code is live every time.
    let over_http = resolve_live(&data.api_key, entry);
    let whats = [
        ("live resolve over HTTP, median", None, 2_000 / quick),
        ("the same with a server that takes 5 ms, median", Some(FAR), 200 / quick),
    ];
    for (what, delay, times) in whats {
        if let Some(delay) = delay {
            lab.emulator.fault(everywhere(Fault::Delay { milliseconds: delay.as_millis() as u64 }));
        }
        let (mut http, mut call) = (Vec::new(), Vec::new());
        for _ in 0..times {
            let (time, answer) = timed(client.expect(&over_http)).await;
            answer?;
            http.push(time);
            let request = ResolveRequest::new(entry).fields(Fields::ONE_TIME_CODE);
            let (time, resolution) = timed(data.broker.resolve(&data.access, request)).await;
            resolution?;
            call.push(time);
        }
        let (http, call) = (median(&mut http), median(&mut call));
        report.add(Row {
            what,
            ours: show(http),
            compared_with: format!("the call in process: {}", show(call)),
            ratio: format!("{:+.1} %", 100.0 * (ratio(http, call) - 1.0)),
            goal: Some(("within 10 %", ratio(http, call) <= 1.1)),
        });
    }
    lab.emulator.clear_faults();
    drop((client, end));
    serving.await?;
    data.broker.close().await;
    Ok(())
}

/// Compares cached resolves with a handler that always answers the same bytes, each in its own
/// process.
async fn cached(report: &mut Report, served: &Served, entry: EntryId, quick: usize) -> Result<()> {
    let resolve = served.resolve(entry);
    let mut client = Client::connect(&served.process.address).await?;
    // The first request fills the cache.
    client.expect(&resolve).await?;
    let answer = client.expect(&resolve).await?;
    ensure!(is_cached(answer), "the value was not in the cache");
    let constant = constant(std::str::from_utf8(answer)?)?;
    let mut other = Client::connect(&constant.address).await?;

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..20_000 / quick {
        let (time, answer) = timed(client.expect(&resolve)).await;
        answer?;
        ours.push(time);
        let (time, answer) = timed(other.expect(&resolve)).await;
        answer?;
        theirs.push(time);
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    report.add(Row {
        what: "cached resolve over HTTP, one connection, median",
        ours: show(ours),
        compared_with: format!("axum with a constant: {}", show(theirs)),
        ratio: format!("{:.2} times as long", ratio(ours, theirs)),
        goal: Some(("under 29 us", ours < ANCHOR_MEDIAN)),
    });

    let (mut ours, mut theirs) = (Load::default(), Load::default());
    for _ in 0..10 {
        ours.add(&served.process.address, &resolve, 1_000 / quick).await?;
        theirs.add(&constant.address, &resolve, 1_000 / quick).await?;
    }
    let share = ours.rate() / theirs.rate();
    let shown = |load: &mut Load| format!("{:.0} a second, {}", load.rate(), show(median(&mut load.times)));
    report.add(Row {
        what: "cached resolves over HTTP, 64 connections: throughput, median",
        ours: shown(&mut ours),
        compared_with: format!("axum with a constant: {}", shown(&mut theirs)),
        ratio: format!("{share:.2} of its throughput"),
        goal: Some(("at least half, and over 39,900 a second", share >= 0.5 && ours.rate() > ANCHOR_A_SECOND)),
    });
    Ok(())
}

/// What callers get, and how quickly, while the secret manager fails and the breaker is open.
async fn outage(report: &mut Report, lab: &Lab, served: &Served, entry: EntryId, quick: usize) -> Result<()> {
    let mut client = Client::connect(&served.process.address).await?;
    let (cached, live) = (served.resolve(entry), served.resolve_live(entry));
    lab.emulator.fault(everywhere(Fault::status(503)));
    for _ in 0..20 {
        client.send(&live).await?;
    }
    lab.emulator.reset_calls();
    let (mut refused, mut from_cache) = (Vec::new(), Vec::new());
    for _ in 0..5_000 / quick {
        let (time, answer) = timed(client.send(&live)).await;
        let status = answer?.0;
        // After each pause, one caller sends a probe and waits for the provider.
        if status == 503 {
            refused.push(time);
        }
        let (time, answer) = timed(client.expect(&cached)).await;
        answer?;
        from_cache.push(time);
    }
    ensure!(!refused.is_empty(), "no request was refused");
    let tried = lab.emulator.calls().of(Endpoint::Item);
    lab.emulator.clear_faults();
    let (middle, late, from_cache) = (median(&mut refused), percentile(&mut refused, 99.0), median(&mut from_cache));
    report.add(Row {
        what: "outage, breaker open: the answer 503, median and 99th percentile",
        ours: format!("{}, {}", show(middle), show(late)),
        compared_with: format!("a cached resolve meanwhile: {}", show(from_cache)),
        ratio: format!("{} of {} asked the provider", tried, refused.len()),
        goal: Some(("under 1 ms", late < Duration::from_millis(1))),
    });
    Ok(())
}

/// Many connections that each send one request at a time.
#[derive(Default)]
struct Load {
    times: Vec<Duration>,
    total: Duration,
}

impl Load {
    async fn add(&mut self, address: &str, request: &[u8], times: usize) -> Result<()> {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(Client::connect(address).await?);
        }
        let start = Instant::now();
        let tasks: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                let request = request.to_vec();
                tokio::spawn(async move {
                    let mut measured = Vec::with_capacity(times);
                    for _ in 0..times {
                        let (time, answer) = timed(client.expect(&request)).await;
                        answer?;
                        measured.push(time);
                    }
                    anyhow::Ok(measured)
                })
            })
            .collect();
        for task in tasks {
            self.times.extend(task.await??);
        }
        self.total += start.elapsed();
        Ok(())
    }

    fn rate(&self) -> f64 {
        self.times.len() as f64 / self.total.as_secs_f64()
    }
}

/// If set, this process serves the constant.
const CONSTANT: &str = "KEYWAY_BENCH_CONSTANT";

/// A server that answers every request at once with this constant.
fn constant(answer: &str) -> Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(CONSTANT, answer);
    Process::start(command)
}

/// Serves the constant until killed, if this process was started for that.
pub(crate) async fn serve_constant() -> Result<bool> {
    let Some(answer) = std::env::var_os(CONSTANT) else { return Ok(false) };
    let answer: &'static str = answer.into_string().ok().context("not text")?.leak();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!(r#"{{"listening":"http://{}"}}"#, listener.local_addr()?);
    let handler = move || async move { ([(CONTENT_TYPE, "application/json")], answer) };
    axum::serve(listener, Router::new().route("/vault/resolve", post(handler))).await?;
    Ok(true)
}
