//! Queries of the log: filter and order.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use keyway_storage::{ConnectionId, EntryId, RotationId, WorkspaceId};
use serde::Serialize;

use crate::chain::AuditKey;
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
    /// Whether the records get pseudonyms in the place of their numbers, and no series: numbers
    /// tell a workspace how much the others do. A record always has the same pseudonym.
    pub pseudonyms: bool,
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
    /// The segments that were left out, because they cannot be opened or are no regular files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// A place in the log, opaque to clients: it shows nothing of what other workspaces do. Only the
/// log that made it can tell whether it is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(String);

/// The limit of a cursor, in characters: that of a log of 1,000 series.
const CURSOR_LIMIT: usize = 16 << 10;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Cursor {
    type Err = InvalidQuery;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plain = (1..=CURSOR_LIMIT).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_plain.then(|| Self(text.to_owned())).ok_or(InvalidQuery::Cursor)
    }
}

/// Where reading continues: in which segment of the series, and at which byte.
pub(crate) type Place = (u32, u64);

/// What a cursor says: for each series where reading continues.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Positions(BTreeMap<u32, Place>);

impl Positions {
    pub(crate) fn set(&mut self, series: u32, place: Place) {
        self.0.insert(series, place);
    }

    /// `None` for a series that did not exist.
    pub(crate) fn get(&self, series: u32) -> Option<Place> {
        self.0.get(&series).copied()
    }

    /// The cursor that says this to the holder of the key.
    pub(crate) fn seal(&self, key: &AuditKey) -> Cursor {
        let mut plain = Vec::new();
        for (series, (segment, byte)) in &self.0 {
            plain.extend_from_slice(&series.to_be_bytes());
            plain.extend_from_slice(&segment.to_be_bytes());
            plain.extend_from_slice(&byte.to_be_bytes());
        }
        Cursor(BASE64URL_NOPAD.encode(&key.seal_cursor(plain)))
    }

    /// What the cursor says, if it was made with this key.
    pub(crate) fn open(key: &AuditKey, cursor: &Cursor) -> Result<Self, InvalidQuery> {
        let sealed = BASE64URL_NOPAD.decode(cursor.0.as_bytes()).map_err(|_| InvalidQuery::Cursor)?;
        let plain = key.open_cursor(sealed).ok_or(InvalidQuery::Cursor)?;
        let position = |bytes: &[u8]| {
            let (series, rest) = bytes.split_first_chunk()?;
            let (segment, byte) = rest.split_first_chunk()?;
            let place = (u32::from_be_bytes(*segment), u64::from_be_bytes(byte.try_into().ok()?));
            Some((u32::from_be_bytes(*series), place))
        };
        let positions = plain.chunks(size_of::<(u32, u32, u64)>()).map(position).collect::<Option<_>>();
        positions.map(Self).ok_or(InvalidQuery::Cursor)
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
    fn a_cursor_is_read_as_it_is_written_and_by_nobody_else() {
        let (key, other) = (AuditKey::new(&[1; 32]), AuditKey::new(&[2; 32]));
        let mut positions = Positions::default();
        for count in 0..20 {
            let cursor: Cursor = positions.seal(&key).to_string().parse().unwrap();
            assert_eq!(Positions::open(&key, &cursor), Ok(positions.clone()));
            assert_eq!(Positions::open(&other, &cursor), Err(InvalidQuery::Cursor));
            let text = cursor.to_string();
            for index in 0..text.len() {
                let mut changed = text.clone().into_bytes();
                changed[index] = if changed[index] == b'A' { b'Q' } else { b'A' };
                let changed = Cursor(String::from_utf8(changed).unwrap());
                assert_eq!(Positions::open(&key, &changed), Err(InvalidQuery::Cursor), "{index}");
            }
            positions.set(count * 7, (count, u64::from(count) << 40));
        }
        for text in ["", " ", "1-5 2-7", "\u{e4}", &"x".repeat(CURSOR_LIMIT + 1)] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidQuery::Cursor), "{text}");
        }
        assert_eq!(Positions::open(&key, &"1-5.2-7".parse().unwrap()), Err(InvalidQuery::Cursor));
    }
}
