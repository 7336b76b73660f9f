//! Reading the log: all series merged by time, from either end.
//!
//! Reading does not verify; it shows what the files say. A page scans at most [`SCAN_LIMIT`] lines,
//! so a filter that matches almost nothing costs a bounded time. The next page continues from
//! there.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::event::AuditRecord;
use crate::query::{AuditPage, AuditQuery, Cursor, Order};
use crate::segment::{self, Header, LINE_LIMIT, Name};

/// How many lines a page scans; reading them takes less than half a second.
const SCAN_LIMIT: u64 = 200_000;

/// A segment is skipped when its time is further than this from the wanted one. Generous, because
/// clocks are adjusted.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_hours(24);

/// A page of the log in `folder`.
pub(crate) fn page(folder: &Path, query: &AuditQuery) -> io::Result<AuditPage> {
    let mut scanned = 0;
    let mut page = AuditPage::default();
    let mut series = Vec::new();
    for (number, segments) in segment::list(folder)? {
        let mut reader = SeriesReader::new(folder, number, &segments, query)?;
        reader.advance(query, &mut scanned)?;
        series.push(reader);
    }
    while page.records.len() < query.limit() {
        let at = |reader: &SeriesReader<'_>| reader.next.as_ref().map(|record| record.at);
        let waiting = series.iter_mut().filter(|reader| reader.next.is_some());
        let first = match query.order {
            // Records with the same time come in the order of their series, in both directions.
            Order::Newest => waiting.rev().max_by_key(|reader| at(reader)),
            Order::Oldest => waiting.min_by_key(|reader| at(reader)),
        };
        let Some(reader) = first else { break };
        page.records.extend(reader.next.take());
        reader.advance(query, &mut scanned)?;
    }
    page.unreadable = series.iter().map(|reader| reader.unreadable).sum();
    if series.iter().any(|reader| reader.next.is_some() || !reader.at_end) {
        let mut next = Cursor::default();
        for reader in &series {
            next.set(reader.series, reader.position());
        }
        page.next = Some(next);
    }
    Ok(page)
}

/// Reads one series.
struct SeriesReader<'a> {
    folder: &'a Path,
    series: u32,
    /// The segments still to be read, the next one last.
    segments: Vec<Name>,
    lines: Option<Lines>,
    order: Order,
    /// Where the previous page ended.
    start: Option<u64>,
    /// The next matching record.
    next: Option<AuditRecord>,
    /// The number of the last record that was scanned.
    seen: Option<u64>,
    at_end: bool,
    unreadable: u64,
}

impl<'a> SeriesReader<'a> {
    fn new(folder: &'a Path, series: u32, segments: &[Name], query: &AuditQuery) -> io::Result<Self> {
        let start = query.cursor.as_ref().and_then(|cursor| cursor.position(series));
        // This series was begun after the previous pages were read. Reading from the newest
        // backwards, it comes too late.
        let too_late = query.order == Order::Newest && query.cursor.is_some() && start.is_none();
        let mut wanted = if too_late { Vec::new() } else { relevant(folder, segments, query, start)? };
        if query.order == Order::Oldest {
            wanted.reverse();
        }
        let at_end = wanted.is_empty();
        Ok(Self {
            folder,
            series,
            segments: wanted,
            lines: None,
            order: query.order,
            start,
            next: None,
            seen: if too_late { Some(0) } else { start },
            at_end,
            unreadable: 0,
        })
    }

    /// Looks for the next matching record.
    fn advance(&mut self, query: &AuditQuery, scanned: &mut u64) -> io::Result<()> {
        while *scanned < SCAN_LIMIT {
            let Some(line) = self.line()? else { return Ok(()) };
            *scanned += 1;
            let Some(number) = segment::number_of(&line) else {
                self.unreadable += u64::from(segment::parse_header(&line).is_none());
                continue;
            };
            if !self.order.is_ahead(number, self.start) {
                continue;
            }
            self.seen = Some(number);
            match serde_json::from_slice::<AuditRecord>(&line) {
                Ok(record) => {
                    let record = AuditRecord { series: self.series, ..record };
                    if query.matches(&record) {
                        self.next = Some(record);
                        return Ok(());
                    }
                }
                Err(_) => self.unreadable += 1,
            }
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(lines) = &mut self.lines
                && let Some(line) = lines.next()?
            {
                return Ok(Some(line));
            }
            let Some(name) = self.segments.pop() else {
                self.at_end = true;
                return Ok(None);
            };
            self.lines = Some(Lines::open(&name.in_folder(self.folder), self.order)?);
        }
    }

    /// Where the next page continues. A record that was found but does not fit on this page is
    /// found again.
    fn position(&self) -> u64 {
        match (&self.next, self.order) {
            (Some(next), Order::Newest) => next.number.saturating_add(1),
            (Some(next), Order::Oldest) => next.number.saturating_sub(1),
            (None, Order::Newest) => self.seen.unwrap_or(u64::MAX),
            (None, Order::Oldest) => self.seen.unwrap_or(0),
        }
    }
}

/// The segments that can contain matching records, judging by their headers.
fn relevant(folder: &Path, segments: &[Name], query: &AuditQuery, start: Option<u64>) -> io::Result<Vec<Name>> {
    let headers = segments.iter().map(|name| header(folder, *name)).collect::<io::Result<Vec<_>>>()?;
    let later = |at: Timestamp, than: Timestamp| at.duration_since(than) > CLOCK_SLACK;
    let is_relevant = |index: usize| {
        let begins = headers.get(index).and_then(Option::as_ref);
        let ends = headers.get(index + 1).and_then(Option::as_ref);
        let by_number = match (query.order, start) {
            (_, None) => true,
            (Order::Newest, Some(start)) => begins.is_none_or(|header| header.number.saturating_add(1) < start),
            (Order::Oldest, Some(start)) => ends.is_none_or(|next| next.number > start),
        };
        by_number
            && query.until.is_none_or(|until| begins.is_none_or(|header| !later(header.at, until)))
            && query.since.is_none_or(|since| ends.is_none_or(|next| !later(since, next.at)))
    };
    Ok(segments.iter().enumerate().filter(|(index, _)| is_relevant(*index)).map(|(_, name)| *name).collect())
}

fn header(folder: &Path, name: Name) -> io::Result<Option<Header>> {
    let mut lines = Lines::open(&name.in_folder(folder), Order::Oldest)?;
    Ok(lines.next()?.and_then(|line| segment::parse_header(&line)))
}

/// The whole lines of a file, without their line feeds. Text after the last line feed is not a line
/// yet.
pub(crate) enum Lines {
    Forward(BufReader<File>),
    Backward(Backward),
}

impl Lines {
    pub(crate) fn open(path: &Path, order: Order) -> io::Result<Self> {
        let mut file = File::open(path)?;
        Ok(match order {
            Order::Oldest => Self::Forward(BufReader::with_capacity(LINE_LIMIT, file)),
            Order::Newest => {
                let end = file.seek(SeekFrom::End(0))?;
                Self::Backward(Backward { file, unread: end, buffer: Vec::new(), begun: false })
            }
        })
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Backward(lines) => lines.next(),
            Self::Forward(reader) => {
                let mut line = Vec::new();
                reader.take(LINE_LIMIT as u64).read_until(b'\n', &mut line)?;
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
}

impl Backward {
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(position) = self.buffer.iter().rposition(|byte| *byte == b'\n') {
                let line = self.buffer.split_off(position + 1);
                self.buffer.truncate(position);
                if std::mem::replace(&mut self.begun, true) {
                    return Ok(Some(line));
                }
                continue;
            }
            if self.unread == 0 {
                let first = std::mem::take(&mut self.buffer);
                return Ok((self.begun && !first.is_empty()).then_some(first));
            }
            if self.buffer.len() > LINE_LIMIT {
                // Longer than any line: a piece of invalid text.
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
        let mut lines = Lines::open(file.path(), order).unwrap();
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
