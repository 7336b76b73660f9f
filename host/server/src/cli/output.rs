//! What commands print: a result on standard output, as text or as one JSON document; errors and
//! everything else on standard error.
//!
//! **With `--json`, standard output is always exactly one JSON document**: the result, or
//! `{"error": {...}}` when the command failed (the error is also on standard error). A script reads
//! one stream and checks the exit code. (`serve` ends with a signal and prints one line when it is
//! ready.)
//!
//! Text from a secret manager may contain anything. Control characters and characters that change
//! the direction of writing are shown as `\u{fffd}`, so that an item's title cannot control the
//! terminal.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use keyway::ErrorKind;
use secrecy::{ExposeSecret, SecretSlice};
use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use super::exit::CliError;

/// Headings.
pub(crate) const HEADING: Style = Style::new().bold();
/// Less important text.
pub(crate) const FAINT: Style = Style::new().dimmed();
/// Success.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Failure.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();

/// Prints results and errors in the requested form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Prints the result of a command: the data, or the text that `show` writes. A reader that
    /// closes the pipe has seen enough. Any other write error fails the command.
    pub(crate) fn result(
        self,
        data: &(impl Serialize + ?Sized),
        show: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CliError> {
        written(self.shown(data, show))
    }

    /// The same for a result with an API key, which is shown only once: a reader that closes the
    /// pipe has lost it.
    pub(crate) fn result_with_a_key(
        self,
        data: &(impl Serialize + ?Sized),
        show: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CliError> {
        let lost = |error| {
            not_written(&error)
                .hint("the API key is lost; `keyway key revoke` ends it, `keyway key create` makes another")
        };
        self.shown(data, show).map_err(lost)
    }

    fn shown(
        self,
        data: &(impl Serialize + ?Sized),
        show: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.json { self.json_line(data) } else { Self::text(show) }
    }

    /// Writes exactly these bytes.
    pub(crate) fn raw(bytes: &SecretSlice<u8>) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        written(out.write_all(bytes.expose_secret()).and_then(|()| out.flush()))
    }

    /// Prints a line that is a JSON document in itself, byte for byte.
    pub(crate) fn exactly(self, line: &str) -> Result<(), CliError> {
        Self { json: false }.result(&(), |out| writeln!(out, "{line}"))
    }

    /// Prints a list. As text it is a table to which `row` adds each element; `empty` replaces a
    /// table without rows.
    pub(crate) fn list<T: Serialize, const N: usize>(
        self,
        list: &[T],
        headings: [&str; N],
        empty: &str,
        row: impl Fn(&mut Table<N>, &T),
    ) -> Result<(), CliError> {
        self.result(list, |out| Table::of(headings, list, row).write(out, 0, empty))
    }

    /// Prints one JSON document.
    pub(crate) fn json_line(self, value: &(impl Serialize + ?Sized)) -> io::Result<()> {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, value)?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// Writes text to standard output, without colours where they are unwanted.
    pub(crate) fn text(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut out = anstream::stdout().lock();
        write(&mut out)?;
        out.flush()
    }

    /// Prints an error.
    pub(crate) fn error(self, error: &CliError) {
        if self.json && !error.in_result {
            let _ = self.json_line(&serde_json::json!({ "error": error }));
        }
        let mut out = anstream::stderr().lock();
        let _ = writeln!(out, "{BAD}error:{BAD:#} {}", printable(&error.message));
        if let Some(hint) = &error.hint {
            let _ = writeln!(out, "{FAINT}hint:{FAINT:#} {}", printable(hint));
        }
    }

    /// Prints a warning: not an error, but possibly a mistake.
    pub(crate) fn warning(text: &str) {
        let _ = writeln!(anstream::stderr().lock(), "{BAD}warning:{BAD:#} {}", printable(text));
    }

    /// Prints a note that is neither a result nor an error.
    pub(crate) fn note(text: &str) {
        let _ = writeln!(anstream::stderr().lock(), "{text}");
    }
}

/// How writing a result ended.
fn written(result: io::Result<()>) -> Result<(), CliError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(not_written(&error)),
        _ => Ok(()),
    }
}

fn not_written(error: &io::Error) -> CliError {
    let message = format!("the command succeeded, but its result cannot be written to standard output: {error}");
    CliError::new(ErrorKind::Internal, message)
}

/// The text with characters that could control a terminal made visible.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(is_harmful) { Cow::Owned(text.replace(is_harmful, "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// Whether a character could control a terminal.
pub(crate) fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A table. Columns are as wide as their widest cell, two spaces apart. The headings are its first
/// row.
pub(crate) struct Table<const N: usize>(Vec<[String; N]>);

impl<const N: usize> Table<N> {
    /// A table without rows.
    pub(crate) fn new(headings: [&str; N]) -> Self {
        Self(vec![headings.map(str::to_owned)])
    }

    /// A table to which `row` adds each element of the list.
    pub(crate) fn of<T>(headings: [&str; N], list: &[T], row: impl Fn(&mut Self, &T)) -> Self {
        let mut table = Self::new(headings);
        list.iter().for_each(|thing| row(&mut table, thing));
        table
    }

    /// Adds a row. An empty cell is shown as `-`.
    pub(crate) fn row(&mut self, cells: [&dyn Display; N]) {
        self.0.push(cells.map(|cell| match cell.to_string() {
            empty if empty.is_empty() => "-".to_owned(),
            text => printable(&text).into_owned(),
        }));
    }

    /// Writes the table with `indent` spaces before each line; `empty` replaces a table without
    /// rows.
    pub(crate) fn write(&self, out: &mut dyn Write, indent: usize, empty: &str) -> io::Result<()> {
        if self.0.len() == 1 {
            return writeln!(out, "{:indent$}{empty}", "");
        }
        let mut widths = [0; N];
        for row in &self.0 {
            widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.width().max(*width));
        }
        for (number, row) in self.0.iter().enumerate() {
            let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell}{:1$}", "", width - cell.width()));
            let line = padded.collect::<Vec<_>>().join("  ");
            let style = if number == 0 { HEADING } else { Style::new() };
            writeln!(out, "{:indent$}{style}{}{style:#}", "", line.trim_end())?;
        }
        Ok(())
    }
}

/// A point in time as text: UTC, to the second.
pub(crate) fn day_and_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Writes `label value` lines, the values in one column.
pub(crate) fn facts(out: &mut dyn Write, facts: &[(&str, &str)]) -> io::Result<()> {
    let width = facts.iter().map(|(label, _)| label.width()).max().unwrap_or_default();
    for (label, value) in facts {
        let value = if value.is_empty() { "-" } else { value };
        writeln!(out, "{FAINT}{label}{FAINT:#}{:1$}  {2}", "", width - label.width(), printable(value))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_also_with_wide_characters_and_nothing_drives_the_terminal() {
        let mut table = Table::new(["TITLE", "VAULT"]);
        table.row([&"日本", &"a"]);
        table.row([&"\u{1b}[2Jx", &""]);
        let mut out = Vec::new();
        table.write(&mut out, 1, "nothing").unwrap();
        let text = anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string();
        assert_eq!(text, " TITLE  VAULT\n 日本   a\n \u{fffd}[2Jx  -\n");
    }

    #[test]
    fn a_table_without_rows_says_so() {
        let mut out = Vec::new();
        Table::new(["TITLE"]).write(&mut out, 0, "There is nothing.").unwrap();
        assert_eq!(out, b"There is nothing.\n");
    }
}
