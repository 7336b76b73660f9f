//! Checks the whole log against the audit key, the root, and what series say about each other.
//!
//! Each finding names the first bad record, and reading continues behind it. A line counts as good
//! when it follows the last good one, or a bad one either as it stands or as it should stand. One
//! change is therefore one finding, and neither hides nor multiplies others.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::chain::{self, AuditKey, Head, Line, Tag};
use crate::problem::{AuditFinding, AuditProblem};
use crate::query::Order;
use crate::read::Lines;
use crate::root::{AuditRoot, Found, Judged, Root, Seen};
use crate::segment::{self, Header, Name};

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
    /// Where each series ends.
    pub heads: Vec<SeriesHead>,
    /// The number of the root in the database.
    pub root: u64,
    /// The number of the root that was kept elsewhere and that the log was compared with. Without
    /// one, an older copy of everything looks the same as the log.
    pub kept_root: Option<u64>,
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

/// The segments, and what their headers say. Made before the root is read.
pub(crate) struct Survey {
    pub(crate) seen: Seen,
    /// How far series had come, by the headers of other series.
    heads: Vec<(u32, Head)>,
}

/// Reads the headers of the log in `folder`.
pub(crate) fn survey(folder: &Path, key: &AuditKey) -> io::Result<Survey> {
    let files = segment::list(folder)?;
    let mut survey = Survey { seen: Seen { series: files.keys().copied().collect(), root: 0 }, heads: Vec::new() };
    for name in files.values().flatten() {
        // What is no file says nothing, and is found later.
        let header = or_no_file(segment::header(&name.in_folder(folder), key, *name), None)?;
        survey.heads.extend(header.into_iter().flat_map(|header| header.heads));
    }
    for name in files.values().filter_map(|segments| segments.last()) {
        let root = or_no_file(segment::newest_root(&name.in_folder(folder), key, *name), 0)?;
        survey.seen.root = survey.seen.root.max(root);
    }
    Ok(survey)
}

fn or_no_file<T>(result: io::Result<T>, otherwise: T) -> io::Result<T> {
    match result {
        Err(error) if segment::is_not_a_file(&error) => Ok(otherwise),
        result => result,
    }
}

/// Checks the log in `folder`. `judged` must have been read after `survey`, and `kept` is a root
/// from elsewhere.
pub(crate) fn verify(
    folder: &Path,
    key: &AuditKey,
    survey: &Survey,
    judged: &Judged,
    kept: Option<&AuditRoot>,
) -> io::Result<AuditVerification> {
    let mut result = AuditVerification { root: judged.root.number, ..AuditVerification::default() };
    let files = segment::list(folder)?;
    let kept = kept.map(|kept| Root::open(key, kept.as_bytes()));
    let mut found: Vec<_> = judged.root.findings.iter().map(|noted| (Some(noted.at), noted.found.clone())).collect();
    found.extend(judged.found.iter().filter(|found| !judged.root.notes(found)).map(|found| (None, found.clone())));
    match &kept {
        Some(None) => found.push((None, Found { series: None, problem: AuditProblem::KeptRootForeign })),
        Some(Some(kept)) if kept.number > judged.root.number => {
            let problem = AuditProblem::RolledBack { root: judged.root.number, kept: kept.number };
            found.push((None, Found { series: None, problem }));
        }
        _ => {}
    }
    let kept = kept.flatten();
    result.kept_root = kept.as_ref().map(|kept| kept.number);
    for (since, Found { series, problem }) in found {
        let last = series.map(|series| {
            files.get(&series).and_then(|segments| segments.last().copied()).unwrap_or(Name { series, segment: 1 })
        });
        let file = last.map_or_else(|| "database".to_owned(), Name::file_name);
        result.findings.push(AuditFinding { series, file, line: None, since, problem });
    }

    let mut all: BTreeMap<u32, BTreeMap<u64, Vec<Tag>>> = BTreeMap::new();
    // A series that was begun since the root was read is left to the next time.
    let is_known = |series: &u32| survey.seen.series.contains(series) || judged.root.heads.contains_key(series);
    all.extend(files.keys().filter(|series| is_known(series)).map(|series| (*series, BTreeMap::new())));
    let kept = kept.iter().flat_map(|root| &root.heads);
    let heads = judged.root.heads.iter().chain(kept).map(|(series, head)| (*series, *head));
    for (series, head) in heads.chain(survey.heads.iter().copied()) {
        let of_series = all.entry(series).or_default();
        if head.number > 0 {
            of_series.entry(head.number).or_default().push(head.tag);
        }
    }
    for (series, vouched) in all {
        let anchored = judged.root.heads.get(&series).map(|head| head.number);
        let segments = files.get(&series).map_or(&[][..], Vec::as_slice);
        let at = Position::new();
        Series { folder, key, series, vouched, anchored, at, unmatched: None, result: &mut result }.verify(segments)?;
    }
    result.findings.truncate(FINDINGS);
    Ok(result)
}

/// One series while it is checked.
struct Series<'a> {
    folder: &'a Path,
    key: &'a AuditKey,
    series: u32,
    /// The MACs that certain records had, by number: the root, other series, or a root that was
    /// kept elsewhere say so. After the first record of a segment, that of its header counts too.
    vouched: BTreeMap<u64, Vec<Tag>>,
    anchored: Option<u64>,
    at: Position,
    /// Where a record is with another MAC than it was vouched for, unless the header that follows
    /// has it.
    unmatched: Option<Unmatched>,
    result: &'a mut AuditVerification,
}

struct Unmatched {
    number: u64,
    tags: Vec<Tag>,
    file: String,
    line: u64,
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
        let mut expected = 1;
        let mut last_file = Name { series: self.series, segment: 1 }.file_name();
        for (index, name) in segments.iter().enumerate() {
            last_file = name.file_name();
            if name.segment > expected {
                let (first, last) = (expected, name.segment - 1);
                self.found(&last_file, None, AuditProblem::SegmentsMissing { first, last });
            }
            expected = name.segment.saturating_add(1);
            match Lines::open(&name.in_folder(self.folder), Order::Oldest, None) {
                Err(error) if segment::is_not_a_file(&error) => self.found(&last_file, None, AuditProblem::NotAFile),
                lines => {
                    self.segment(*name, lines?)?;
                    self.note_unfinished(*name, index + 1 == segments.len())?;
                }
            }
        }
        self.report_unmatched();
        if let Some((last, _)) = self.vouched.last_key_value()
            && *last > self.at.number
        {
            let problem = if segments.is_empty() {
                AuditProblem::SeriesMissing { records: *last }
            } else {
                AuditProblem::Missing { first: self.at.number + 1, last: *last }
            };
            self.found(&last_file, None, problem);
        }
        self.result.heads.push(SeriesHead {
            series: self.series,
            number: self.at.number,
            mac: chain::hex(&self.at.good.tag),
            anchored: self.anchored,
        });
        Ok(())
    }

    /// A good record is here: compares its MAC with those that are vouched for.
    fn compare(&mut self, head: Head, file: &str, line: u64) {
        self.report_unmatched();
        let vouched = self.vouched.get(&head.number).into_iter().flatten();
        let tags: Vec<_> = vouched.filter(|tag| **tag != head.tag).copied().collect();
        if !tags.is_empty() {
            self.unmatched = Some(Unmatched { number: head.number, tags, file: file.to_owned(), line });
        }
    }

    /// Impossible without the key, unless an older log was combined with a newer root.
    fn report_unmatched(&mut self) {
        if let Some(unmatched) = self.unmatched.take() {
            self.found(&unmatched.file, Some(unmatched.line), AuditProblem::Changed { number: unmatched.number });
        }
    }

    fn segment(&mut self, name: Name, mut lines: Lines) -> io::Result<()> {
        let file = name.file_name();
        self.result.segments += 1;
        let first = lines.next()?;
        self.header(name, &file, first.as_deref());
        let mut number_of_line = 1;
        while let Some(line) = lines.next()? {
            number_of_line += 1;
            match self.line(&line) {
                Ok(head) => self.compare(head, &file, number_of_line),
                Err(problem) => self.found(&file, Some(number_of_line), problem),
            }
        }
        Ok(())
    }

    /// Checks the first line of a segment: which segment it is, and which line it follows.
    fn header(&mut self, name: Name, file: &str, line: Option<&[u8]>) {
        let head = line.and_then(|line| segment::first_head(line, self.key, name));
        let Some((Header { previous, .. }, Head { number, tag })) = head else {
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
        if let Some(unmatched) = self.unmatched.as_mut().filter(|unmatched| unmatched.number == number) {
            unmatched.tags.retain(|vouched| *vouched != tag);
        }
        self.unmatched.take_if(|unmatched| unmatched.tags.is_empty());
    }

    /// The head that a line forms, or what is wrong with it.
    fn line(&mut self, bytes: &[u8]) -> Result<Head, AuditProblem> {
        let (Some(line), Some(number)) = (Line::parse(bytes), segment::number_of(bytes)) else {
            return Err(AuditProblem::NotARecord);
        };
        if self.at.is_followed_by(self.key, number, &line) {
            let head = Head { number, tag: line.tag };
            self.at = Position::at(head);
            self.result.records += 1;
            return Ok(head);
        }
        let expected = self.at.number.saturating_add(1);
        if number < expected {
            return Err(AuditProblem::OutOfPlace { number });
        }
        self.at.or = vec![line.tag, self.key.tag(&self.at.good.tag, line.body)];
        self.at.number = number;
        Err(if number == expected {
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
            let (series, file) = (Some(self.series), file.to_owned());
            self.result.findings.push(AuditFinding { series, file, line, since: None, problem });
        }
    }
}
