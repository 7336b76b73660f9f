//! The audit log.

use std::path::PathBuf;
use std::str;
use std::sync::LazyLock;

use keyway_audit::fuzzing::{self, Change};

use crate::bytes::Bytes;
use crate::target::{Target, folder};

const SEGMENTS_NAME: &str = "audit-segments";

/// Changes of the segments of a log.
pub(crate) const SEGMENTS: Target = Target {
    name: SEGMENTS_NAME,
    run: |input| {
        static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| folder(SEGMENTS_NAME).join("log"));
        let mut bytes = Bytes::new(input);
        let mut changes = Vec::new();
        while !bytes.is_empty() {
            let second = bytes.flag();
            changes.push((second, change(&mut bytes)));
        }
        fuzzing::segments(&FOLDER, &changes);
    },
    longest: 1_024,
    inputs: 100_000,
    seeds: &[],
    words: &["{\"number\":", "{\"segment\":", "\",\"mac\":\"", "\"}\n", "\n"],
};

fn change(bytes: &mut Bytes<'_>) -> Change {
    match bytes.byte() % 6 {
        0 => Change::Alter(bytes.size(), bytes.byte()),
        1 => Change::Remove(bytes.size(), bytes.size()),
        2 => Change::Insert(bytes.size(), bytes.slice().to_vec()),
        3 => Change::Copy(bytes.flag(), bytes.byte().into(), bytes.byte().into()),
        4 => Change::Drop(bytes.byte().into()),
        _ => Change::Replace(bytes.slice().repeat(bytes.byte().into())),
    }
}

/// Roots, cursors and names of files.
pub(crate) const TEXT: Target = Target {
    name: "audit-text",
    run: |input| str::from_utf8(input).map_or((), fuzzing::text),
    longest: 512,
    inputs: 8_000_000,
    seeds: &[
        ("a root of another log", ROOT),
        ("a file", "00001-00000001.jsonl"),
        ("a cursor", "AAAAAAAAAAAAAAAAAAAAAAAAAAEAAAAB"),
    ],
    words: &["\"findings\":[", "\"heads\":{", "\"problem\":\"root_changed\"", "\"series\":", ".jsonl", "4294967295"],
};

const ROOT: &str = concat!(
    r#"{"root":1,"at":"2026-01-01T00:00:00Z","heads":{"1":{"number":1,"mac":""#,
    "0000000000000000000000000000000000000000000000000000000000000000",
    r#""}},"mac":"0000000000000000000000000000000000000000000000000000000000000000"}"#
);
