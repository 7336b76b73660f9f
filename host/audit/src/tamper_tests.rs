//! What `verify` reports about a changed log, and which logs are not continued.

use super::*;
use crate::tests::{Lab, numbers};

#[tokio::test]
async fn segments_that_change_places_are_found() {
    let mut lab = Lab::new().await;
    lab.options.segment_bytes = 0;
    lab.append_and_close(400).await;
    std::fs::rename(lab.file(1, 1), lab.folder.path().join("away")).unwrap();
    std::fs::rename(lab.file(1, 2), lab.file(1, 1)).unwrap();
    std::fs::rename(lab.folder.path().join("away"), lab.file(1, 2)).unwrap();
    assert_eq!(lab.problems().await[0], (Some(1), AuditProblem::HeaderChanged));
}

#[tokio::test]
async fn a_changed_record_is_named_and_only_that() {
    let lab = Lab::with_records(9).await;
    let original = lab.lines(&lab.file(1, 1));
    for number in 1..=9 {
        let mut lines = original.clone();
        lines[number] = lines[number].replace("\"ok\"", "\"no\"");
        lab.write(&lab.file(1, 1), &lines);
        let expected = (Some(number as u64 + 1), AuditProblem::Changed { number: number as u64 });
        // The last one is also the record that the anchor names.
        assert_eq!(lab.problems().await, [expected], "record {number}");
    }
    let mut lines = original.clone();
    let end = lines[4].len() - 2;
    lines[4].replace_range(end - 8..end, "00000000");
    lab.write(&lab.file(1, 1), &lines);
    assert_eq!(lab.problems().await, [(Some(5), AuditProblem::Changed { number: 4 })]);
}

#[tokio::test]
async fn a_removed_record_is_named_wherever_it_was() {
    let lab = Lab::with_records(9).await;
    let original = lab.lines(&lab.file(1, 1));
    for number in 1..=9_usize {
        let mut lines = original.clone();
        lines.remove(number);
        lab.write(&lab.file(1, 1), &lines);
        let number = number as u64;
        // Only the anchor shows that the end is missing.
        let line = (number < 9).then_some(number + 1);
        assert_eq!(lab.problems().await, [(line, AuditProblem::Missing { first: number, last: number })]);
    }
    lab.write(&lab.file(1, 1), &original[..4]);
    assert_eq!(lab.problems().await, [(None, AuditProblem::Missing { first: 4, last: 9 })]);
}

#[tokio::test]
async fn an_inserted_record_is_named_whether_it_is_a_copy_or_a_forgery() {
    let lab = Lab::with_records(9).await;
    let original = lab.lines(&lab.file(1, 1));
    let mut lines = original.clone();
    lines.insert(6, original[3].clone());
    lab.write(&lab.file(1, 1), &lines);
    assert_eq!(lab.problems().await, [(Some(7), AuditProblem::OutOfPlace { number: 3 })]);

    // It has the next number, and a MAC made with another key.
    let (body, _) = original[5].split_once(",\"mac\"").unwrap();
    let mut forged = body.replace("\"number\":5,", "\"number\":6,").into_bytes();
    AuditKey::new(&[8; 32]).finish(&[0; 32], &mut forged, 0);
    let mut lines = original.clone();
    lines.insert(6, String::from_utf8(forged).unwrap().trim_end().to_owned());
    lab.write(&lab.file(1, 1), &lines);
    assert_eq!(lab.problems().await, [(Some(7), AuditProblem::Changed { number: 6 })]);

    let mut lines = original.clone();
    lines.insert(6, "{}".to_owned());
    lab.write(&lab.file(1, 1), &lines);
    assert_eq!(lab.problems().await, [(Some(7), AuditProblem::NotARecord)]);
}

#[tokio::test]
async fn records_in_another_order_are_found_at_the_first_of_them() {
    let lab = Lab::with_records(9).await;
    let mut lines = lab.lines(&lab.file(1, 1));
    lines.swap(4, 5);
    lab.write(&lab.file(1, 1), &lines);
    assert_eq!(lab.problems().await[0], (Some(5), AuditProblem::Missing { first: 4, last: 4 }));
}

#[tokio::test]
async fn what_is_only_cut_off_in_the_middle_of_a_line_is_missed_too() {
    let lab = Lab::with_records(3).await;
    let contents = std::fs::read(lab.file(1, 1)).unwrap();
    std::fs::write(lab.file(1, 1), &contents[..contents.len() - 1]).unwrap();
    let verified = lab.verify().await;
    assert_eq!(verified.findings[0].problem, AuditProblem::Missing { first: 3, last: 3 });
    assert_eq!(verified.notes.len(), 1);
}

#[tokio::test]
async fn a_series_that_is_gone_is_missed() {
    let lab = Lab::with_records(3).await;
    std::fs::remove_dir_all(lab.audit()).unwrap();
    assert_eq!(lab.problems().await, [(None, AuditProblem::SeriesMissing { records: 3 })]);
    // Later records do not cover it up.
    lab.append_and_close(4).await;
    assert_eq!(lab.problems().await, [(None, AuditProblem::SeriesMissing { records: 3 })]);
    assert_eq!(lab.files(), [lab.file(2, 1)]);
}

#[tokio::test]
async fn a_shortened_series_is_not_gone_on_with() {
    let lab = Lab::with_records(3).await;
    let lines = lab.lines(&lab.file(1, 1));
    lab.write(&lab.file(1, 1), &lines[..2]);
    lab.append_and_close(2).await;
    assert_eq!(lab.problems().await, [(None, AuditProblem::Missing { first: 2, last: 3 })]);
    assert_eq!(lab.files(), [lab.file(1, 1), lab.file(2, 1)]);
}

#[tokio::test]
async fn a_series_of_somebody_elses_making_is_noticed() {
    let lab = Lab::with_records(3).await;
    std::fs::copy(lab.file(1, 1), lab.file(2, 1)).unwrap();
    let problems = lab.problems().await;
    assert_eq!(problems[..2], [(None, AuditProblem::AnchorMissing), (Some(1), AuditProblem::HeaderChanged)]);
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_and_noted() {
    let lab = Lab::with_records(2).await;
    let mut contents = std::fs::read(lab.file(1, 1)).unwrap();
    contents.extend_from_slice(b"{\"number\":3,\"at");
    std::fs::write(lab.file(1, 1), contents).unwrap();
    let verified = lab.verify().await;
    assert!(verified.is_good() && verified.notes[0].contains("15 bytes"), "{verified:?}");

    lab.append_and_close(1).await;
    let verified = lab.verify().await;
    assert!(verified.is_good() && verified.notes.is_empty() && verified.records == 4, "{verified:?}");
    let page = lab.records(&AuditQuery { operation: Some(Operation::AuditRecovered), ..AuditQuery::default() }).await;
    assert_eq!((numbers(&page), page.records[0].subject.count), (vec![3], Some(15)));
    assert_eq!(page.records[0].actor, AuditActor::System);
}

#[tokio::test]
async fn a_series_that_another_process_wrote_meanwhile_and_somebody_cut_off_is_not_continued() {
    let mut lab = Lab::new().await;
    lab.options.segment_bytes = 0;
    let running = lab.open().await;
    lab.append(&running).await.unwrap();
    // The running writer holds the first series.
    let other = lab.open().await;
    for _ in 0..2 {
        lab.append(&other).await.unwrap();
    }
    other.close().await;
    drop(other);
    let second = lab.file(2, 1);
    let free = second.clone();
    tokio::task::spawn_blocking(move || std::fs::File::open(free).unwrap().lock().unwrap()).await.unwrap();
    let mut lines = lab.lines(&second);
    lines.pop();
    lab.write(&second, &lines);
    // A full file makes it look for another series. A segment takes at least as many bytes as the
    // longest line may have.
    std::fs::write(lab.file(1, 2), "in the way").unwrap();
    for _ in 0..400 {
        lab.append(&running).await.unwrap();
    }
    running.close().await;
    drop(running);
    std::fs::remove_file(lab.file(1, 2)).unwrap();
    assert!(lab.file(3, 1).exists());
    assert!(!lab.verify().await.is_good());
}
