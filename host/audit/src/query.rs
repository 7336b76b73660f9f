//! Queries of the log: filter and order.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use keyway_storage::{ConnectionId, EntryId, RotationId, WorkspaceId};
use serde::Serialize;

use crate::error::InvalidQuery;
use crate::event::AuditRecord;
use crate::operation::Operation;
use crate::outcome::OutcomeFilter;

/// The maximum number of records in a page.
pub const AUDIT_RECORDS_PER_PAGE: usize = 1_000;

/// The default number of records in a page.
const DEFAULT_LIMIT: usize = 100;

/// The order of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest first.
    #[default]
    Newest,
    /// The oldest first.
    Oldest,
}

impl Order {
    /// Whether a record of this number is still to be read when the previous page ended at `start`.
    pub(crate) fn is_ahead(self, number: u64, start: Option<u64>) -> bool {
        start.is_none_or(|start| match self {
            Self::Newest => number < start,
            Self::Oldest => number > start,
        })
    }
}

impl FromStr for Order {
    type Err = InvalidQuery;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "newest" => Ok(Self::Newest),
            "oldest" => Ok(Self::Oldest),
            _ => Err(InvalidQuery::Order),
        }
    }
}

/// Which records match: those that satisfy every filter that is set.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct AuditQuery {
    /// At this time or later.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// In this workspace.
    pub workspace: Option<WorkspaceId>,
    /// By this API key (id or name), or by the operator of this name.
    pub actor: Option<String>,
    /// Only this operation.
    pub operation: Option<Operation>,
    /// About this vault entry.
    pub entry: Option<EntryId>,
    /// About this connection.
    pub connection: Option<ConnectionId>,
    /// About this password rotation: its steps, and the releases of its new password.
    pub rotation: Option<RotationId>,
    /// With one of these outcomes.
    pub outcome: Option<OutcomeFilter>,
    /// In this order.
    pub order: Order,
    /// The maximum number of records: 1 to [`AUDIT_RECORDS_PER_PAGE`], 100 by default.
    pub limit: Option<usize>,
    /// Where the previous page ended.
    pub cursor: Option<Cursor>,
}

impl AuditQuery {
    pub(crate) fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, AUDIT_RECORDS_PER_PAGE)
    }

    /// Whether this record matches.
    pub(crate) fn matches(&self, record: &AuditRecord) -> bool {
        self.since.is_none_or(|since| record.at >= since)
            && self.until.is_none_or(|until| record.at < until)
            && self.workspace.is_none_or(|workspace| record.workspace == Some(workspace))
            && self.actor.as_deref().is_none_or(|actor| record.actor.is(actor))
            && self.operation.is_none_or(|operation| record.operation == operation.name())
            && self.entry.is_none_or(|entry| record.subject.entry == Some(entry))
            && self.connection.is_none_or(|connection| record.subject.connection == Some(connection))
            && self.rotation.is_none_or(|rotation| record.subject.rotation == Some(rotation))
            && self.outcome.is_none_or(|outcome| outcome.matches(&record.outcome))
    }
}

/// Records, and where the next page begins.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct AuditPage {
    /// The records. A page scans a bounded part of the log, so it may have fewer records than asked
    /// for although there is a next page.
    pub records: Vec<AuditRecord>,
    /// The cursor of the next query; `None` at the end.
    pub next: Option<Cursor>,
    /// How many lines are not records. `keyway audit verify` says what is wrong with them.
    pub unreadable: u64,
}

/// A place in the log: for each series the number of the record at which reading ended. Opaque to
/// clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor(BTreeMap<u32, u64>);

impl Cursor {
    pub(crate) fn at(series: u32, number: u64) -> Self {
        Self([(series, number)].into())
    }

    pub(crate) fn set(&mut self, series: u32, number: u64) {
        self.0.insert(series, number);
    }

    /// The number of the last record of this series that was read; `None` when none was.
    pub(crate) fn position(&self, series: u32) -> Option<u64> {
        self.0.get(&series).copied()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(|(series, number)| format!("{series}-{number}")).collect();
        f.write_str(&parts.join("."))
    }
}

impl FromStr for Cursor {
    type Err = InvalidQuery;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part = |part: &str| {
            let (series, number) = part.split_once('-')?;
            Some((series.parse().ok()?, number.parse().ok()?))
        };
        text.split('.').map(part).collect::<Option<_>>().map(Self).ok_or(InvalidQuery::Cursor)
    }
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let mut cursor = Cursor::at(1, 500);
        cursor.set(12, 7);
        assert_eq!(cursor.to_string(), "1-500.12-7");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "1", "1-", "-1", "1-2.", "1-2,3-4", "a-b"] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidQuery::Cursor), "{text}");
        }
    }
}
