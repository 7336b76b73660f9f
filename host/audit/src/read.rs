//! Reading the log: all series merged by time, from either end.
//!
//! Reading does not verify; it shows what the files say. A page scans at most [`SCAN_LIMIT`] bytes,
//! so a filter that matches almost nothing costs a bounded time. The next page continues from
//! there. A read stops when its caller is gone.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};

use crate::chain::AuditKey;
use crate::event::AuditRecord;
use crate::query::{AuditPage, AuditQuery, Order, Place, Positions};
use crate::segment::{self, Header, LINE_LIMIT, Name};

/// How many bytes a page scans: about 20,000 records, which takes less than a tenth of a second.
pub(crate) const SCAN_LIMIT: usize = 8 << 20;

/// A segment is skipped when its time is further than this from the wanted one. Generous, because
/// clocks are adjusted.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_hours(24);

/// A page of the log in `folder`, from `start` on. Cut short when the caller is gone.
pub(crate) fn page(
    folder: &Path,
    key: &AuditKey,
    query: &AuditQuery,
    start: Option<&Positions>,
    is_gone: &AtomicBool,
) -> io::Result<AuditPage> {
    let mut work = Work { scanned: 0, is_gone };
    let mut page = AuditPage::default();
    let mut series = Vec::new();
    for (number, segments) in segment::list(folder)? {
        let segments = headed(folder, &segments, &mut page.left_out)?;
        let mut reader = SeriesReader::new(folder, number, &segments, query, start);
        reader.advance(query, &mut work)?;
        series.push(reader);
    }
    while page.records.len() < query.limit() {
        if series.iter().any(|reader| reader.next.is_none() && !reader.at_end) {
            // Its next record is not known yet, and may come before those of the others.
            break;
        }
        let at = |reader: &SeriesReader<'_>| reader.next.as_ref().map(|record| record.at);
        let waiting = series.iter_mut().filter(|reader| reader.next.is_some());
        let first = match query.order {
            // Records with the same time come in the order of their series, in both directions.
            Order::Newest => waiting.rev().max_by_key(|reader| at(reader)),
            Order::Oldest => waiting.min_by_key(|reader| at(reader)),
        };
        let Some(reader) = first else { break };
        page.records.extend(reader.next.take());
        reader.advance(query, &mut work)?;
    }
    page.unreadable = series.iter().map(|reader| reader.unreadable).sum();
    if series.iter().any(|reader| reader.next.is_some() || !reader.at_end) {
        let mut next = Positions::default();
        for reader in &series {
            next.set(reader.series, reader.at);
        }
        page.next = Some(next.seal(key));
    }
    if query.pseudonyms {
        for record in &mut page.records {
            let pseudonym = |number| key.pseudonym(record.series, number);
            (record.number, record.begun) = (pseudonym(record.number), record.begun.map(pseudonym));
            record.series = 0;
        }
    }
    Ok(page)
}

/// The work of a page, and whether its caller has gone.
struct Work<'a> {
    /// In bytes.
    scanned: usize,
    is_gone: &'a AtomicBool,
}

impl Work<'_> {
    fn goes_on(&self) -> bool {
        self.scanned < SCAN_LIMIT && !self.is_gone.load(Ordering::Relaxed)
    }
}

/// Reads one series.
struct SeriesReader<'a> {
    folder: &'a Path,
    series: u32,
    /// The segments still to be read, the next one last.
    segments: Vec<Name>,
    /// The segment that is read.
    lines: Option<(Name, Lines)>,
    order: Order,
    /// Where the previous page ended.
    start: Option<Place>,
    /// The next matching record.
    next: Option<AuditRecord>,
    /// Where the next page continues. A record that was found but does not fit on this page is
    /// found again.
    at: Place,
    /// Where reading continues after `next`.
    behind: Place,
    at_end: bool,
    unreadable: u64,
}

impl<'a> SeriesReader<'a> {
    fn new(
        folder: &'a Path,
        series: u32,
        segments: &[(Name, Option<Header>)],
        query: &AuditQuery,
        cursor: Option<&Positions>,
    ) -> Self {
        let start = cursor.and_then(|cursor| cursor.get(series));
        // This series was begun after the previous pages were read. Reading from the newest
        // backwards, it comes too late.
        let too_late = query.order == Order::Newest && cursor.is_some() && start.is_none();
        let mut wanted = if too_late { Vec::new() } else { relevant(segments, query, start) };
        if query.order == Order::Oldest {
            wanted.reverse();
        }
        let at_end = wanted.is_empty();
        let at = match (query.order, start) {
            (_, Some(start)) => start,
            (Order::Newest, None) if !too_late => (u32::MAX, u64::MAX),
            _ => (0, 0),
        };
        Self {
            folder,
            series,
            segments: wanted,
            lines: None,
            order: query.order,
            start,
            next: None,
            at,
            behind: at,
            at_end,
            unreadable: 0,
        }
    }

    /// Looks for the next matching record.
    fn advance(&mut self, query: &AuditQuery, work: &mut Work<'_>) -> io::Result<()> {
        self.at = self.behind;
        while work.goes_on() {
            let Some((line, place)) = self.line()? else { return Ok(()) };
            work.scanned += line.len();
            self.behind = place;
            match serde_json::from_slice::<AuditRecord>(&line) {
                Ok(record) => {
                    let record = AuditRecord { series: self.series, ..record };
                    if query.matches(&record) {
                        self.next = Some(record);
                        return Ok(());
                    }
                }
                Err(_) => self.unreadable += u64::from(segment::parse_header(&line).is_none()),
            }
            self.at = place;
        }
        Ok(())
    }

    /// The next line, and where reading continues after it.
    fn line(&mut self) -> io::Result<Option<(Vec<u8>, Place)>> {
        loop {
            if let Some((name, lines)) = &mut self.lines
                && let Some(line) = lines.next()?
            {
                return Ok(Some((line, (name.segment, lines.place()))));
            }
            let Some(name) = self.segments.pop() else {
                self.at_end = true;
                return Ok(None);
            };
            let from = self.start.filter(|(segment, _)| *segment == name.segment).map(|(_, place)| place);
            self.lines = Some((name, Lines::open(&name.in_folder(self.folder), self.order, from)?));
        }
    }
}

/// The segments with their headers, without those that cannot be opened: they cost no other.
fn headed(folder: &Path, names: &[Name], left_out: &mut Vec<String>) -> io::Result<Vec<(Name, Option<Header>)>> {
    let mut segments = Vec::with_capacity(names.len());
    for name in names {
        match header(folder, *name) {
            Err(error) if segment::is_not_a_file(&error) || error.kind() == io::ErrorKind::PermissionDenied => {
                tracing::warn!(%error, "an audit segment is left out");
                left_out.push(name.file_name());
            }
            header => segments.push((*name, header?)),
        }
    }
    Ok(segments)
}

/// The segments that can contain matching records, judging by their headers.
fn relevant(segments: &[(Name, Option<Header>)], query: &AuditQuery, start: Option<Place>) -> Vec<Name> {
    let later = |at: Timestamp, than: Timestamp| at.duration_since(than) > CLOCK_SLACK;
    let is_relevant = |index: usize| {
        let begins = segments.get(index).and_then(|(_, header)| header.as_ref());
        let ends = segments.get(index + 1).and_then(|(_, header)| header.as_ref());
        let is_ahead = match (query.order, start, segments.get(index)) {
            (Order::Newest, Some((start, _)), Some((name, _))) => name.segment <= start,
            (Order::Oldest, Some((start, _)), Some((name, _))) => name.segment >= start,
            _ => true,
        };
        is_ahead
            && query.until.is_none_or(|until| begins.is_none_or(|header| !later(header.at, until)))
            && query.since.is_none_or(|since| ends.is_none_or(|next| !later(since, next.at)))
    };
    segments.iter().enumerate().filter(|(index, _)| is_relevant(*index)).map(|(_, (name, _))| *name).collect()
}

fn header(folder: &Path, name: Name) -> io::Result<Option<Header>> {
    let mut lines = Lines::open(&name.in_folder(folder), Order::Oldest, None)?;
    Ok(lines.next()?.and_then(|line| segment::parse_header(&line)))
}

/// The whole lines of a file, without their line feeds. Text after the last line feed is not a line
/// yet.
pub(crate) enum Lines {
    Forward(BufReader<File>, u64),
    Backward(Backward),
}

impl Lines {
    /// From this place of the file on, or from its beginning or end.
    pub(crate) fn open(path: &Path, order: Order, from: Option<u64>) -> io::Result<Self> {
        let mut file = segment::open(path, OpenOptions::new().read(true))?;
        Ok(match order {
            Order::Oldest => {
                let from = file.seek(SeekFrom::Start(from.unwrap_or(0)))?;
                Self::Forward(BufReader::with_capacity(LINE_LIMIT, file), from)
            }
            Order::Newest => {
                let end = file.seek(SeekFrom::End(0))?.min(from.unwrap_or(u64::MAX));
                Self::Backward(Backward { file, unread: end, buffer: Vec::new(), begun: false, place: end })
            }
        })
    }

    /// Where reading continues after the last line.
    fn place(&self) -> u64 {
        match self {
            Self::Forward(_, place) => *place,
            Self::Backward(lines) => lines.place,
        }
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Backward(lines) => lines.next(),
            Self::Forward(reader, place) => {
                let mut line = Vec::new();
                *place += reader.take(LINE_LIMIT as u64).read_until(b'\n', &mut line)? as u64;
                // Overlong text is returned in pieces, none of which is a valid line.
                let is_piece = line.len() == LINE_LIMIT;
                Ok((line.pop_if(|byte| *byte == b'\n').is_some() || is_piece).then_some(line))
            }
        }
    }
}

/// Reads a file's lines from the last to the first.
pub(crate) struct Backward {
    file: File,
    /// How many bytes from the beginning of the file are not in the buffer yet.
    unread: u64,
    buffer: Vec<u8>,
    /// Whether the text after the last line feed was skipped.
    begun: bool,
    /// Where the last line began.
    place: u64,
}

impl Backward {
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(position) = self.buffer.iter().rposition(|byte| *byte == b'\n') {
                let line = self.buffer.split_off(position + 1);
                self.place = self.unread + position as u64 + 1;
                self.buffer.truncate(position);
                if std::mem::replace(&mut self.begun, true) {
                    return Ok(Some(line));
                }
                continue;
            }
            if self.unread == 0 {
                let first = std::mem::take(&mut self.buffer);
                self.place = 0;
                return Ok((self.begun && !first.is_empty()).then_some(first));
            }
            if self.buffer.len() > LINE_LIMIT {
                // Longer than any line: a piece of invalid text.
                self.place = self.unread;
                return Ok(Some(std::mem::take(&mut self.buffer)));
            }
            let from = self.unread.saturating_sub(LINE_LIMIT as u64);
            let mut chunk = Vec::new();
            self.file.seek(SeekFrom::Start(from))?;
            (&self.file).take(self.unread - from).read_to_end(&mut chunk)?;
            chunk.append(&mut self.buffer);
            self.buffer = chunk;
            self.unread = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(contents: &[u8], order: Order) -> Vec<Vec<u8>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), contents).unwrap();
        let mut lines = Lines::open(file.path(), order, None).unwrap();
        std::iter::from_fn(|| lines.next().unwrap()).collect()
    }

    #[test]
    fn lines_are_the_same_from_both_ends_and_an_unfinished_one_is_none() {
        let long = "x".repeat(50_000);
        let contents = format!("first\n{long}\n{long}\nlast\nunfinished");
        let forward = lines(contents.as_bytes(), Order::Oldest);
        let mut backward = lines(contents.as_bytes(), Order::Newest);
        backward.reverse();
        assert_eq!(forward, backward);
        assert_eq!(forward, [b"first", long.as_bytes(), long.as_bytes(), b"last"]);
        for contents in [&b""[..], b"unfinished"] {
            assert!(lines(contents, Order::Oldest).is_empty() && lines(contents, Order::Newest).is_empty());
        }
        assert_eq!(lines(b"only\n", Order::Newest), [b"only"]);
    }

    #[test]
    fn what_is_too_long_for_a_line_ends() {
        let endless = vec![b'x'; 5 * LINE_LIMIT];
        assert!(lines(&endless, Order::Oldest).len() <= 5);
        let ended = [endless, b"\nline\n".to_vec()].concat();
        assert_eq!(lines(&ended, Order::Newest)[0], b"line");
        assert_eq!(lines(&ended, Order::Oldest).last().unwrap(), b"line");
    }
}
