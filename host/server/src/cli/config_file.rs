//! The configuration file: settings of the host, in TOML, that flags and the environment override.
//!
//! **Invariant:** a file is taken whole or not at all. An unknown key, a value of the wrong type or a file that cannot be read ends the program with a
//! sentence that names the file and the place in it; a setting that was misspelt must not silently be the default one.
//!
//! No setting is a secret, so the file may be read by anyone: it names files that hold secrets.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

/// Why a configuration file is not usable.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum ConfigFileError {
    /// It cannot be read.
    #[error("cannot read the configuration file {}: {source}", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, or does not say what a configuration file says.
    #[error("the configuration file {} is wrong: {reason}", file.display())]
    Malformed {
        /// Which file.
        file: PathBuf,
        /// Where and why.
        reason: String,
    },
}

/// What a file says. Each key is the flag of the same name, with `_` for `-`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    data_dir: Option<PathBuf>,
    providers: Option<PathBuf>,
    master_key_file: Option<PathBuf>,
    old_master_key_file: Option<PathBuf>,
    #[serde(default)]
    connect_to: Vec<String>,
    #[serde(default)]
    allow_private: Vec<String>,
    #[serde(default)]
    default_rate_limit_tier: Vec<String>,
    audit_dir: Option<PathBuf>,
    audit_segment_mib: Option<u32>,
    audit_sync: Option<String>,
    log: Option<String>,
    log_format: Option<String>,
    listen: Option<String>,
    metrics_listen: Option<String>,
}

/// A configuration file that was read.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it sets, by the id of the flag's argument, in the form in which it would stand on the command line.
    pub(crate) settings: Vec<(&'static str, Vec<String>)>,
}

impl ConfigFile {
    /// Reads a file. Relative paths in it start at the folder that it is in.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigFileError> {
        let unreadable = |source| ConfigFileError::Unreadable { file: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let folder = std::path::absolute(path).map_err(unreadable)?;
        let settings = parse(&text, folder.parent().unwrap_or(Path::new("/")))
            .map_err(|reason| ConfigFileError::Malformed { file: path.to_owned(), reason })?;
        Ok(Self { path: path.to_owned(), settings })
    }

    /// What it sets an argument to.
    pub(crate) fn get(&self, argument: &str) -> Option<&[String]> {
        self.settings.iter().find(|(name, _)| *name == argument).map(|(_, values)| values.as_slice())
    }

    /// The file that is read when none is named: `config.toml` in the folder `keyway` of the user's configuration (on Linux `$XDG_CONFIG_HOME`, else
    /// `~/.config`), if it is there.
    pub(crate) fn default_path() -> Option<PathBuf> {
        use etcetera::BaseStrategy;
        let strategy = etcetera::base_strategy::Xdg::new().ok()?;
        Some(strategy.config_dir().join("keyway").join("config.toml")).filter(|path| path.exists())
    }
}

/// In one line, because lines of an error are not to be told from those of somebody who has put them into it.
fn told(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let message = error.message().lines().collect::<Vec<_>>().join("; ");
    format!("line {}: {message}", before.matches('\n').count() + 1)
}

fn parse(text: &str, folder: &Path) -> Result<Vec<(&'static str, Vec<String>)>, String> {
    let document: Document = toml::from_str(text).map_err(|error| told(&error, text))?;
    let path = |path: Option<PathBuf>| path.map(|path| folder.join(path).to_string_lossy().into_owned());
    let one = |value: Option<String>| value.into_iter().collect::<Vec<_>>();
    let all = [
        ("data_dir", one(path(document.data_dir))),
        ("providers", one(path(document.providers))),
        ("master_key_file", one(path(document.master_key_file))),
        ("old_master_key_file", one(path(document.old_master_key_file))),
        ("connect_to", document.connect_to),
        ("allow_private", document.allow_private),
        ("default_rate_limit_tier", document.default_rate_limit_tier),
        ("audit_dir", one(path(document.audit_dir))),
        ("audit_segment_mib", one(document.audit_segment_mib.map(|mebibytes| mebibytes.to_string()))),
        ("audit_sync", one(document.audit_sync)),
        ("log", one(document.log)),
        ("log_format", one(document.log_format)),
        ("listen", one(document.listen)),
        ("metrics_listen", one(document.metrics_listen)),
    ];
    Ok(all.into_iter().filter(|(_, values)| !values.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_start_at_the_folder_of_the_file() {
        let text =
            "data_dir = \"data\"\nproviders = \"/usr/lib/keyway\"\nconnect_to = [\"a=http://b:1\", \"c=http://d:2\"]\n";
        let settings = parse(text, Path::new("/etc/keyway")).unwrap();
        let expected = [
            ("data_dir", vec!["/etc/keyway/data".to_owned()]),
            ("providers", vec!["/usr/lib/keyway".to_owned()]),
            ("connect_to", vec!["a=http://b:1".to_owned(), "c=http://d:2".to_owned()]),
        ];
        assert_eq!(settings, expected);
    }

    #[test]
    fn what_is_misspelt_or_of_the_wrong_type_is_told_with_its_place() {
        for (text, told) in [
            ("listn = \"127.0.0.1:1\"", "unknown field `listn`"),
            ("log = 3", "expected a string"),
            ("connect_to = \"a=b\"", "expected a sequence"),
            ("listen = ", "line 1"),
            ("log = \"info\"\nlog = \"warn\"", "duplicate key"),
        ] {
            let reason = parse(text, Path::new("/")).unwrap_err();
            assert!(reason.contains(told) && reason.contains("line "), "{text}: {reason}");
        }
        assert_eq!(parse("# nothing\n", Path::new("/")).unwrap(), []);
    }
}
