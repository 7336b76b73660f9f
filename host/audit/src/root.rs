//! The root: how far all series have certainly come, in one line under a MAC.
//!
//! ```text
//! {"root":17,"at":"2026-..","heads":{"1":{"number":5012,"mac":".."},"2":{..}},"mac":"<64 digits>"}
//! ```
//!
//! **Invariant:** a root never names a record that is not yet safe on the disk, so a root beyond
//! the end of a series proves that records were removed. A series is in the root before its first
//! file exists. A series that the root does not name is neither continued nor added to the root.
//!
//! **A root that is gone stays a finding.** A new root notes what was found, and names only the
//! series that are begun under it ([`judge`]). Removing the new root as well leads to the same
//! note.
//!
//! What tells a removed root from a database that never had one: the first root is stored when the
//! log is opened for the first time, and then the host's key says so under the master key
//! ([`RootNote`]). Each record and each segment's header names the root of its time, so an older
//! root is a finding, too. Restoring the log *and* the root to the same earlier state goes
//! undetected, unless a root that was kept elsewhere is compared.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use jiff::Timestamp;
use keyway_storage::AuditAnchorRecord;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::chain::{AuditKey, Head, Line, Tag};
use crate::error::AuditCause;
use crate::problem::AuditProblem;

/// Stands in the place of the MAC before, so no line of a series passes for a root or the other way
/// round.
const BEFORE: Tag = *b"keyway.v1: root of the audit log";

/// How far all series have come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Root {
    /// Ascends with each root that is stored.
    #[serde(rename = "root")]
    pub(crate) number: u64,
    /// When it was made.
    pub(crate) at: Timestamp,
    /// The last record of each series that is safe on the disk.
    pub(crate) heads: BTreeMap<u32, Head>,
    /// Whether the host's key said that there is a root when this one was made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) bound: bool,
    /// What was found wrong when the log went on in spite of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) findings: Vec<Noted>,
}

/// A finding, and when it was first made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Noted {
    pub(crate) at: Timestamp,
    #[serde(flatten)]
    pub(crate) found: Found,
}

/// A finding about the root or about a series' place in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) series: Option<u32>,
    #[serde(flatten)]
    pub(crate) problem: AuditProblem,
}

impl Root {
    /// The root as a line with its MAC.
    pub(crate) fn seal(&self, key: &AuditKey) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.pop();
        key.finish(&BEFORE, &mut line, 0);
        line.pop();
        Ok(line)
    }

    /// `None` for a line that is not a root under this key.
    pub(crate) fn open(key: &AuditKey, line: &[u8]) -> Option<Self> {
        key.follows(&BEFORE, &Line::parse(line)?).then(|| serde_json::from_slice(line).ok())?
    }

    /// A series has come as far as this head.
    pub(crate) fn advance(&mut self, series: u32, head: Head) {
        let known = self.heads.entry(series).or_insert(head);
        if head.number >= known.number {
            *known = head;
        }
    }

    /// Whether this finding is noted.
    pub(crate) fn notes(&self, found: &Found) -> bool {
        self.findings.iter().any(|noted| noted.found == *found)
    }

    /// Notes a finding, once.
    pub(crate) fn note(&mut self, found: Found, at: Timestamp) {
        if !self.notes(&found) {
            self.findings.push(Noted { at, found });
        }
    }

    /// Adds what another root says.
    fn merge(&mut self, other: &Self) {
        self.bound |= other.bound;
        for (series, head) in &other.heads {
            self.advance(*series, *head);
        }
        let unknown: Vec<_> = other.findings.iter().filter(|noted| !self.notes(&noted.found)).cloned().collect();
        self.findings.extend(unknown);
    }
}

/// A root of the audit log, to be kept in another place. It is one line of JSON: its number, its
/// time, how far each series had come, and its MAC. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRoot(String);

/// A text that is not a root of an audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a root is the one line that `keyway audit root` printed, unchanged")]
pub struct InvalidRoot;

impl AuditRoot {
    pub(crate) fn from_line(line: &[u8]) -> Option<Self> {
        std::str::from_utf8(line).ok()?.parse().ok()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for AuditRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AuditRoot {
    type Err = InvalidRoot;

    /// Whether it is authentic is only known when the log is compared with it.
    fn from_str(text: &str) -> Result<Self, InvalidRoot> {
        let line = text.trim();
        let is_root = Line::parse(line.as_bytes()).is_some() && serde_json::from_str::<Root>(line).is_ok();
        is_root.then(|| Self(line.to_owned())).ok_or(InvalidRoot)
    }
}

/// Where the host notes, under its master key, that the audit log has a root.
#[async_trait]
pub trait RootNote: Send + Sync {
    /// Whether that was noted when the host was opened.
    fn is_noted(&self) -> bool;

    /// Notes it. Returns whether it was not noted before.
    ///
    /// # Errors
    /// Errors of the database and of a key service.
    async fn note(&self) -> Result<bool, AuditCause>;
}

/// What the database says about the root.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) rows: Vec<Vec<u8>>,
    /// Of a release that had no root. Read only when there is no row.
    pub(crate) anchors: Vec<AuditAnchorRecord>,
    /// Whether the host's key says that there is a root.
    pub(crate) is_noted: bool,
}

/// What the files say about the root.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The series that have files.
    pub(crate) series: Vec<u32>,
    /// The highest number of a root that a record or a header names; 0 when none does.
    pub(crate) root: u64,
}

/// The root to go on with.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) root: Root,
    /// The row that holds it, or that it replaces; `None` when it is new.
    pub(crate) row: Option<Vec<u8>>,
    /// What is wrong now, noted in the root or not.
    pub(crate) found: Vec<Found>,
}

/// Which root counts, and what is wrong with it. `known` is the root that this process knows;
/// `seen` must be older than `stored`.
pub(crate) fn judge(key: &AuditKey, stored: &Stored, known: &Root, seen: &Seen) -> Judged {
    let least = known.number.max(seen.root);
    let good = stored.rows.iter().filter_map(|row| Some((Root::open(key, row)?, row)));
    let mut found = Vec::new();
    let mut finds = |series, problem| found.push(Found { series, problem });
    let (mut root, mut row) = (known.clone(), None);
    if let Some((newest, its_row)) = good.max_by_key(|(root, _)| root.number) {
        if stored.rows.len() > 1 {
            finds(None, AuditProblem::RootChanged);
        }
        (root, row) = (newest, Some(its_row.clone()));
        if root.number < least {
            finds(None, AuditProblem::RootOlder);
            root.merge(known);
        }
    } else if !stored.rows.is_empty() {
        finds(None, AuditProblem::RootChanged);
    } else if least > 0 || (stored.is_noted && !seen.series.is_empty()) {
        finds(None, AuditProblem::RootMissing);
    } else if stored.is_noted {
        finds(None, AuditProblem::LogMissing);
    } else {
        for anchor in &stored.anchors {
            if key.is_anchor(anchor.series, anchor.number, &anchor.head, &anchor.mac) {
                root.advance(anchor.series, Head { number: anchor.number, tag: anchor.head });
            } else {
                finds(Some(anchor.series), AuditProblem::AnchorChanged);
            }
        }
    }
    root.number = root.number.max(least);
    let is_anchored = |series: &u32| root.heads.contains_key(series) || found.iter().any(|f| f.series == Some(*series));
    let unknown: Vec<_> = seen.series.iter().copied().filter(|series| !is_anchored(series)).collect();
    found
        .extend(unknown.into_iter().map(|series| Found { series: Some(series), problem: AuditProblem::AnchorMissing }));
    Judged { root, row, found }
}
