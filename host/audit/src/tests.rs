//! The segment log as a whole: what it keeps, what it detects, and how it recovers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use keyway_clock::ManualClock;
use keyway_storage::{AuditRootStorage, EntryId, SqliteStorage, WorkspaceId};
use tempfile::TempDir;

use super::*;
use crate::event::Subject;
use crate::root::Root;

pub(super) struct Lab {
    /// Whether the host's key says that there is a root.
    pub(super) noted: AtomicBool,
    pub(super) folder: TempDir,
    pub(super) storage: Arc<SqliteStorage>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) options: SegmentOptions,
}

#[async_trait::async_trait]
impl RootNote for Lab {
    fn is_noted(&self) -> bool {
        self.noted.load(Ordering::Relaxed)
    }

    async fn note(&self) -> Result<bool, AuditCause> {
        Ok(!self.noted.swap(true, Ordering::Relaxed))
    }
}

impl Lab {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SegmentOptions::new(folder.path().join("audit"));
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        Self {
            noted: AtomicBool::new(false),
            folder,
            storage: Arc::new(SqliteStorage::in_memory().await.unwrap()),
            clock: Arc::new(ManualClock::new(start)),
            options,
        }
    }

    pub(super) async fn open(&self) -> SegmentLog {
        let key = AuditKey::new(&[9; 32]);
        SegmentLog::open(self.options.clone(), key, self.storage.clone(), self.clock.clone(), self).await.unwrap()
    }

    pub(super) fn audit(&self) -> &Path {
        &self.options.folder
    }

    /// A closed log with this many records.
    pub(super) async fn with_records(count: usize) -> Self {
        let lab = Self::new().await;
        lab.append_and_close(count).await;
        lab
    }

    pub(super) async fn append_and_close(&self, count: usize) {
        let log = self.open().await;
        for _ in 0..count {
            self.append(&log).await.unwrap();
        }
        self.close([log]).await;
    }

    /// Closes the open logs, and waits until their files are unlocked.
    pub(super) async fn close(&self, logs: impl IntoIterator<Item = SegmentLog>) {
        for log in logs {
            log.close().await;
        }
        let files = self.files();
        for file in files {
            let path = file.clone();
            tokio::task::spawn_blocking(move || std::fs::File::open(path).unwrap().lock().unwrap()).await.unwrap();
        }
    }

    pub(super) async fn append(&self, log: &SegmentLog) -> Result<Receipt, AuditError> {
        log.append(&self.event(), Durability::Written).await
    }

    pub(super) fn event(&self) -> AuditEvent {
        self.clock.advance(Duration::from_secs(1));
        AuditEvent {
            at: keyway_clock::Clock::now(&*self.clock).timestamp(),
            workspace: Some(WorkspaceId::generate()),
            actor: AuditActor::Operator { name: "tests".into() },
            operation: Operation::Resolve,
            outcome: Outcome::OK,
            begun: None,
            subject: Subject { entry: Some(EntryId::generate()), ..Subject::default() },
            unrecorded: None,
            request_id: None,
        }
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = std::fs::read_dir(self.audit()).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    }

    pub(super) fn file(&self, series: u32, segment: u32) -> PathBuf {
        self.audit().join(format!("{series:05}-{segment:08}.jsonl"))
    }

    /// The lines of a segment. The header comes first, so record n of the first segment is at index
    /// n.
    pub(super) fn lines(&self, file: &Path) -> Vec<String> {
        std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
    }

    pub(super) fn write(&self, file: &Path, lines: &[String]) {
        std::fs::write(file, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }

    /// The root in the database.
    pub(super) async fn root(&self) -> Root {
        let rows = self.storage.audit_roots().await.unwrap();
        Root::open(&AuditKey::new(&[9; 32]), &rows[0]).unwrap()
    }

    pub(super) async fn verify(&self) -> AuditVerification {
        self.open().await.verify(None).await.unwrap()
    }

    /// The findings, each with its line.
    pub(super) async fn problems(&self) -> Vec<(Option<u64>, AuditProblem)> {
        self.verify().await.findings.into_iter().map(|finding| (finding.line, finding.problem)).collect()
    }

    pub(super) async fn records(&self, query: &AuditQuery) -> AuditPage {
        self.open().await.read(query).await.unwrap()
    }
}

pub(super) fn numbers(page: &AuditPage) -> Vec<u64> {
    page.records.iter().map(|record| record.number).collect()
}

#[tokio::test]
async fn what_was_appended_is_read_and_verifies() {
    let lab = Lab::with_records(5).await;
    let verified = lab.verify().await;
    assert!(verified.is_good() && verified.notes.is_empty(), "{verified:?}");
    assert_eq!((verified.records, verified.segments), (5, 1));
    assert_eq!(verified.heads[0].anchored, Some(5));
    let page = lab.records(&AuditQuery::default()).await;
    assert_eq!(numbers(&page), [5, 4, 3, 2, 1]);
    assert_eq!((page.next, page.unreadable), (None, 0));
}

#[tokio::test]
async fn what_nobody_waits_for_is_made_safe_and_anchored_all_the_same_in_each_segment() {
    let mut lab = Lab::new().await;
    // The smallest possible segments, so that the last records are in a different file than most.
    lab.options = lab.options.clone().segment_bytes(1);
    let log = lab.open().await;
    let mut records = lab.append(&log).await.unwrap().number;
    while lab.files().len() < 2 {
        records = lab.append(&log).await.unwrap().number;
    }
    let anchored = async {
        while lab.root().await.heads.values().all(|head| head.number < records) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), anchored).await.expect("the last record is never anchored");
    // Not closed: no flush was requested.
    assert!(log.verify(None).await.unwrap().is_good());
}

#[tokio::test]
async fn nothing_is_written_before_the_first_event() {
    let lab = Lab::new().await;
    let log = lab.open().await;
    assert!(log.verify(None).await.unwrap().is_good());
    log.close().await;
    assert!(!lab.audit().exists());
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_the_log() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::with_records(1).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(lab.audit()), mode(&lab.file(1, 1))), (0o700, 0o600));
}

#[tokio::test]
async fn a_restart_goes_on_where_the_log_ended() {
    let lab = Lab::with_records(2).await;
    lab.append_and_close(2).await;
    assert_eq!(lab.files(), [lab.file(1, 1)]);
    assert_eq!(lab.verify().await.records, 4);
}

#[tokio::test]
async fn segments_are_begun_by_size_and_chained() {
    let mut lab = Lab::new().await;
    lab.options.segment_bytes = 0;
    let log = lab.open().await;
    // A segment takes at least as many bytes as the longest line may have.
    for _ in 0..400 {
        lab.append(&log).await.unwrap();
    }
    lab.close([log]).await;
    assert!(lab.files().len() > 1, "{:?}", lab.files());
    let verified = lab.verify().await;
    assert!(verified.is_good() && verified.records == 400, "{verified:?}");
    let newest = lab.records(&AuditQuery { limit: Some(1_000), ..AuditQuery::default() }).await;
    assert_eq!(numbers(&newest), (1..=400).rev().collect::<Vec<_>>());
    let oldest = AuditQuery { order: Order::Oldest, limit: Some(1_000), ..AuditQuery::default() };
    assert_eq!(numbers(&lab.records(&oldest).await), (1..=400).collect::<Vec<_>>());

    std::fs::rename(lab.file(1, 1), lab.folder.path().join("away")).unwrap();
    assert_eq!(lab.problems().await[0].1, AuditProblem::SegmentsMissing { first: 1, last: 1 });
    std::fs::rename(lab.folder.path().join("away"), lab.file(1, 1)).unwrap();
    std::fs::rename(lab.files().last().unwrap(), lab.folder.path().join("away")).unwrap();
    let problems = lab.problems().await;
    assert!(matches!(problems[..], [(None, AuditProblem::Missing { last: 400, .. })]), "{problems:?}");
}

#[tokio::test]
async fn two_who_write_at_the_same_time_have_a_series_each() {
    let lab = Lab::new().await;
    let (one, other) = (lab.open().await, lab.open().await);
    for _ in 0..3 {
        lab.append(&one).await.unwrap();
        lab.append(&other).await.unwrap();
    }
    let page = one.read(&AuditQuery { order: Order::Oldest, ..AuditQuery::default() }).await.unwrap();
    let order: Vec<_> = page.records.iter().map(|record| (record.series, record.number)).collect();
    assert_eq!(order, [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3), (2, 3)], "in the order of time");
    lab.close([one, other]).await;
    lab.append_and_close(1).await;
    assert_eq!(lab.files(), [lab.file(1, 1), lab.file(2, 1)]);
    let verified = lab.verify().await;
    assert!(verified.is_good() && verified.records == 7, "{verified:?}");
}

#[tokio::test]
async fn many_who_write_at_once_are_all_in_the_log_in_whole_groups() {
    let lab = Arc::new(Lab::new().await);
    let log = Arc::new(lab.open().await);
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let (lab, log) = (lab.clone(), log.clone());
            tokio::spawn(async move {
                let mut numbers = Vec::new();
                for _ in 0..20 {
                    numbers.push(lab.append(&log).await.unwrap().number);
                }
                numbers
            })
        })
        .collect();
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await.unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (1..=1_280).collect::<Vec<_>>(), "each record has its own number");
    log.close().await;
    assert_eq!(lab.verify().await.records, 1_280);
}

#[tokio::test]
async fn a_log_whose_file_is_removed_refuses_and_then_goes_on_in_a_new_one() {
    let lab = Lab::new().await;
    let log = lab.open().await;
    for _ in 0..3 {
        lab.append(&log).await.unwrap();
    }
    std::fs::remove_dir_all(lab.audit()).unwrap();
    let error = lab.append(&log).await.unwrap_err();
    assert!(matches!(&error, AuditError::Unwritable(cause) if cause.to_string().contains("was removed")), "{error}");
    assert_eq!(lab.append(&log).await.unwrap().number, 5);
    lab.close([log]).await;
    let problems = lab.problems().await;
    assert_eq!(problems[0].1, AuditProblem::SegmentsMissing { first: 1, last: 1 });
    assert_eq!(problems[1].1, AuditProblem::Missing { first: 1, last: 4 });
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_refuses_until_it_can() {
    let lab = Lab::new().await;
    std::fs::write(lab.audit(), "in the way").unwrap();
    let log = lab.open().await;
    assert!(matches!(lab.append(&log).await, Err(AuditError::Unwritable(_))));
    std::fs::remove_file(lab.audit()).unwrap();
    lab.append(&log).await.unwrap();
    lab.close([log]).await;
    assert_eq!(lab.verify().await.records, 1);
}

#[tokio::test]
async fn what_must_outlive_a_power_cut_is_synced_before_it_is_acknowledged() {
    let lab = Lab::new().await;
    let log = lab.open().await;
    let receipt = log.append(&lab.event(), Durability::Synced).await.unwrap();
    assert_eq!(receipt.number, 1);
    // A synced head is published, and the root follows at once.
    log.close().await;
    assert_eq!(lab.root().await.heads[&1].number, 1);
}

#[tokio::test]
async fn pages_go_on_where_the_one_before_ended_in_both_orders() {
    let lab = Lab::new().await;
    let (one, other) = (lab.open().await, lab.open().await);
    for number in 0..40 {
        lab.append(if number % 3 == 0 { &one } else { &other }).await.unwrap();
    }
    for order in [Order::Newest, Order::Oldest] {
        let all = one.read(&AuditQuery { order, ..AuditQuery::default() }).await.unwrap().records;
        assert_eq!(all.len(), 40);
        let mut paged = Vec::new();
        let mut query = AuditQuery { order, limit: Some(7), ..AuditQuery::default() };
        loop {
            let page = one.read(&query).await.unwrap();
            paged.extend(page.records);
            match page.next {
                Some(next) => query.cursor = Some(next),
                None => break,
            }
        }
        assert_eq!(paged, all, "{order:?}");
    }
}

#[tokio::test]
async fn a_page_reads_a_bounded_part_and_the_next_one_goes_on_there() {
    let lab = Lab::with_records(3).await;
    // Far more than a page reads, in the middle of a segment, and the last record behind it.
    let lines = lab.lines(&lab.file(1, 1));
    let mut contents = [&*lines[0], &*lines[1], &*lines[2], ""].join("\n").into_bytes();
    contents.resize(contents.len() + 3 * crate::read::SCAN_LIMIT, b'x');
    contents.extend_from_slice(format!("\n{}\n", lines[3]).as_bytes());
    std::fs::write(lab.file(1, 1), contents).unwrap();
    let log = lab.open().await;
    for (order, expected) in [(Order::Newest, [3, 2, 1]), (Order::Oldest, [1, 2, 3])] {
        let (mut query, mut all, mut pages) = (AuditQuery { order, ..AuditQuery::default() }, Vec::new(), 0);
        loop {
            let page = log.read(&query).await.unwrap();
            all.extend(numbers(&page));
            pages += 1;
            let Some(next) = page.next else { break };
            query.cursor = Some(next);
        }
        assert_eq!(all, expected, "{order:?}");
        assert!(pages >= 3, "{pages}");
    }
    let foreign = AuditQuery { cursor: Some("1-5.2-7".parse().unwrap()), ..AuditQuery::default() };
    assert!(matches!(log.read(&foreign).await, Err(AuditError::Query(InvalidQuery::Cursor))));
}

#[tokio::test]
async fn the_order_of_time_holds_for_records_that_are_far_between() {
    let lab = Lab::new().await;
    let (one, other) = (lab.open().await, lab.open().await);
    let entry = Some(EntryId::generate());
    let mut expected = Vec::new();
    for number in 0..60 {
        let log = if number % 2 == 0 { &one } else { &other };
        if number % 20 == 19 || number % 20 == 4 {
            let mut event = lab.event();
            event.subject.entry = entry;
            expected.push(event.at);
            log.append(&event, Durability::Written).await.unwrap();
        } else {
            let mut event = lab.event();
            event.subject.reference = Some("x".repeat(60 << 10));
            // More than a page reads lies between two records of the entry.
            for _ in 0..20 {
                log.append(&event, Durability::Written).await.unwrap();
            }
        }
    }
    let (mut query, mut found) = (AuditQuery { entry, order: Order::Oldest, ..AuditQuery::default() }, Vec::new());
    loop {
        let page = one.read(&query).await.unwrap();
        found.extend(page.records.iter().map(|record| record.at));
        let Some(next) = page.next else { break };
        query.cursor = Some(next);
    }
    assert_eq!(found, expected);
    lab.close([one, other]).await;
}

#[tokio::test]
async fn a_workspace_sees_no_numbers_and_still_which_outcome_belongs_to_which_beginning() {
    let lab = Lab::new().await;
    let log = lab.open().await;
    let begun = AuditEvent { operation: Operation::DeleteEntry, outcome: Outcome::BEGUN, ..lab.event() };
    for number in [1, 3] {
        log.append(&begun, Durability::Written).await.unwrap();
        log.append(&AuditEvent { outcome: Outcome::OK, begun: Some(number), ..begun.clone() }, Durability::Written)
            .await
            .unwrap();
    }
    let query = AuditQuery { pseudonyms: true, order: Order::Oldest, ..AuditQuery::default() };
    let records = log.read(&query).await.unwrap().records;
    assert_eq!(records[1].begun, Some(records[0].number));
    assert_eq!(records[3].begun, Some(records[2].number));
    assert!(records.iter().all(|record| record.series == 0 && record.number > 1 << 20), "{records:?}");
    assert_eq!(log.read(&query).await.unwrap().records, records);
    lab.close([log]).await;
}

#[tokio::test]
async fn every_filter_leaves_only_what_it_names() {
    let lab = Lab::new().await;
    let log = lab.open().await;
    let wanted = AuditEvent {
        operation: Operation::ListItems,
        outcome: Outcome::from(ErrorKind::Forbidden),
        actor: AuditActor::ApiKey { id: keyway_storage::ApiKeyId::generate(), name: "ci".into() },
        ..lab.event()
    };
    lab.append(&log).await.unwrap();
    log.append(&wanted, Durability::Written).await.unwrap();
    lab.append(&log).await.unwrap();
    let all = AuditQuery::default;
    let queries = BTreeMap::from([
        ("time", AuditQuery { since: Some(wanted.at), until: Some(wanted.at + Duration::from_secs(1)), ..all() }),
        ("workspace", AuditQuery { workspace: wanted.workspace, ..all() }),
        ("actor", AuditQuery { actor: Some("ci".into()), ..all() }),
        ("operation", AuditQuery { operation: Some(Operation::ListItems), ..all() }),
        ("entry", AuditQuery { entry: wanted.subject.entry, ..all() }),
        ("outcome", AuditQuery { outcome: Some("forbidden".parse().unwrap()), ..all() }),
        ("failed", AuditQuery { outcome: Some(OutcomeFilter::FAILED), ..all() }),
    ]);
    for (name, query) in queries {
        assert_eq!(numbers(&log.read(&query).await.unwrap()), [2], "{name}");
    }
    let nothing = AuditQuery { connection: Some(keyway_storage::ConnectionId::generate()), ..all() };
    assert!(log.read(&nothing).await.unwrap().records.is_empty());
}

#[tokio::test]
async fn an_event_that_is_too_long_for_a_line_is_refused_and_spoils_nothing() {
    let lab = Lab::with_records(1).await;
    let log = lab.open().await;
    let mut event =
        AuditEvent::new(Timestamp::UNIX_EPOCH, AuditActor::System, Operation::ComponentChanged, Outcome::OK);
    event.subject.reference = Some("x".repeat(70_000));
    assert!(log.append(&event, Durability::Written).await.is_err());
    lab.append(&log).await.unwrap();
    lab.close([log]).await;
    assert!(lab.verify().await.is_good());
}

#[cfg(unix)]
#[tokio::test]
async fn a_segment_that_is_no_file_is_left_out_by_name_and_the_others_are_read() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    let lab = Lab::with_records(3).await;
    mkfifoat(CWD, lab.file(1, 2), Mode::RWXU).unwrap();
    mkfifoat(CWD, lab.file(2, 1), Mode::RWXU).unwrap();
    for order in [Order::Newest, Order::Oldest] {
        let page = lab.records(&AuditQuery { order, ..AuditQuery::default() }).await;
        assert_eq!(page.records.len(), 3);
        assert_eq!(page.left_out, ["00001-00000002.jsonl", "00002-00000001.jsonl"]);
        assert_eq!(page.next, None);
    }
}

#[tokio::test]
async fn a_log_that_is_missing_at_the_start_is_told_by_the_first_check() {
    let lab = Lab::with_records(3).await;
    std::fs::rename(lab.audit(), lab.folder.path().join("away")).unwrap();
    let log = lab.open().await;
    log.check().await.unwrap();
    let warning = log.warning().unwrap();
    assert!(warning.contains("the audit log was missing from") && warning.contains("audit"), "{warning}");
    lab.append(&log).await.unwrap();
    assert!(log.warning().is_some());
    lab.close([log]).await;
    // A new log, and one that is continued, miss nothing.
    for lab in [Lab::new().await, Lab::with_records(3).await] {
        let log = lab.open().await;
        log.check().await.unwrap();
        assert_eq!(log.warning(), None);
    }
}

#[tokio::test]
async fn a_log_that_is_moved_away_while_it_is_open_is_told_from_then_on() {
    let lab = Lab::with_records(1).await;
    let log = lab.open().await;
    log.check().await.unwrap();
    assert_eq!(log.warning(), None);
    std::fs::rename(lab.audit(), lab.folder.path().join("away")).unwrap();
    log.check().await.unwrap_err();
    for _ in 0..2 {
        log.check().await.unwrap();
        let warning = log.warning().unwrap();
        assert!(warning.contains("00001-00000001.jsonl was removed from"), "{warning}");
    }
}

#[tokio::test]
async fn a_copy_has_what_its_root_vouches_for_and_a_log_that_is_missing_is_not_copied() {
    let lab = Lab::with_records(3).await;
    let roots = lab.storage.audit_roots().await.unwrap();
    let to = lab.folder.path().join("copy");
    let wrong = lab.folder.path().join("wrong");
    assert!(matches!(copy(&wrong, &to, &roots), Err(CopyError::NoLog(folder)) if folder == wrong));
    std::fs::create_dir(&wrong).unwrap();
    assert!(matches!(copy(&wrong, &to, &roots), Err(CopyError::NoLog(_))));
    assert_eq!(copy(&wrong, &to, &[]).unwrap(), Copied::default());
    assert!(!to.exists());

    // A later root and its segment.
    let other = lab.open().await;
    let blocked = lab.open().await;
    lab.append(&other).await.unwrap();
    lab.append(&blocked).await.unwrap();
    lab.close([other, blocked]).await;
    assert_eq!(lab.files().len(), 2);
    assert_eq!(copy(lab.audit(), &to, &roots).unwrap(), Copied { segments: 1, incomplete: vec![] });
    let copied = std::fs::read_to_string(to.join("00001-00000001.jsonl")).unwrap();
    assert!(std::fs::read_to_string(lab.file(1, 1)).unwrap().starts_with(&copied));
    assert!(copied.lines().count() >= 4, "{copied}");
}

#[tokio::test]
async fn a_series_that_does_not_end_where_it_was_left_is_told_at_the_start_and_by_a_copy() {
    type Change = fn(&Lab);
    let changes: [Change; 4] = [
        |lab| std::fs::remove_file(lab.file(2, 1)).unwrap(),
        |lab| lab.write(&lab.file(2, 1), &lab.lines(&lab.file(2, 1))[..1]),
        |lab| lab.write(&lab.file(2, 1), &lab.lines(&lab.file(1, 1))),
        |lab| lab.write(&lab.file(1, 1), &lab.lines(&lab.file(1, 1))[..2]),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let lab = Lab::new().await;
        let (first, second) = (lab.open().await, lab.open().await);
        for log in [&first, &first, &second, &second] {
            lab.append(log).await.unwrap();
        }
        lab.close([first, second]).await;
        change(&lab);
        let roots = lab.storage.audit_roots().await.unwrap();
        let copied = copy(lab.audit(), &lab.folder.path().join("copy"), &roots).unwrap();
        assert_eq!(copied.incomplete, [if number < 3 { 2 } else { 1 }], "change {number}");
        let log = lab.open().await;
        log.check().await.unwrap();
        let warning = log.warning().unwrap();
        assert!(warning.contains("does not end") || warning.contains("series 2 of"), "change {number}: {warning}");
        lab.close([log]).await;
    }
}

#[tokio::test]
async fn what_is_no_folder_in_the_place_of_the_log_is_called_that() {
    let lab = Lab::new().await;
    std::os::unix::fs::symlink("nowhere", lab.audit()).unwrap();
    let log = lab.open().await;
    let error = log.check().await.unwrap_err();
    assert!(error.to_string().contains("something else is in its place"), "{error}");
    assert!(rehearse(lab.audit()).is_err());
}
