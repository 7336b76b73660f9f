//! The configuration file: settings of the host, in TOML, that flags and the environment override.
//!
//! **Invariant:** a file is used as a whole or not at all. An unknown key, a value of the wrong
//! type or an unreadable file ends the program with a message that names the file and the place in
//! it. A misspelt setting must not silently fall back to its default.
//!
//! No setting is a secret: the file may be readable by anyone, because it only names files that
//! hold secrets.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::exit::CliError;
use crate::config::default_config_dir;
use crate::regular_file;

/// A configuration file. Each key is the flag of the same name, with `_` for `-`.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    /// Its path.
    pub(crate) path: PathBuf,
    /// Its settings, by the id of the flag's argument, in the form of the command line.
    settings: BTreeMap<String, Vec<String>>,
}

impl ConfigFile {
    /// Reads a file, which may set only these arguments. Relative paths in it are relative to its
    /// folder. The error says why the file is not usable.
    pub(crate) fn read(path: &Path, settable: &[&Arg]) -> Result<Self, CliError> {
        let unreadable = |error: std::io::Error| match error.kind() {
            ErrorKind::InvalidInput | ErrorKind::FileTooLarge => wrong(path, &error.to_string()),
            _ => {
                let message = format!("cannot read the configuration file {}: {error}", path.display());
                CliError::unreadable(&error, message)
            }
        };
        let text = regular_file::read(path).map_err(unreadable)?;
        let text = std::str::from_utf8(&text).map_err(|_| wrong(path, "it is not text; is it the right file?"))?;
        let folder = std::path::absolute(path).map_err(unreadable)?;
        Self::of(path, text, folder.parent().unwrap_or(Path::new("/")), settable)
    }

    /// The same of the text of a file in this folder.
    pub(super) fn of(path: &Path, text: &str, folder: &Path, settable: &[&Arg]) -> Result<Self, CliError> {
        let settings = parse(text, folder, settable).map_err(|reason| wrong(path, &reason))?;
        Ok(Self { path: path.to_owned(), settings })
    }

    /// The values that it sets an argument to.
    pub(crate) fn get(&self, argument: &str) -> Option<&[String]> {
        self.settings.get(argument).map(Vec::as_slice)
    }

    /// The default file, if it exists: `config.toml` in the default configuration folder.
    pub(crate) fn default_path() -> Option<PathBuf> {
        default_config_dir().map(|folder| folder.join("config.toml")).filter(|path| path.exists())
    }
}

/// The message for an invalid configuration file.
pub(crate) fn wrong(path: &Path, reason: &str) -> CliError {
    CliError::usage(format!("the configuration file {} is invalid: {reason}", path.display()))
}

/// On one line, so that text from the file cannot pass for further lines of the error.
fn told(text: &str, place: usize, message: &str) -> String {
    let line = text.get(..place).unwrap_or_default().matches('\n').count() + 1;
    format!("line {line}: {}", message.lines().collect::<Vec<_>>().join("; "))
}

fn parse(text: &str, folder: &Path, settable: &[&Arg]) -> Result<BTreeMap<String, Vec<String>>, String> {
    let document =
        DeTable::parse(text).map_err(|error| told(text, error.span().map_or(0, |span| span.start), error.message()))?;
    let setting = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
        let name: &str = key.get_ref();
        let unknown = || told(text, key.span().start, &format!("there is no setting `{name}`; check its spelling"));
        let arg = settable.iter().find(|arg| arg.get_id() == name).ok_or_else(unknown)?;
        let values = values(arg, value).map_err(|(place, message)| told(text, place, &message))?;
        let is_path = arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
        let path = |value| if is_path { folder.join(value).to_string_lossy().into_owned() } else { value };
        Ok((name.to_owned(), values.into_iter().map(path).collect()))
    };
    document.get_ref().iter().map(setting).collect()
}

const WHOLE: &str = "a whole number, without quotation marks";

/// The values of the argument, or the place and the reason of an error.
fn values(arg: &Arg, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, (usize, String)> {
    let name = arg.get_id();
    let must_be = |what: &str, value: &Spanned<DeValue<'_>>| (value.span().start, format!("`{name}` must be {what}"));
    let one = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::String(text) => Ok(text.to_string()),
        _ => Err(must_be("a text in quotation marks", value)),
    };
    match (arg.get_action(), value.get_ref()) {
        (ArgAction::Append, DeValue::Array(items)) => items.iter().map(one).collect(),
        (ArgAction::Append, _) => Err(must_be("a list, as in [\"...\"]", value)),
        (ArgAction::SetTrue, DeValue::Boolean(is_set)) => Ok(vec![is_set.to_string()]),
        (ArgAction::SetTrue, _) => Err(must_be("true or false, without quotation marks", value)),
        (_, DeValue::Integer(number)) if arg.get_value_parser().type_id() == TypeId::of::<u32>() => {
            let number = u32::from_str_radix(number.as_str(), number.radix());
            number.map(|number| vec![number.to_string()]).map_err(|_| must_be(WHOLE, value))
        }
        (_, DeValue::String(_)) if arg.get_value_parser().type_id() == TypeId::of::<u32>() => {
            Err(must_be(WHOLE, value))
        }
        _ => Ok(vec![one(value)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, folder: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
        let append = |name: &'static str| Arg::new(name).action(ArgAction::Append);
        let path = |name: &'static str| Arg::new(name).value_parser(clap::value_parser!(PathBuf));
        let flag = |name: &'static str| Arg::new(name).action(ArgAction::SetTrue);
        let size = Arg::new("audit_segment_mib").value_parser(clap::value_parser!(u32).range(1..=4_096));
        let all = [
            path("data_dir"),
            path("providers"),
            append("connect_to"),
            flag("insecure_plain_http"),
            Arg::new("listen"),
            Arg::new("log"),
            size,
        ];
        parse(text, Path::new(folder), &all.iter().collect::<Vec<_>>())
    }

    #[test]
    fn paths_start_at_the_folder_of_the_file() {
        let text = "data_dir = \"data\"\nproviders = \"/usr/lib/keyway\"\nconnect_to = [\"a=http://b:1\", \"c=http://d:2\"]\n\
                    audit_segment_mib = 1_6\ninsecure_plain_http = true\n";
        let settings = parsed(text, "/etc/keyway").unwrap();
        let expected = [
            ("audit_segment_mib", vec!["16"]),
            ("connect_to", vec!["a=http://b:1", "c=http://d:2"]),
            ("data_dir", vec!["/etc/keyway/data"]),
            ("insecure_plain_http", vec!["true"]),
            ("providers", vec!["/usr/lib/keyway"]),
        ];
        let expected =
            expected.map(|(name, values)| (name.to_owned(), values.into_iter().map(str::to_owned).collect()));
        assert_eq!(settings, expected.into());
    }

    #[test]
    fn what_is_misspelt_or_of_the_wrong_type_is_told_with_its_place() {
        for (text, told) in [
            ("listn = \"127.0.0.1:1\"", "there is no setting `listn`"),
            ("log = 3", "a text in quotation marks"),
            ("log = [\"info\"]", "a text in quotation marks"),
            ("connect_to = \"a=b\"", "a list"),
            ("connect_to = [1]", "a text in quotation marks"),
            ("audit_segment_mib = -1", "a whole number"),
            ("audit_segment_mib = \"64\"", "a whole number"),
            ("insecure_plain_http = \"true\"", "true or false"),
            ("listen = ", "line 1"),
            ("log = \"info\"\nlog = \"warn\"", "duplicate key"),
            ("\n[listen]\n", "line 2"),
        ] {
            let reason = parsed(text, "/").unwrap_err();
            assert!(reason.contains(told) && reason.contains("line "), "{text}: {reason}");
        }
        assert!(parsed("# nothing\n", "/").unwrap().is_empty());
    }
}
