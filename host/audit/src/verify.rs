//! Checks the whole log against the audit key and the anchors.
//!
//! Each finding names the first bad record, and reading continues behind it. A line counts as good
//! when it follows the last good one, or a bad one either as it stands or as it should stand. One
//! change is therefore one finding, and neither hides nor multiplies others.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use keyway_storage::AuditAnchorRecord;
use serde::Serialize;

use crate::chain::{self, AuditKey, Line, Tag};
use crate::query::Order;
use crate::read::Lines;
use crate::segment::{self, Head, Name};

/// How many findings are listed; the first ones matter.
const FINDINGS: usize = 100;

/// The result of checking the whole log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditVerification {
    /// How many records are good.
    pub records: u64,
    /// How many segments were read.
    pub segments: u64,
    /// Where each series ends. Kept elsewhere, these heads later reveal even that an older copy of
    /// everything was restored.
    pub heads: Vec<SeriesHead>,
    /// What is wrong, in the order of the log; at most 100 findings.
    pub findings: Vec<AuditFinding>,
    /// Things worth knowing that are not problems.
    pub notes: Vec<String>,
}

impl AuditVerification {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Where a series ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SeriesHead {
    /// Which series.
    pub series: u32,
    /// The number of its last record.
    pub number: u64,
    /// The MAC of its last line, in hexadecimal digits.
    pub mac: String,
    /// Up to which record the database vouches for the series; `None` when it does not.
    pub anchored: Option<u64>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditFinding {
    /// In which series.
    pub series: u32,
    /// In which file.
    pub file: String,
    /// In which line of it, from 1; `None` when it is about the whole file or its end.
    pub line: Option<u64>,
    /// What.
    #[serde(flatten)]
    pub problem: AuditProblem,
}

impl fmt::Display for AuditFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// The kind of a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "problem")]
#[non_exhaustive]
pub enum AuditProblem {
    /// A record was changed, or was not written by this log at all.
    Changed {
        /// Its number.
        number: u64,
    },
    /// Records are missing.
    Missing {
        /// The first one.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// A record is out of place: moved, repeated or inserted.
    OutOfPlace {
        /// The number that it bears.
        number: u64,
    },
    /// A line is not a record.
    NotARecord,
    /// The first line of a segment was changed, or belongs to another segment.
    HeaderChanged,
    /// Whole segments are missing.
    SegmentsMissing {
        /// The first one.
        first: u32,
        /// The last one.
        last: u32,
    },
    /// A whole series is missing.
    SeriesMissing {
        /// How many records it had.
        records: u64,
    },
    /// The anchor of the series in the database was not written by this broker.
    AnchorChanged,
    /// The database has no anchor for this series, as if it had been removed.
    AnchorMissing,
}

impl fmt::Display for AuditProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { number } => write!(f, "record {number} was changed or inserted"),
            Self::Missing { first, last } if first == last => write!(f, "record {first} is missing"),
            Self::Missing { first, last } => write!(f, "records {first} to {last} are missing"),
            Self::OutOfPlace { number } => {
                write!(f, "record {number} does not belong here; it was moved, repeated or inserted")
            }
            Self::NotARecord => f.write_str("this line is not a record; it was changed or inserted"),
            Self::HeaderChanged => f.write_str("the first line of this segment was changed, or the file was renamed"),
            Self::SegmentsMissing { first, last } if first == last => {
                write!(f, "segment {first} of the series is missing")
            }
            Self::SegmentsMissing { first, last } => write!(f, "segments {first} to {last} of the series are missing"),
            Self::SeriesMissing { records } => write!(f, "the whole series is missing; it had {records} records"),
            Self::AnchorChanged => f.write_str("the anchor of this series in the database was changed"),
            Self::AnchorMissing => f.write_str("the anchor of this series in the database was removed"),
        }
    }
}

/// Checks the log in `folder`. `anchors` must have been read before.
pub(crate) fn verify(folder: &Path, key: &AuditKey, anchors: &[AuditAnchorRecord]) -> io::Result<AuditVerification> {
    let mut result = AuditVerification::default();
    let files = segment::list(folder)?;
    let mut all: BTreeMap<u32, (&[Name], Option<&AuditAnchorRecord>)> = BTreeMap::new();
    for (series, segments) in &files {
        all.entry(*series).or_default().0 = segments;
    }
    for anchor in anchors {
        all.entry(anchor.series).or_default().1 = Some(anchor);
    }
    for (series, (segments, anchor)) in all {
        Series { folder, key, series, anchor, at: Position::new(), result: &mut result }.verify(segments)?;
    }
    result.findings.truncate(FINDINGS);
    Ok(result)
}

/// One series while it is checked.
struct Series<'a> {
    folder: &'a Path,
    key: &'a AuditKey,
    series: u32,
    anchor: Option<&'a AuditAnchorRecord>,
    at: Position,
    result: &'a mut AuditVerification,
}

/// What the next line may follow.
struct Position {
    /// The number of the last record, good or bad.
    number: u64,
    /// The last good line.
    good: Head,
    /// Further MACs that the next line may follow, after a bad line.
    or: Vec<Tag>,
}

impl Position {
    fn new() -> Self {
        Self::at(Head::NONE)
    }

    fn at(head: Head) -> Self {
        Self { number: head.number, good: head, or: Vec::new() }
    }

    /// Whether this line is the next one: after the last good line, or after a bad line in its
    /// place.
    fn is_followed_by(&self, key: &AuditKey, number: u64, line: &Line<'_>) -> bool {
        let next = |to: u64| to.saturating_add(1);
        (number == next(self.good.number) && key.follows(&self.good.tag, line))
            || (number == next(self.number) && self.or.iter().any(|tag| key.follows(tag, line)))
    }
}

impl Series<'_> {
    fn verify(mut self, segments: &[Name]) -> io::Result<()> {
        let anchor = self.check_anchor(segments);
        let mut expected = 1;
        let mut last_file = Name { series: self.series, segment: 1 }.file_name();
        for (index, name) in segments.iter().enumerate() {
            last_file = name.file_name();
            if name.segment > expected {
                let (first, last) = (expected, name.segment - 1);
                self.found(&last_file, None, AuditProblem::SegmentsMissing { first, last });
            }
            expected = name.segment.saturating_add(1);
            self.segment(*name, anchor.as_ref())?;
            self.note_unfinished(*name, index + 1 == segments.len())?;
        }
        if let Some(anchor) = &anchor
            && anchor.number > self.at.number
        {
            let problem = if segments.is_empty() {
                AuditProblem::SeriesMissing { records: anchor.number }
            } else {
                AuditProblem::Missing { first: self.at.number + 1, last: anchor.number }
            };
            self.found(&last_file, None, problem);
        }
        self.result.heads.push(SeriesHead {
            series: self.series,
            number: self.at.number,
            mac: chain::hex(&self.at.good.tag),
            anchored: anchor.map(|anchor| anchor.number),
        });
        Ok(())
    }

    /// The end that the database vouches for, if any.
    fn check_anchor(&mut self, segments: &[Name]) -> Option<Head> {
        let problem = match self.anchor {
            Some(anchor) if self.key.is_anchor(anchor.series, anchor.number, &anchor.head, &anchor.mac) => {
                return Some(Head { number: anchor.number, tag: anchor.head });
            }
            Some(_) => AuditProblem::AnchorChanged,
            None => AuditProblem::AnchorMissing,
        };
        let last = segments.last().copied().unwrap_or(Name { series: self.series, segment: 1 });
        self.found(&last.file_name(), None, problem);
        None
    }

    fn segment(&mut self, name: Name, anchor: Option<&Head>) -> io::Result<()> {
        let file = name.file_name();
        let mut lines = Lines::open(&name.in_folder(self.folder), Order::Oldest)?;
        self.result.segments += 1;
        let first = lines.next()?;
        self.header(name, &file, first.as_deref());
        let mut number_of_line = 1;
        while let Some(line) = lines.next()? {
            number_of_line += 1;
            if let Some(problem) = self.line(&line, anchor) {
                self.found(&file, Some(number_of_line), problem);
            }
        }
        Ok(())
    }

    /// Checks the first line of a segment: which segment it is, and which line it follows.
    fn header(&mut self, name: Name, file: &str, line: Option<&[u8]>) {
        let head = line.and_then(|line| segment::first_head(line, self.key, name));
        let Some((previous, Head { number, tag })) = head else {
            self.found(file, Some(1), AuditProblem::HeaderChanged);
            // The records after the header can follow only from the MAC it carries, so the first of
            // them is checked against that.
            self.at.or = line.and_then(Line::parse).map(|line| line.tag).into_iter().collect();
            return;
        };
        // Such a line needs the key, so its statement about the records before it is true.
        if number > self.at.number {
            let (first, last) = (self.at.number + 1, number);
            self.found(file, None, AuditProblem::Missing { first, last });
        } else if number < self.at.number {
            self.found(file, None, AuditProblem::OutOfPlace { number: self.at.number });
        } else if previous != self.at.good.tag && !self.at.or.contains(&previous) {
            self.found(file, None, AuditProblem::Changed { number });
        }
        self.at = Position::at(Head { number, tag });
    }

    /// What is wrong with a line, if anything.
    fn line(&mut self, bytes: &[u8], anchor: Option<&Head>) -> Option<AuditProblem> {
        let (Some(line), Some(number)) = (Line::parse(bytes), segment::number_of(bytes)) else {
            return Some(AuditProblem::NotARecord);
        };
        if self.at.is_followed_by(self.key, number, &line) {
            self.at = Position::at(Head { number, tag: line.tag });
            // Impossible without the key, unless an older log was combined with a newer database.
            if anchor.is_some_and(|anchor| anchor.number == number && anchor.tag != line.tag) {
                return Some(AuditProblem::Changed { number });
            }
            self.result.records += 1;
            return None;
        }
        let expected = self.at.number.saturating_add(1);
        if number < expected {
            return Some(AuditProblem::OutOfPlace { number });
        }
        self.at.or = vec![line.tag, self.key.tag(&self.at.good.tag, line.body)];
        self.at.number = number;
        Some(if number == expected {
            AuditProblem::Changed { number }
        } else {
            AuditProblem::Missing { first: expected, last: number - 1 }
        })
    }

    fn note_unfinished(&mut self, name: Name, is_last: bool) -> io::Result<()> {
        let path = name.in_folder(self.folder);
        let size = std::fs::metadata(&path)?.len();
        let whole = segment::whole_lines(&path)?;
        if size > whole {
            let why = if is_last { "being written, or never finished" } else { "never finished" };
            let file = name.file_name();
            self.result.notes.push(format!(
                "{file}: the last {} bytes are an incomplete line ({why}); their record was never confirmed",
                size - whole
            ));
        }
        Ok(())
    }

    fn found(&mut self, file: &str, line: Option<u64>, problem: AuditProblem) {
        if self.result.findings.len() < FINDINGS {
            self.result.findings.push(AuditFinding { series: self.series, file: file.to_owned(), line, problem });
        }
    }
}
