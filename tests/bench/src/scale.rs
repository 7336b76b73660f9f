//! A large workspace and a small one: no request for one entry may depend on the number of entries.
//!
//! Both servers have been running for a while: each entry was resolved before and has its own item,
//! so all their values are cached.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keyway::entries::AttributeKind;
use keyway::{ConnectionId, EntryContent, EntryId};
use keyway_e2e::Lab;
use tokio::task::JoinSet;

use crate::report::{Report, Row};
use crate::server::{Client, Data, Served, is_cached};
use crate::statistics::{median, ratio, show, timed};

const MANY: (usize, usize) = (100_000, 1_000);
const FEW: (usize, usize) = (100, 1);

/// One entry in this many has the cookies of a site, with the number and size of typical session
/// cookies.
const WITH_COOKIES: usize = 10;
const COOKIES: usize = 12;
const COOKIE_BYTES: usize = 300;

/// How many of them are written concurrently.
const WRITERS: usize = 16;

struct Subject {
    served: Served,
    client: Client,
    entries: Vec<(String, EntryId)>,
}

pub(crate) async fn measure(report: &mut Report, quick: usize) -> Result<()> {
    let lab = Lab::start().await?;
    let many = (MANY.0 / quick, MANY.1 / quick);
    let mut large = Subject::start(&lab, many).await?;
    let mut small = Subject::start(&lab, FEW).await?;
    // Filling took longer than the server keeps an idle connection.
    large.client = Client::connect(&large.served.process.address).await?;

    small.resolve_all().await?;
    large.resolve_all().await?;
    small.client = Client::connect(&small.served.process.address).await?;
    // Each in turn requests entries all over its workspace: an odd step visits them in a scattered
    // order.
    let (mut resolves, mut gets) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for round in 0..10_000 / quick {
        let position = round.wrapping_mul(7_919);
        resolves.0.push(large.resolve(position).await?);
        gets.0.push(large.get(position).await?);
        resolves.1.push(small.resolve(position).await?);
        gets.1.push(small.get(position).await?);
    }
    let goal = "under 1.2";
    let (of_many, of_few) = (format!("{} entries, {} connections", many.0, many.1), "100 entries, one connection");
    let (resolve, small_resolve) = (median(&mut resolves.0), median(&mut resolves.1));
    let (get, small_get) = (median(&mut gets.0), median(&mut gets.1));
    for (what, many, few) in [
        ("cached resolve over HTTP in a large workspace, median", resolve, small_resolve),
        ("GET of one entry in a large workspace, median", get, small_get),
    ] {
        report.add(Row {
            what,
            ours: format!("{} ({of_many})", show(many)),
            compared_with: format!("{} ({of_few})", show(few)),
            ratio: format!("{:.2}", ratio(many, few)),
            goal: Some((goal, ratio(many, few) < 1.2)),
        });
    }

    let before = large.served.process.memory()?;
    let list = large.served.list();
    let (time, length) = {
        let (time, body) = timed(large.client.expect(&list)).await;
        (time, body?.len())
    };
    let (now, most) = large.served.process.memory()?;
    let list = small.served.list();
    let (few, body) = timed(small.client.expect(&list)).await;
    body?;
    report.add(Row {
        what: "list of all entries of the large workspace",
        ours: format!("{}, {:.1} MB", show(time), length as f64 / 1e6),
        compared_with: format!("of the small one: {}", show(few)),
        ratio: format!("{:.2} times as long for each entry", ratio(time, few) * FEW.0 as f64 / many.0 as f64),
        goal: None,
    });
    report.add(Row {
        what: "memory of the server with the large workspace, at most, after the list",
        ours: format!("{most} MiB ({now} MiB now)"),
        compared_with: format!(
            "before the list: {} MiB; the small one: {} MiB",
            before.1,
            small.served.process.memory()?.1
        ),
        ratio: format!("{:+} MiB for the list", most - before.1),
        goal: Some(("under 150 MB", most << 20 < 150_000_000)),
    });
    Ok(())
}

impl Subject {
    async fn start(lab: &Lab, (entries, connections): (usize, usize)) -> Result<Self> {
        let data = Data::with_any_item(lab).await?;
        let mut ids = Vec::new();
        for number in 0..connections {
            ids.push(data.connect(&format!("Echo {number}")).await?);
        }
        let entries = fill(&data, &ids, entries).await?;
        let served = data.serve(&lab.emulator).await?;
        let client = Client::connect(&served.process.address).await?;
        Ok(Self { served, client, entries })
    }

    /// The user and id of an entry.
    fn at(&self, position: usize) -> Result<&(String, EntryId)> {
        self.entries.get(position % self.entries.len()).context("no entries")
    }

    /// Resolves a cached entry.
    async fn resolve(&mut self, position: usize) -> Result<Duration> {
        let resolve = self.served.resolve(self.at(position)?.1);
        let (time, answer) = timed(self.client.expect(&resolve)).await;
        ensure!(is_cached(answer?), "the value was not in the cache");
        Ok(time)
    }

    async fn get(&mut self, position: usize) -> Result<Duration> {
        let get = self.served.get(&self.at(position)?.0);
        let (time, answer) = timed(self.client.expect(&get)).await;
        answer?;
        Ok(time)
    }

    /// Fills the cache.
    async fn resolve_all(&mut self) -> Result<()> {
        for (_, entry) in &self.entries {
            self.client.expect(&self.served.resolve(*entry)).await?;
        }
        Ok(())
    }
}

/// Adds bound entries, cycling through the connections. Every tenth has cookies.
async fn fill(data: &Data, connections: &[ConnectionId], entries: usize) -> Result<Vec<(String, EntryId)>> {
    let cookie = |number| {
        serde_json::json!({
            "name": format!("cookie-{number}"), "value": "v".repeat(COOKIE_BYTES), "domain": ".example.com", "path": "/",
            "httpOnly": true, "secure": true, "session": false, "sameSite": "lax",
        })
    };
    let cookies = serde_json::to_string(&(0..COOKIES).map(cookie).collect::<Vec<_>>())?;
    let (mut running, mut filled) = (JoinSet::new(), Vec::new());
    for number in 0..entries {
        if running.len() >= WRITERS {
            filled.push(running.join_next().await.context("no writer is running")???);
        }
        let (user, connection) = (format!("user-{number}"), connections.get(number % connections.len()));
        // As long as one of 1Password's references.
        let reference = format!("echo://item/{number:052}");
        let connection = *connection.context("no connections")?;
        let mut entry = EntryContent::bound(&user, "https://example.com", connection, reference);
        if number.is_multiple_of(WITH_COOKIES) {
            entry.attributes.set("cookies", AttributeKind::BrowserState, &cookies)?;
        }
        let (broker, access) = (data.broker.clone(), data.access.clone());
        running.spawn(async move { anyhow::Ok((user, broker.entries().create(&access, entry).await?.id)) });
    }
    while let Some(written) = running.join_next().await {
        filled.push(written??);
    }
    Ok(filled)
}
