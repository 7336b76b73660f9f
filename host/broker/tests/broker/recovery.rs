//! After a fault: whatever the secret manager or the network to it did for five minutes, the next
//! live call that somebody makes succeeds within 10 s of its end, and a rotation that was committed
//! meanwhile completes by itself.

use std::time::{Duration, Instant};

use keyway::budgets::BudgetOptions;
use keyway::entries::VaultEntry;
use keyway::keyway_runtime::{Fields, Limits};
use keyway::rotations::RotationState;
use keyway::{BrokerError, CacheTtl, Resolution, ResolveRequest};
use keyway_emulator_onepassword::{Emulator, Endpoint, Fault, FaultRule, RetryAfterForm};
use secrecy::ExposeSecret;

use crate::recovery_line::{Line, Mode};
use crate::support::World;

const ITEM: &str = "Northwind Supplier Portal";
const ROTATED: &str = "Wide World Importers";

/// The goal.
const WITHIN: Duration = Duration::from_secs(10);

/// A fault, from its begin to its end.
enum Kind {
    /// Calls of one endpoint, or all calls, are answered like this.
    Answer(Option<Endpoint>, Fault),
    /// The same, and all sessions end all the time.
    AnswerWithoutSession(Option<Endpoint>, Fault),
    /// The token is refused with this status.
    Revoked(u16),
    /// Sessions end all the time.
    SessionsEnd,
    /// The network.
    Line(Mode),
}

struct Site {
    world: World,
    line: Line,
    live: VaultEntry,
    rotated: VaultEntry,
}

impl Site {
    async fn new(limits: Limits) -> Self {
        let emulator = Emulator::start().unwrap();
        let line = Line::to(emulator.address()).await;
        let world = World::reached_at(&line.url, emulator, BudgetOptions::default(), limits).await;
        let mut new = world.new_connection("automation");
        new.cache_ttl = CacheTtl::OFF;
        let connection = world.broker.connections().create(&world.access, new).await.unwrap();
        let (live, rotated) = (world.bind(&connection, ITEM).await, world.bind(&connection, ROTATED).await);
        Self { world, line, live, rotated }
    }

    async fn resolve(&self) -> Result<Resolution, BrokerError> {
        let request = ResolveRequest::new(self.live.id).fields(Fields::CREDENTIALS);
        self.world.broker.resolve(&self.world.access, request).await
    }

    async fn begin(&mut self, kind: &Kind) {
        match kind {
            Kind::Answer(endpoint, fault) | Kind::AnswerWithoutSession(endpoint, fault) => {
                let rule = FaultRule { endpoint: *endpoint, ..FaultRule::next(fault.clone()) };
                self.world.emulator.fault(rule.always());
            }
            Kind::Revoked(status) => {
                self.world.emulator.revoke_token("automation", *status).unwrap();
            }
            Kind::SessionsEnd => {}
            Kind::Line(mode) => self.line.set(*mode).await,
        }
        self.goes_on(kind);
    }

    fn goes_on(&self, kind: &Kind) {
        if matches!(kind, Kind::AnswerWithoutSession(..) | Kind::Revoked(_) | Kind::SessionsEnd) {
            self.world.emulator.expire_sessions();
        }
    }

    async fn end(&mut self, kind: &Kind) {
        self.world.emulator.clear_faults();
        self.world.emulator.restore_token("automation").unwrap();
        if let Kind::Line(_) = kind {
            self.line.set(Mode::Whole).await;
        }
    }

    /// How long it takes, on the test's clock and on the real one together, until a caller gets
    /// through who comes back when told to.
    async fn recovers_after(&self) -> Duration {
        let (began, mut waited) = (Instant::now(), Duration::ZERO);
        while let Err(error) = self.resolve().await {
            let wait = error.retry_after().unwrap_or(Duration::from_secs(1));
            waited += wait;
            assert!(waited < Duration::from_secs(3_600), "{error}");
            self.world.clock.advance(wait);
        }
        waited + began.elapsed()
    }
}

/// A refusal's page, which is not the secret manager's own.
fn page(status: u16) -> Fault {
    answer(status, "<html><h1>Forbidden</h1></html>".into())
}

fn answer(status: u16, body: serde_json::Value) -> Fault {
    Fault::Status { status, retry_after_seconds: None, retry_after_in: RetryAfterForm::Header, body: Some(body) }
}

/// Faults with their names.
type Kinds = Vec<(String, Kind)>;

fn statuses() -> Kinds {
    let mut kinds = Kinds::new();
    for status in [400, 401, 403, 404, 408, 409, 418, 429, 500, 502, 503, 504] {
        kinds.push((format!("{status} to everything"), Kind::Answer(None, Fault::status(status))));
        let item = Kind::Answer(Some(Endpoint::Item), Fault::status(status));
        kinds.push((format!("{status} to reading an item"), item));
    }
    kinds
}

fn refusals() -> Kinds {
    let mut kinds = Kinds::new();
    for status in [401, 403, 404] {
        kinds.push((format!("a page with {status}"), Kind::Answer(None, page(status))));
        let sign_in = Kind::AnswerWithoutSession(Some(Endpoint::AuthStart), page(status));
        kinds.push((format!("a page with {status} at the sign-in"), sign_in));
        let foreign = answer(status, serde_json::json!({"message": "blocked", "ray": 7}));
        kinds.push((format!("a firewall's JSON with {status}"), Kind::AnswerWithoutSession(None, foreign)));
    }
    for endpoint in [Endpoint::AuthStart, Endpoint::Auth, Endpoint::ConfirmKey, Endpoint::Complete] {
        let kind = Kind::AnswerWithoutSession(Some(endpoint), Fault::status(401));
        kinds.push((format!("401 at {endpoint:?}"), kind));
    }
    for status in [400, 401] {
        kinds.push((format!("a token revoked with {status} and restored"), Kind::Revoked(status)));
    }
    kinds.push(("sessions that end all the time".to_owned(), Kind::SessionsEnd));
    kinds
}

fn broken() -> Kinds {
    let answers = [
        ("garbage", Fault::Garbage),
        ("half an answer", Fault::Truncated),
        ("another type", Fault::ContentType { value: "text/html".into() }),
        ("a redirect", Fault::Redirect { location: "https://elsewhere.example/".into() }),
        ("a tampered envelope", Fault::TamperedEnvelope),
        ("an envelope of another session", Fault::WrongEnvelopeKey),
        ("closed after it was handled", Fault::Drop { handled: true }),
        ("closed before it was handled", Fault::Drop { handled: false }),
        ("an endless body", Fault::Oversized { bytes: 32 << 20 }),
        ("a hang", Fault::Hang { milliseconds: 60_000 }),
        ("a slow server", Fault::Delay { milliseconds: 1_500 }),
    ];
    let answers = answers.into_iter().map(|(name, fault)| (name.to_owned(), Kind::Answer(None, fault)));
    let lines = [Mode::Refused, Mode::Closed, Mode::Reset, Mode::Silent];
    let lines = lines.into_iter().map(|mode| (format!("connections that are {mode:?}"), Kind::Line(mode)));
    answers.chain(lines).collect()
}

/// Short times, so that what hangs does not hang for long.
fn impatient() -> Limits {
    let mut limits = Limits::default();
    limits.call_time = Duration::from_secs(3);
    limits.answer_time = Duration::from_secs(1);
    limits.connect_time = Duration::from_secs(1);
    limits
}

/// After five minutes of each, the next live call succeeds in time, and a rotation by itself.
async fn are_over_in_time(kinds: Kinds) {
    let mut table = Vec::new();
    for (name, kind) in kinds {
        let mut site = Site::new(impatient()).await;
        let (rotation, password) = site.world.begin(&site.rotated).await;
        site.resolve().await.unwrap();

        site.begin(&kind).await;
        for round in 0..10 {
            let _ = site.resolve().await;
            if round == 5 {
                let committed = site.world.commit(rotation.id).await;
                let state = committed.state;
                assert!(matches!(state, RotationState::Committing | RotationState::Done), "{name}: {committed:?}");
            }
            site.world.clock.advance(Duration::from_secs(30));
            site.goes_on(&kind);
        }
        // The clock does not stop between the last refusal and the end.
        let _ = site.resolve().await;
        site.end(&kind).await;
        let took = site.recovers_after().await;
        table.push(format!("{:>6} ms  {name}", took.as_millis()));
        assert!(took <= WITHIN, "{name}: {took:?}");

        for _ in 0..4 {
            site.world.clock.advance(Duration::from_secs(15 * 60));
            site.world.broker.rotations().write_back_due().await.unwrap();
        }
        let done = site.world.rotation(rotation.id).await;
        assert_eq!(done.state, RotationState::Done, "{name}: {done:?}");
        assert_eq!(site.world.item_password(ROTATED), password.expose_secret(), "{name}");
    }
    println!("{}", table.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_status_is_over_within_ten_seconds() {
    are_over_in_time(statuses()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_over_within_ten_seconds() {
    are_over_in_time(refusals()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_broken_answer_and_connection_is_over_within_ten_seconds() {
    are_over_in_time(broken()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_the_server_asks_for_is_the_only_one_that_is_longer() {
    let site = Site::new(impatient()).await;
    let asked = Fault::rate_limited(90, RetryAfterForm::Header);
    site.world.emulator.fault(FaultRule::next(asked));
    site.resolve().await.unwrap_err();
    let took = site.recovers_after().await;
    assert!(took >= Duration::from_secs(90) && took < Duration::from_secs(92), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refusal_of_a_sign_in_is_not_seen_by_the_caller() {
    for (endpoint, fault) in [
        (Endpoint::AuthStart, Fault::status(401)),
        (Endpoint::Auth, Fault::status(401)),
        (Endpoint::Complete, Fault::status(401)),
        (Endpoint::AuthStart, page(404)),
    ] {
        let site = Site::new(Limits::default()).await;
        site.world.emulator.expire_sessions();
        site.world.emulator.fault(FaultRule::next_of(endpoint, fault.clone()));
        let clock = site.world.clock.clone();
        // The pause is of the broker's clock, and the wait for its end is real: the former is
        // faster.
        let time = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                clock.advance(Duration::from_millis(40));
            }
        });
        let resolved = site.resolve().await;
        time.abort();
        assert!(resolved.is_ok(), "{endpoint:?}: {resolved:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn eleven_pooled_connections_that_went_silent_cost_the_next_call_five_seconds_and_no_call_fails() {
    let mut site = Site::new(Limits::default()).await;
    site.world.emulator.fault(FaultRule::next_of(Endpoint::Item, Fault::Delay { milliseconds: 500 }).times(11));
    let calls: Vec<_> = (0..11)
        .map(|_| {
            let (broker, access, id) = (site.world.broker.clone(), site.world.access.clone(), site.live.id);
            tokio::spawn(async move { broker.resolve(&access, ResolveRequest::new(id)).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    site.line.set(Mode::Silent).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    site.line.set(Mode::Whole).await;
    let began = Instant::now();
    for _ in 0..3 {
        site.resolve().await.unwrap();
    }
    assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());
}
