//! Logs of which files, roots or anchors were changed by a hand with access to the folder and the
//! database, but without the audit key. Verifying never calls them good: not at once, not after
//! further records, and not after a restart.

use std::sync::atomic::Ordering;

use jiff::Timestamp;
use keyway_storage::{AuditAnchorRecord, AuditRootStorage, SqliteStorage};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, SqlitePool};

use super::*;
use crate::chain::{Head, START};
use crate::root::Root;
use crate::tests::Lab;

fn key() -> AuditKey {
    AuditKey::new(&[9; 32])
}

/// A log in a database that is a file.
async fn in_a_file() -> (Lab, SqlitePool) {
    let mut lab = Lab::new().await;
    let path = lab.folder.path().join("keyway.db");
    lab.storage = Arc::new(SqliteStorage::open(&path).await.unwrap());
    let database = SqlitePool::connect_with(SqliteConnectOptions::new().filename(path)).await.unwrap();
    (lab, database)
}

/// The same with two series of twelve and six records.
async fn two_series() -> (Lab, SqlitePool) {
    let (lab, database) = in_a_file().await;
    let (one, other) = (lab.open().await, lab.open().await);
    for number in 0..12 {
        lab.append(&one).await.unwrap();
        if number % 2 == 0 {
            lab.append(&other).await.unwrap();
        }
    }
    lab.close([one, other]).await;
    assert!(lab.verify().await.is_good());
    (lab, database)
}

async fn run(database: &SqlitePool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(database).await.unwrap();
}

/// Verifying finds `problem`, and keeps finding it.
async fn is_found_for_ever(lab: &Lab, problem: impl Fn(&AuditProblem) -> bool, what: &str) {
    for step in ["at once", "after a record", "after a restart and two records"] {
        let verified = lab.verify().await;
        let found = verified.findings.iter().any(|finding| problem(&finding.problem));
        assert!(found && !verified.is_good(), "{what}, {step}: {:?}", verified.findings);
        lab.append_and_close(1).await;
    }
    let log = lab.open().await;
    lab.append(&log).await.unwrap();
    let verified = log.verify(None).await.unwrap();
    assert!(!verified.is_good(), "{what}, while it is written: {verified:?}");
    lab.close([log]).await;
}

fn shorten(lab: &Lab, series: u32, lines: usize) {
    let file = lab.file(series, 1);
    let kept = lab.lines(&file)[..lines].to_vec();
    lab.write(&file, &kept);
}

/// What is done to a log and its database.
type Change = Box<dyn Fn(&Lab)>;

#[tokio::test]
async fn a_shortened_log_without_its_root_does_not_heal() {
    let (lab, database) = two_series().await;
    shorten(&lab, 1, 5);
    run(&database, "DELETE FROM audit_roots").await;
    is_found_for_ever(&lab, |problem| *problem == AuditProblem::RootMissing, "the root is removed").await;
    // It went on in one new series, and the shortened one is as it was left.
    assert_eq!(lab.lines(&lab.file(1, 1)).len(), 5);
    assert_eq!(lab.files(), [lab.file(1, 1), lab.file(2, 1), lab.file(3, 1)]);
    // A second time the same.
    run(&database, "DELETE FROM audit_roots").await;
    is_found_for_ever(&lab, |problem| *problem == AuditProblem::RootMissing, "the root is removed again").await;
}

#[tokio::test]
async fn a_series_that_vanishes_is_missed_with_and_without_its_root() {
    for series in [1, 2] {
        let (lab, database) = two_series().await;
        std::fs::remove_file(lab.file(series, 1)).unwrap();
        is_found_for_ever(&lab, |problem| matches!(problem, AuditProblem::SeriesMissing { .. }), "its files").await;
        run(&database, "DELETE FROM audit_roots").await;
        is_found_for_ever(&lab, |problem| *problem == AuditProblem::RootMissing, "its files and the root").await;
    }
}

#[tokio::test]
async fn a_series_that_vanishes_is_missed_by_those_that_were_begun_after_it() {
    let (lab, database) = two_series().await;
    let blocked = lab.open().await;
    lab.append(&blocked).await.unwrap();
    let (second, third) = (lab.open().await, lab.open().await);
    lab.append(&second).await.unwrap();
    lab.append(&third).await.unwrap();
    lab.close([blocked, second, third]).await;
    assert!(lab.file(3, 1).exists());
    std::fs::remove_file(lab.file(2, 1)).unwrap();
    run(&database, "DELETE FROM audit_roots").await;
    let is_it = |problem: &AuditProblem| *problem == AuditProblem::SeriesMissing { records: 6 };
    is_found_for_ever(&lab, is_it, "named by the header of series 3").await;
}

#[tokio::test]
async fn every_change_of_a_segment_is_found() {
    let mut changes: Vec<(String, Change)> = vec![
        ("all removed".to_owned(), Box::new(|lab| std::fs::remove_dir_all(lab.audit()).unwrap())),
        (
            "swapped".to_owned(),
            Box::new(|lab| {
                let away = lab.folder.path().join("away");
                std::fs::rename(lab.file(1, 1), &away).unwrap();
                std::fs::rename(lab.file(2, 1), lab.file(1, 1)).unwrap();
                std::fs::rename(away, lab.file(2, 1)).unwrap();
            }),
        ),
    ];
    for (series, records) in [(1, 12), (2, 6)] {
        let remove = move |lab: &Lab| std::fs::remove_file(lab.file(series, 1)).unwrap();
        changes.push((format!("series {series} removed"), Box::new(remove)));
        let empty = move |lab: &Lab| std::fs::write(lab.file(series, 1), "").unwrap();
        changes.push((format!("series {series} emptied"), Box::new(empty)));
        for lines in [1, 2, records] {
            let cut = move |lab: &Lab| shorten(lab, series, lines);
            changes.push((format!("series {series} cut to {lines} lines"), Box::new(cut)));
        }
    }
    for (what, change) in changes {
        let (lab, _) = two_series().await;
        change(&lab);
        is_found_for_ever(&lab, |_| true, &what).await;
    }
}

#[tokio::test]
async fn every_change_of_the_root_is_found() {
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let foreign = Root { number: 1 << 40, ..Root::default() }.seal(&AuditKey::new(&[8; 32])).unwrap();
    for sql in [
        "DELETE FROM audit_roots".to_owned(),
        "UPDATE audit_roots SET root = x''".to_owned(),
        "UPDATE audit_roots SET root = x'00'".to_owned(),
        "UPDATE audit_roots SET root = CAST(replace(CAST(root AS TEXT), '\"number\":12', '\"number\":11') AS BLOB)"
            .to_owned(),
        "UPDATE audit_roots SET root = CAST(replace(CAST(root AS TEXT), '\"root\":', '\"root\":9') AS BLOB)".to_owned(),
        format!("UPDATE audit_roots SET root = x'{}'", hex(&foreign)),
        format!("INSERT INTO audit_roots VALUES (x'{}')", hex(&foreign)),
        "INSERT INTO audit_roots VALUES (x'00')".to_owned(),
        "INSERT INTO audit_roots SELECT root FROM audit_roots".to_owned(),
    ] {
        let (lab, database) = two_series().await;
        run(&database, &sql).await;
        is_found_for_ever(&lab, |_| true, &sql).await;
        // Also when the shortened log and the changed root go together.
        let (lab, database) = two_series().await;
        shorten(&lab, 1, 5);
        run(&database, &sql).await;
        is_found_for_ever(&lab, |_| true, &sql).await;
    }
    assert!(sqlx::raw_sql("UPDATE audit_roots SET root = NULL").execute(&two_series().await.1).await.is_err());
}

#[tokio::test]
async fn a_root_that_is_changed_while_the_log_is_written_stays_a_finding() {
    for sql in ["DELETE FROM audit_roots", "UPDATE audit_roots SET root = x'00'"] {
        let (lab, database) = two_series().await;
        let log = lab.open().await;
        lab.append(&log).await.unwrap();
        run(&database, sql).await;
        lab.append(&log).await.unwrap();
        lab.close([log]).await;
        // It knew what to vouch for, so it went on with its series.
        assert_eq!(lab.files().len(), 2);
        is_found_for_ever(
            &lab,
            |problem| matches!(problem, AuditProblem::RootMissing | AuditProblem::RootChanged),
            sql,
        )
        .await;
    }
}

#[tokio::test]
async fn a_root_of_an_older_copy_of_the_database_is_found_for_ever() {
    let (lab, database) = two_series().await;
    let older = lab.storage.audit_roots().await.unwrap().remove(0);
    // A new series, whose header names a newer root.
    let (one, other, third) = (lab.open().await, lab.open().await, lab.open().await);
    for log in [&one, &other, &third] {
        lab.append(log).await.unwrap();
    }
    lab.close([one, other, third]).await;
    sqlx::query("UPDATE audit_roots SET root = ?").bind(older).execute(&database).await.unwrap();
    is_found_for_ever(&lab, |problem| *problem == AuditProblem::RootOlder, "an older root").await;
}

#[tokio::test]
async fn an_older_root_is_found_as_soon_as_one_record_names_a_newer_one() {
    let (lab, database) = two_series().await;
    let older = lab.storage.audit_roots().await.unwrap().remove(0);
    // As many short commands do: they continue the series, and begin no segment.
    lab.append_and_close(1).await;
    lab.append_and_close(1).await;
    assert_eq!(lab.files().len(), 2);
    sqlx::query("UPDATE audit_roots SET root = ?").bind(older).execute(&database).await.unwrap();
    is_found_for_ever(&lab, |problem| *problem == AuditProblem::RootOlder, "an older root").await;
}

#[tokio::test]
async fn a_log_that_is_gone_with_its_root_is_missed_whatever_the_database_holds() {
    let (lab, database) = two_series().await;
    std::fs::remove_dir_all(lab.audit()).unwrap();
    run(&database, "DELETE FROM audit_roots").await;
    is_found_for_ever(&lab, |problem| *problem == AuditProblem::LogMissing, "everything").await;
}

#[tokio::test]
async fn a_root_is_missed_from_the_first_start_on_although_nothing_was_recorded() {
    let (lab, database) = in_a_file().await;
    assert!(lab.verify().await.is_good());
    run(&database, "DELETE FROM audit_roots").await;
    is_found_for_ever(&lab, |problem| *problem == AuditProblem::LogMissing, "the first root").await;
}

#[tokio::test]
async fn an_earlier_copy_of_the_hosts_key_does_not_make_the_log_a_new_one() {
    // The root is still there.
    let (lab, _) = two_series().await;
    lab.noted.store(false, Ordering::Relaxed);
    is_found_for_ever(&lab, |problem| *problem == AuditProblem::HostKeyOlder, "an earlier key").await;
    // The root is gone, but the log names it.
    let (lab, database) = two_series().await;
    run(&database, "DELETE FROM audit_roots").await;
    lab.noted.store(false, Ordering::Relaxed);
    is_found_for_ever(&lab, |problem| *problem == AuditProblem::RootMissing, "an earlier key and no root").await;
    // Two processes that open a new log at the same time find nothing.
    let lab = Lab::new().await;
    let (one, other) = tokio::join!(lab.open(), lab.open());
    lab.append(&one).await.unwrap();
    lab.append(&other).await.unwrap();
    lab.close([one, other]).await;
    assert!(lab.verify().await.is_good());
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_no_file_is_neither_read_nor_written_nor_waited_for() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    for what in ["a pipe", "a link"] {
        let (lab, _) = two_series().await;
        let (away, at) = (lab.folder.path().join("away"), lab.file(1, 1));
        std::fs::rename(&at, &away).unwrap();
        match what {
            "a pipe" => mkfifoat(CWD, &at, Mode::RWXU).unwrap(),
            _ => std::os::unix::fs::symlink(&away, &at).unwrap(),
        }
        let before = std::fs::read(&away).unwrap();
        let log = lab.open().await;
        lab.append(&log).await.unwrap();
        let verified = log.verify(None).await.unwrap();
        let problems: Vec<_> = verified.findings.iter().map(|found| (&*found.file, &found.problem)).collect();
        assert!(problems.contains(&("00001-00000001.jsonl", &AuditProblem::NotAFile)), "{what}: {problems:?}");
        let page = log.read(&AuditQuery::default()).await.unwrap();
        assert_eq!((page.left_out, page.records.len()), (vec!["00001-00000001.jsonl".to_owned()], 7), "{what}");
        log.close().await;
        assert_eq!(std::fs::read(&away).unwrap(), before, "{what}");
    }
}

/// Makes a log look like one of a release that had anchors and no root: with the headers of that
/// release, and the chain made anew.
async fn as_of_an_earlier_release(lab: &Lab, database: &SqlitePool) {
    run(database, "DELETE FROM audit_roots").await;
    lab.noted.store(false, Ordering::Relaxed);
    for series in [1, 2] {
        let (mut previous, mut number, mut out) = (START, 0, Vec::new());
        for (index, line) in lab.lines(&lab.file(series, 1)).iter().enumerate() {
            let from = out.len();
            let (body, _) = line.rsplit_once(",\"mac\"").unwrap();
            let (before, root) = body.split_once(",\"root\":").unwrap();
            out.extend_from_slice(before.as_bytes());
            if index > 0 {
                out.extend_from_slice(root.trim_start_matches(|digit: char| digit.is_ascii_digit()).as_bytes());
            }
            previous = key().finish(&previous, &mut out, from);
            number = index as u64;
        }
        std::fs::write(lab.file(series, 1), out).unwrap();
        let mac = key().anchor(series, number, &previous);
        let row = "INSERT INTO audit_anchors (series, number, head, mac, at) VALUES (?, ?, ?, ?, 0)";
        let row = sqlx::query(row).bind(series).bind(i64::try_from(number).unwrap());
        row.bind(previous.to_vec()).bind(mac.to_vec()).execute(database).await.unwrap();
    }
}

#[tokio::test]
async fn a_log_of_an_earlier_release_gets_its_root_once() {
    let (lab, database) = two_series().await;
    as_of_an_earlier_release(&lab, &database).await;
    assert!(lab.verify().await.is_good());
    assert_eq!(lab.root().await.heads[&2].number, 6, "taken over from the anchors");
    lab.append_and_close(1).await;
    let verified = lab.verify().await;
    assert!(verified.is_good() && verified.records == 19, "{verified:?}");
    assert_eq!(lab.root().await.heads[&2].number, 6);
    assert!(lab.storage.audit_anchors().await.unwrap().is_empty());
    run(&database, "DELETE FROM audit_roots").await;
    is_found_for_ever(&lab, |problem| *problem == AuditProblem::RootMissing, "its first root").await;
}

#[tokio::test]
async fn every_change_of_an_anchor_of_an_earlier_release_is_found() {
    for sql in [
        "DELETE FROM audit_anchors",
        "DELETE FROM audit_anchors WHERE series = 1",
        "DELETE FROM audit_anchors WHERE series = 2",
        "UPDATE audit_anchors SET series = 3 WHERE series = 2",
        "UPDATE audit_anchors SET series = 3 - series + 10",
        "UPDATE audit_anchors SET number = 0",
        "UPDATE audit_anchors SET number = 4 WHERE series = 1",
        "UPDATE audit_anchors SET number = number + 1 WHERE series = 1",
        "UPDATE audit_anchors SET head = zeroblob(32) WHERE series = 1",
        "UPDATE audit_anchors SET head = (SELECT head FROM audit_anchors WHERE series = 1) WHERE series = 2",
        "UPDATE audit_anchors SET mac = zeroblob(32)",
        "UPDATE audit_anchors SET mac = (SELECT mac FROM audit_anchors WHERE series = 1) WHERE series = 2",
        "PRAGMA ignore_check_constraints = ON; UPDATE audit_anchors SET mac = x'00' WHERE series = 1",
        "PRAGMA ignore_check_constraints = ON; UPDATE audit_anchors SET number = -1, head = x'' WHERE series = 1",
    ] {
        let (lab, database) = two_series().await;
        as_of_an_earlier_release(&lab, &database).await;
        run(&database, sql).await;
        is_found_for_ever(&lab, |_| true, sql).await;
        let (lab, database) = two_series().await;
        as_of_an_earlier_release(&lab, &database).await;
        std::fs::remove_file(lab.file(1, 1)).unwrap();
        if sql == "DELETE FROM audit_anchors WHERE series = 1" {
            // Exactly the state before this series was begun. Only from the first root on is that
            // seen, too.
            continue;
        }
        run(&database, sql).await;
        is_found_for_ever(&lab, |_| true, sql).await;
    }
}

#[tokio::test]
async fn an_anchor_and_a_root_cannot_stand_in_for_each_other() {
    let anchor = AuditAnchorRecord { series: 1, number: 7, head: [5; 32], mac: [0; 32], at: Timestamp::UNIX_EPOCH };
    let mut line = br#"{"root":1,"at":"1970-01-01T00:00:00Z","heads":{}"#.to_vec();
    key().finish(&anchor.head, &mut line, 0);
    line.pop();
    assert_eq!(Root::open(&key(), &line), None, "a line of a series is no root");
    let root = Root { number: 5, heads: [(1, Head { number: 3, tag: [4; 32] })].into(), ..Root::default() };
    let sealed = root.seal(&key()).unwrap();
    assert_eq!(Root::open(&key(), &sealed), Some(root));
    for position in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[position] ^= 1;
        assert_eq!(Root::open(&key(), &changed), None, "byte {position}");
    }
}

#[tokio::test]
async fn an_older_copy_of_everything_is_found_with_a_root_that_was_kept_elsewhere() {
    let (lab, database) = two_series().await;
    let log = lab.open().await;
    let early = log.root().await.unwrap();
    lab.close([log]).await;
    let before: Vec<_> = lab.files().iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect();
    let root_before = lab.storage.audit_roots().await.unwrap().remove(0);
    lab.append_and_close(3).await;
    let log = lab.open().await;
    let kept: AuditRoot = log.root().await.unwrap().to_string().parse().unwrap();
    for root in [&early, &kept] {
        let verified = log.verify(Some(root)).await.unwrap();
        assert!(verified.is_good() && verified.kept_root.is_some(), "{verified:?}");
    }
    lab.close([log]).await;

    for (file, contents) in before {
        std::fs::write(file, contents).unwrap();
    }
    sqlx::query("UPDATE audit_roots SET root = ?").bind(root_before).execute(&database).await.unwrap();
    for _ in 0..2 {
        let log = lab.open().await;
        // Nothing in the copy contradicts itself.
        assert!(log.verify(None).await.unwrap().is_good());
        assert!(log.verify(Some(&early)).await.unwrap().is_good());
        let found: Vec<_> = log.verify(Some(&kept)).await.unwrap().findings;
        assert!(!found.is_empty());
        lab.close([log]).await;
        // Longer than it was: other records stand in the place of those that are gone.
        lab.append_and_close(9).await;
    }
    let foreign = Root { number: 1, ..Root::default() }.seal(&AuditKey::new(&[8; 32])).unwrap();
    let foreign = String::from_utf8(foreign).unwrap().parse().unwrap();
    let found = lab.open().await.verify(Some(&foreign)).await.unwrap().findings;
    assert_eq!(found[0].problem, AuditProblem::KeptRootForeign);
    assert_eq!("{}".parse::<AuditRoot>(), Err(InvalidRoot));
}
