//! What holds for every configuration file.

use std::path::Path;

use clap::{CommandFactory, FromArgMatches};

use super::args::{self, Cli};
use super::config_file::ConfigFile;
use super::settings::{self, Origin, Settings};
use super::{first_line, with_escapes};

/// A file that is accepted sets only known settings, and each of them to what it says. A file that
/// is not is refused in one line that names the place.
pub fn configuration(text: &str) {
    let command = Cli::command();
    let settable = settings::arguments(&command).concat();
    let [path, folder] = ["/etc/keyway/config.toml", "/etc/keyway"].map(Path::new);
    let file = match ConfigFile::of(path, text, folder, &settable) {
        Ok(file) => file,
        Err(error) => {
            let told = error.message;
            assert!(told.contains("is invalid: line ") && !told.contains('\n'), "{told}");
            return;
        }
    };
    let set: Vec<_> = settable.iter().map(|arg| arg.get_id().as_str()).filter(|id| file.get(id).is_some()).collect();
    if set.is_empty() {
        return;
    }
    let matches = match args::command(Some(&file)).try_get_matches_from(["keyway", "serve"]) {
        Ok(matches) => matches,
        Err(error) => {
            let error = with_escapes(error);
            assert!(set.iter().any(|id| first_line(&error).contains(&id.replace('_', "-"))), "{error}");
            return;
        }
    };
    let serve = matches.subcommand_matches("serve").expect("the command that was given");
    let expected: Vec<_> = set.iter().map(|id| (*id, file.get(id).unwrap_or_default().join(","))).collect();
    for (id, values) in &expected {
        let raw: Vec<_> = serve.get_raw(id).into_iter().flatten().filter_map(|value| value.to_str()).collect();
        assert_eq!(raw.join(","), *values, "{id}");
    }
    let read = Settings::of(&matches, Some(file));
    assert!(set.iter().all(|id| read.origin(id) == Origin::File));
    if let Ok(args::Command::Serve(options)) = Cli::from_arg_matches(&matches).map(|cli| cli.command) {
        let _ = options.config();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn they_hold_for_files_of_every_kind() {
        for text in [
            "",
            "listen = \"127.0.0.1:1\"\naudit_segment_mib = 0x10\nconnect_to = [\"a.example=http://127.0.0.1:1\"]\n",
            "providers = \"p\"\ninsecure_plain_http = true\nlog = \"info,keyway=debug\"",
            "listen = \"nonsense\"",
            "config = \"other\"",
            "[serve]\nlisten = 1",
        ] {
            super::configuration(text);
        }
    }
}
