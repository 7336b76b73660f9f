//! Where secrets come in: from a file, from standard input, from the environment, or from a prompt
//! without echo. Never as an argument: other users of the machine can see it, and the shell keeps
//! it.

use std::io::{IsTerminal, Read};
use std::path::Path;

use keyway::ErrorKind;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::exit::CliError;
use crate::process;

/// The size limit, in bytes. Far more than any token; a larger file is the wrong one.
pub(crate) const LIMIT: usize = 64 << 10;

/// The same for the attributes of vault entries: cookies and browser storages. The broker has its
/// own limit for them.
pub(crate) const ATTRIBUTE_LIMIT: usize = 4 << 20;

/// The secret in a file, or on standard input for `-`. One line end is removed from its end.
pub(crate) fn from_file(path: &Path) -> Result<SecretString, CliError> {
    read(path, LIMIT)
}

/// The same with a limit in bytes. A pipe is read as well: shells put one in the place of a file
/// for `<(command)`.
pub(crate) fn read(path: &Path, limit: usize) -> Result<SecretString, CliError> {
    let is_stdin = path == Path::new("-");
    let place = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    // Allocated once, so that growing leaves no copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
    let source: std::io::Result<Box<dyn Read>> = match is_stdin {
        true => Ok(Box::new(std::io::stdin().lock())),
        false => std::fs::File::open(path).map(|file| Box::new(file) as _),
    };
    source
        .and_then(|source| source.take(limit as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| CliError::unreadable(&error, format!("cannot read a secret from {place}: {error}")))?;
    let invalid = |what: &str| CliError::new(ErrorKind::Invalid, format!("{place} {what}"));
    if bytes.len() > limit {
        return Err(invalid(&format!("holds more than {} KiB; is it the right file?", limit >> 10)));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| invalid("is not a text file; is it the right file?"))?;
    let secret = line(text);
    if secret.expose_secret().is_empty() {
        return Err(invalid("is empty"));
    }
    Ok(secret)
}

/// The text without the one line end, LF or CRLF, that editors and `echo` add. Everything else,
/// spaces and further line ends included, may be part of the secret.
fn line(text: &str) -> SecretString {
    match text.strip_suffix('\n') {
        Some(text) => text.strip_suffix('\r').unwrap_or(text).into(),
        None => text.into(),
    }
}

/// The secret in an environment variable; `None` when it is not set or empty.
pub(crate) fn from_environment(variable: &str) -> Option<SecretString> {
    if let Some(secret) = process::secret(variable) {
        return Some(secret);
    }
    let value = Zeroizing::new(std::env::var(variable).ok()?);
    (!value.is_empty()).then(|| value.as_str().into())
}

/// Prompts at the terminal without echo. `None` when there is no terminal.
pub(crate) fn ask(label: &str, help: &str) -> Option<Result<SecretString, CliError>> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    if !help.is_empty() {
        super::output::Output::note(&super::output::printable(help));
    }
    let typed = rpassword::prompt_password(format!("{}: ", super::output::printable(label))).map(Zeroizing::new);
    let failed = |error| CliError::new(ErrorKind::Internal, format!("cannot read from the terminal: {error}"));
    Some(typed.map(|text| text.as_str().into()).map_err(failed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    fn read_file(contents: &[u8]) -> Result<String, CliError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), contents).unwrap();
        from_file(file.path()).map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn a_secret_ends_before_one_line_end() {
        for (contents, secret) in [
            ("ops_abc\n", "ops_abc"),
            ("ops_abc\r\n", "ops_abc"),
            (" ops_abc ", " ops_abc "),
            ("one\ntwo\n\n", "one\ntwo\n"),
            ("one\r\ntwo\r\n\r\n", "one\r\ntwo\r\n"),
            ("one\r", "one\r"),
            ("one\r\r\n", "one\r"),
        ] {
            assert_eq!(read_file(contents.as_bytes()).unwrap(), secret, "{contents:?}");
        }
    }

    #[test]
    fn a_file_that_holds_no_secret_is_named_with_the_reason() {
        for (contents, what) in [(&b"\n"[..], "is empty"), (b"\xff", "not a text file"), (&[b'x'; LIMIT + 1], "64 KiB")]
        {
            let error = read_file(contents).unwrap_err();
            assert!(error.message.contains(what), "{error}");
            assert_eq!(error.exit, Exit::Invalid);
        }
        assert_eq!(from_file(Path::new("/nonexistent/token")).unwrap_err().exit, Exit::NotFound);
    }
}
