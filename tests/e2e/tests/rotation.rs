//! A password rotated by Keyway, read with 1Password's own SDK.
//!
//! Needs Node.js, and `npm ci` in `tests/e2e/node`; without them the tests fail and say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

#[path = "../node/driver.rs"]
mod official_sdk;

use keyway::entries::VaultEntry;
use keyway::rotations::{BeginRotation, RotationState};
use keyway::{Access, Audit, Broker, EntryContent, MasterKey, NewConnection, Scopes, SqliteStorage};
use keyway_e2e::Lab;
use keyway_emulator_onepassword::{Endpoint, Fault, FaultRule};
use keyway_runtime::Settings;
use official_sdk::OfficialSdk;
use secrecy::ExposeSecret;

const VAULT: &str = "Automation";
const ITEM: &str = "Northwind Supplier Portal";

struct Site {
    lab: Lab,
    broker: Broker,
    access: Access,
    entry: VaultEntry,
    reference: String,
    sdk: OfficialSdk,
}

impl Site {
    async fn new() -> Self {
        let lab = Lab::start().await.unwrap();
        let storage = SqliteStorage::in_memory().await.unwrap();
        let builder = Broker::builder(lab.runtime.clone(), storage, MasterKey::generate().unwrap());
        let builder = builder.provider(lab.provider.clone()).background_work(false);
        let broker = builder.audit(Audit::in_memory()).open().await.unwrap();
        let created = broker.workspaces().create("Acme", Scopes::ALL).await.unwrap();
        let access = Access::operator(created.workspace.id, "tests");
        let token = lab.emulator.account("automation").unwrap().token;
        let connection = NewConnection::new("Acme", "1password", Settings::new().with("token", token.as_str()));
        let connection = broker.connections().create(&access, connection).await.unwrap();
        let reference = lab.reference(VAULT, ITEM).unwrap();
        let new = EntryContent::bound("acme-prod", "https://acme.com", connection.id, reference.as_str());
        let entry = broker.entries().create(&access, new).await.unwrap();
        let sdk = OfficialSdk::signed_in(lab.emulator.url(), &token);
        Self { lab, broker, access, entry, reference, sdk }
    }

    async fn begin(&self) -> (keyway::RotationId, String) {
        let begun = self.broker.rotations().begin(&self.access, BeginRotation::new(self.entry.id)).await.unwrap();
        (begun.rotation.id, begun.password.unwrap().expose_secret().to_owned())
    }

    fn official(&mut self) -> String {
        self.sdk.resolve(&format!("{}/password", self.reference)).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_reads_the_new_password_after_commit_and_not_before() {
    let mut site = Site::new().await;
    let old = site.official();
    let (id, password) = site.begin().await;
    assert_eq!(site.official(), old);
    assert_eq!(site.broker.rotations().commit(&site.access, id).await.unwrap().state, RotationState::Done);
    assert_eq!(site.official(), password);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_puts_with_the_official_sdk_meanwhile_is_not_overwritten_unasked() {
    let mut site = Site::new().await;
    let (id, password) = site.begin().await;
    let reference = site.reference.clone();
    let (vault, item) = reference.strip_prefix("op://").unwrap().split_once('/').unwrap();
    site.sdk.put_password(vault, item, "theirs").unwrap();
    assert_eq!(site.broker.rotations().commit(&site.access, id).await.unwrap().state, RotationState::Conflicted);
    assert_eq!(site.official(), "theirs");
    let done = site.broker.rotations().retry(&site.access, id, true).await.unwrap();
    assert_eq!(done.state, RotationState::Done);
    assert_eq!(site.official(), password);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_back_that_an_outage_held_up_is_there_for_the_official_sdk_after_it() {
    let mut site = Site::new().await;
    let (id, password) = site.begin().await;
    site.lab.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::status(503)).always());
    assert_eq!(site.broker.rotations().commit(&site.access, id).await.unwrap().state, RotationState::Committing);
    site.lab.emulator.clear_faults();
    assert_eq!(site.broker.rotations().retry(&site.access, id, false).await.unwrap().state, RotationState::Done);
    assert_eq!(site.official(), password);
}
