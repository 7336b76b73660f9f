//! What can be wrong with a log.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditFinding {
    /// In which series; `None` when it is about the whole log.
    pub series: Option<u32>,
    /// In which file.
    pub file: String,
    /// In which line of it, from 1; `None` when it is about the whole file or its end.
    pub line: Option<u64>,
    /// Since when the log says so itself; `None` for what is seen only now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
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
        write!(f, ": {}", self.problem)?;
        self.since.map_or(Ok(()), |since| write!(f, " (found {since:.0})"))
    }
}

/// The kind of a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// In the place of a segment is no regular file.
    NotAFile,
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
    /// The anchor of the series, from a release that had no root, was not written by this broker.
    AnchorChanged,
    /// The root does not name this series, so nothing says where it ended.
    AnchorMissing,
    /// The database has no root, although the log says that there was one.
    RootMissing,
    /// The root in the database was not written by this broker, or other rows stand beside it.
    RootChanged,
    /// The root in the database is older than the log: the database is an earlier copy.
    RootOlder,
    /// There is neither a log nor a root, but the host's key says that there was a root.
    LogMissing,
    /// The host's key was an earlier copy, which said neither that rows are sealed nor that there
    /// is a root, although there was one.
    HostKeyOlder,
    /// The root that was kept elsewhere was not made by this log.
    KeptRootForeign,
    /// The root in the database is older than the root that was kept elsewhere: database and log
    /// are an earlier copy.
    RolledBack {
        /// The number of the root in the database.
        root: u64,
        /// The number of the root that was kept elsewhere.
        kept: u64,
    },
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
            Self::AnchorMissing => {
                f.write_str("the root in the database does not name this series, so its end may be missing")
            }
            Self::RootMissing => {
                f.write_str("the root of the log in the database was removed, so ends of series may be missing")
            }
            Self::NotAFile => f.write_str("this is no regular file, so it was not read"),
            Self::RootChanged => f.write_str("the root of the log in the database was changed"),
            Self::RootOlder => f.write_str("the database is older than the log; an earlier copy was restored"),
            Self::LogMissing => {
                f.write_str("there was no log although the database had one; all of it may be missing")
            }
            Self::HostKeyOlder => f.write_str(
                "an earlier copy of the host's key was put into the database, so changed rows may have been sealed as they were",
            ),
            Self::KeptRootForeign => f.write_str("the given root was not made by this log, or was changed"),
            Self::RolledBack { root, kept } => write!(
                f,
                "database and log are an earlier copy: they are at root {root}, but the given root is number {kept}"
            ),
        }
    }
}
