//! The cost of the audit log: cached resolves by many concurrent callers, with segment files and
//! with a log that discards its records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use async_trait::async_trait;
use keyway::audit::{AuditError, AuditEvent, AuditSink, Durability, Receipt, SegmentOptions};
use keyway::{Audit, EntryId, ResolveRequest};
use keyway_e2e::Lab;
use keyway_runtime::Fields;

use crate::report::{Report, Row};
use crate::server::Data;

/// As many as the goal for the HTTP API has connections.
const CALLERS: usize = 64;

/// Discards all records, which leaves the cost of the resolve itself.
struct Nothing;

#[async_trait]
impl AuditSink for Nothing {
    async fn append(&self, _: &AuditEvent, _: Durability) -> Result<Receipt, AuditError> {
        Ok(Receipt { number: 1 })
    }
}

struct Subject {
    data: Data,
    entry: EntryId,
    released: usize,
    time: Duration,
}

impl Subject {
    async fn open(lab: &Lab, audit: Audit) -> Result<Self> {
        let data = Data::create_with(lab, |_| audit).await?;
        let connection = data.connect("Bench 1Password").await?;
        let entry = data.bind("bench", connection).await?;
        Ok(Self { data, entry, released: 0, time: Duration::ZERO })
    }

    /// Each caller resolves this many times.
    async fn run(&mut self, times: usize) -> Result<()> {
        let started = Instant::now();
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (broker, access, entry) = (self.data.broker.clone(), self.data.access.clone(), self.entry);
                tokio::spawn(async move {
                    for _ in 0..times {
                        broker.resolve(&access, ResolveRequest::new(entry).fields(Fields::CREDENTIALS)).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for caller in callers {
            caller.await??;
        }
        self.time += started.elapsed();
        self.released += CALLERS * times;
        Ok(())
    }

    fn rate(&self) -> f64 {
        self.released as f64 / self.time.as_secs_f64()
    }
}

pub(crate) async fn measure(report: &mut Report, quick: usize) -> Result<()> {
    let lab = Lab::start().await?;
    let folder = tempfile::tempdir()?;
    let interval = SegmentOptions::new(folder.path().join("interval"));
    let every = SegmentOptions::new(folder.path().join("every")).sync_every_record(true);
    let audits = [Audit::from(Arc::new(Nothing)), interval.into(), every.into()];
    let mut subjects = Vec::new();
    for audit in audits {
        let mut subject = Subject::open(&lab, audit).await?;
        // The first run fills the cache.
        subject.run(1).await?;
        (subject.released, subject.time) = (0, Duration::ZERO);
        subjects.push(subject);
    }
    // Alternating, so that other load on the machine affects all of them.
    for _ in 0..10 {
        for subject in &mut subjects {
            subject.run(1_000 / quick).await?;
        }
    }
    let [nothing, interval, every] = subjects.as_slice() else { anyhow::bail!("there are three") };
    let whats = [
        ("64 callers, cached resolves in process, audit log in files", interval, Some("over 40,000 a second")),
        ("the same, each record synced to the disk before its release", every, None),
    ];
    for (what, subject, goal) in whats {
        report.add(Row {
            what,
            ours: format!("{:.0} a second", subject.rate()),
            compared_with: format!("without a log: {:.0} a second", nothing.rate()),
            ratio: format!("{:.2} of it", subject.rate() / nothing.rate()),
            goal: goal.map(|goal| (goal, subject.rate() > 40_000.0)),
        });
        subject.data.broker.close().await;
    }
    Ok(())
}
