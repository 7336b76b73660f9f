//! Bad input of callers and of providers: each is one clear error that names the part. Nothing is
//! stored, and nothing is lost.

use keyway::connections::{Connection, ConnectionChanges};
use keyway::entries::{Binding, CredentialSource, VaultEntry};
use keyway::keyway_runtime::{Fields, SandboxError, Settings};
use keyway::{Access, Broker, BrokerError, EntryContent, ResolveRequest, Source};

use crate::paths::{World, new_connection, settings};
use crate::support::{new_fixture_connection, text};

/// A broker with two providers, a connection to each, and an entry whose password is cached.
struct Stored {
    broker: Broker,
    access: Access,
    paths: Connection,
    bad_references: Connection,
    entry: VaultEntry,
    /// The connections and entries, as they are shown.
    shown: String,
    _world: World,
}

impl Stored {
    /// With these further entries.
    async fn new(references: &[&str]) -> (Self, Vec<VaultEntry>) {
        let (world, paths) = World::new().await;
        let bad_references = world.load("bad-references").await;
        let broker = world.beside_with(|builder| builder.provider(world.provider()).provider(bad_references)).await;
        let access = world.access.clone();
        // The cheapest tier allows fewer reads than this makes.
        let paid = ConnectionChanges::default().rate_limit_tier(Some("paid".into()));
        let paths = broker.connections().update(&access, paths.id, paid).await.unwrap();
        let new = new_fixture_connection("bad-references");
        let bad_references = broker.connections().create(&access, new).await.unwrap();
        let entry = world.bind(&paths, "cached", "paths://kv/cached").await.unwrap();
        let mut entries = Vec::new();
        for reference in references {
            entries.push(world.bind(&paths, reference, reference).await.unwrap());
        }
        let mut stored = Self { broker, access, paths, bad_references, entry, shown: String::new(), _world: world };
        stored.shown = stored.show().await;
        assert_eq!(stored.password(&stored.entry).await, ("v2".into(), Source::Live));
        (stored, entries)
    }

    async fn show(&self) -> String {
        let connections = self.broker.connections().list(&self.access).await.unwrap();
        let entries = self.broker.entries().list(&self.access, None).await.unwrap().entries;
        format!("{connections:#?}\n{entries:#?}")
    }

    async fn password(&self, entry: &VaultEntry) -> (String, Source) {
        let request = ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS);
        let resolved = self.broker.resolve(&self.access, request).await.unwrap();
        (text(resolved.password.as_ref()).unwrap().to_owned(), resolved.source)
    }

    /// The error names the part, and everything is as it was.
    async fn unchanged<T>(&self, part: &str, result: Result<T, BrokerError>) -> BrokerError {
        let Err(error) = result else { panic!("{part}: it was accepted") };
        let message = error.to_string();
        assert!(message.contains(part) && !error.is_internal(), "{part}: {message}");
        assert_eq!(self.show().await, self.shown, "{part}");
        let (password, source) = self.password(&self.entry).await;
        assert!(password == "v2" && matches!(source, Source::Cached { .. }), "{part}: {password}, {source:?}");
        error
    }
}

#[tokio::test]
async fn a_wrong_setting_is_named_and_neither_makes_a_connection_nor_changes_one() {
    let (stored, _) = Stored::new(&[]).await;
    for (wrong, part) in [
        (settings().with("engine", "v3"), "Engine must be one of v1, v2"),
        (settings().with("region", "evil.example/"), "Region does not have the required form"),
        (settings().with("region", "eu-1.evil.example"), "Region does not have the required form"),
        (settings().with("key_file", "{}"), "`token_uri`"),
        (settings().with("key_file", r#"{"token_uri":"no address"}"#), "`key_file`"),
        (settings().with("key_file", r#"{"token_uri":"#), "Key file must be a JSON document"),
        (settings().with("verbose", "perhaps"), "Verbose must be true or false"),
        (settings().with("tokn", "x"), "`tokn`"),
        (Settings::new().with("region", "eu-1"), "How to log in"),
    ] {
        let mut new = new_connection(None);
        new.settings = wrong.clone();
        stored.unchanged(part, stored.broker.connections().create(&stored.access, new).await).await;
        let changes = ConnectionChanges::default().settings(wrong);
        let changed = stored.broker.connections().update(&stored.access, stored.paths.id, changes).await;
        stored.unchanged(part, changed).await;
    }
}

#[tokio::test]
async fn a_reference_without_a_sound_normal_form_is_refused_and_changes_no_entry() {
    let (stored, _) = Stored::new(&[]).await;
    let (paths, bad) = (stored.paths.id, stored.bad_references.id);
    for (connection, reference, part) in [
        (paths, "paths://", "reference: The path is empty"),
        (paths, "paths://kv/%zz", "reference: A percent sign"),
        (paths, "other://kv/a", "reference: "),
        (bad, "bad-references://grows", "not its own normal form (`normalize-reference`)"),
        (bad, "bad-references://scheme", "normalize-reference"),
        (bad, "bad-references://empty", "normalize-reference"),
        (bad, "bad-references://loops", "normalize-reference"),
        (bad, "bad-references://other", "It is not the time for references"),
    ] {
        let bound = || CredentialSource::Bound(Binding::new(connection, reference));
        // What never ends is asked once: each time costs its whole time limit.
        if !reference.ends_with("loops") {
            let new = EntryContent::bound("new", "https://acme.example", connection, reference);
            stored.unchanged(part, stored.broker.entries().create(&stored.access, new).await).await;
        }
        let change = |entry: &mut EntryContent| {
            entry.credentials = bound();
            Ok(())
        };
        let changed = stored.broker.entries().update(&stored.access, &stored.entry.id.into(), change).await;
        stored.unchanged(part, changed).await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_the_contract_is_not_kept_and_a_good_value_stays() {
    let references = [
        "paths://short/0",
        "paths://short/6324480000",
        "paths://kv/many-fields",
        "paths://kv/twice",
        "paths://unsound/a",
    ];
    let (stored, entries) = Stored::new(&references).await;
    let [past, far, many, twice, unsound] = &entries[..] else { panic!("{entries:?}") };
    let resolve = async |entry: &VaultEntry| {
        let request = ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS);
        stored.broker.resolve(&stored.access, request).await
    };
    let broken = |error: BrokerError| {
        assert!(matches!(error, BrokerError::Sandbox(SandboxError::InvalidAnswer(_))), "{error}");
    };
    for (entry, part) in [(past, "`valid-until` is in the past"), (far, "`valid-until` is more than a century away")] {
        // It is no better the next time: nothing was cached.
        for _ in 0..2 {
            broken(stored.unchanged(part, resolve(entry).await).await);
        }
    }
    for (entry, part) in [(many, "more than 1000 further fields"), (twice, "the same name, `note`")] {
        let listed = stored.broker.entries().list_fields(&stored.access, &entry.id.into()).await;
        broken(stored.unchanged(part, listed).await);
    }

    assert_eq!(stored.password(unsound).await, ("sound".into(), Source::Live));
    // Further fields are always asked for.
    let live = ResolveRequest::new(unsound.id).fields(Fields::CREDENTIALS).further(["note"]);
    let resolved = stored.broker.resolve(&stored.access, live).await;
    broken(stored.unchanged("`valid-until` is more than a century away", resolved).await);
    let (password, source) = stored.password(unsound).await;
    assert!(password == "sound" && matches!(source, Source::Cached { .. }), "{password}, {source:?}");
}
