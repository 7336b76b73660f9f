//! The cache: its speed, and the calls that it saves.

use anyhow::Result;
use keyway::{ResolveRequest, Source};
use keyway_e2e::Lab;
use keyway_emulator_onepassword::Endpoint;
use keyway_runtime::Fields;

use crate::report::{Report, Row};
use crate::server::Data;
use crate::statistics::{median, ratio, show, timed};

/// As many as the best-known caching agent was tested with; it made 36 calls.
const READERS: usize = 50;

pub(crate) async fn measure(report: &mut Report, quick: usize) -> Result<()> {
    let lab = Lab::start().await?;
    let data = Data::create(&lab).await?;
    let connection = data.connect("Bench 1Password").await?;
    let entry = data.bind("bench", connection).await?;
    let (broker, access) = (data.broker.clone(), data.access.clone());
    let request = || ResolveRequest::new(entry).fields(Fields::CREDENTIALS);

    // All of them find the cache empty, and the server must get a single request. The session is
    // cold too.
    lab.emulator.expire_sessions();
    lab.emulator.reset_calls();
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let (broker, access, request) = (broker.clone(), access.clone(), request());
            tokio::spawn(async move { broker.resolve(&access, request).await })
        })
        .collect();
    for reader in readers {
        reader.await??;
    }
    let calls = lab.emulator.calls();
    // An item refused with the old session is requested again with the new one.
    let (reads, logins) = (calls.of(Endpoint::Item), calls.logins);
    report.add(Row {
        what: "50 concurrent cold readers of one item, session expired",
        ours: format!("{logins} login, {reads} reads of the item (the first refused)"),
        compared_with: format!("readers: {READERS}"),
        ratio: format!("{:.0} readers a login", READERS as f64 / logins.max(1) as f64),
        goal: Some(("one provider call, one login", logins == 1 && reads <= 2)),
    });

    let mut cached = Vec::new();
    for _ in 0..50_000 / quick {
        let (time, resolution) = timed(broker.resolve(&access, request())).await;
        anyhow::ensure!(!matches!(resolution?.source, Source::Live), "the value was not in the cache");
        cached.push(time);
    }
    let mut live = Vec::new();
    for _ in 0..500 / quick {
        // A code is live every time.
        let request = ResolveRequest::new(entry).fields(Fields::ONE_TIME_CODE);
        let (time, resolution) = timed(broker.resolve(&access, request)).await;
        resolution?;
        live.push(time);
    }
    let (cached, live) = (median(&mut cached), median(&mut live));
    report.add(Row {
        what: "cached resolve in process, median",
        ours: show(cached),
        compared_with: format!("a live one: {}", show(live)),
        ratio: format!("{:.0} times faster", ratio(live, cached)),
        goal: Some(("under 20 us", cached.as_micros() < 20)),
    });
    Ok(())
}
