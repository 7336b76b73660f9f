//! The pages of the book that are generated from the code: settings, exit codes and error codes,
//! and the command line. `KEYWAY_UPDATE_DOCS=1` writes them.
//!
//! **Invariant:** the content of a page comes from the definition that the program itself uses.

use std::fmt::Write;

use clap::{Arg, ArgAction, Command, CommandFactory};
use keyway::ErrorKind;

use self::page::compare;
use super::args::Cli;
use super::exit::{EXIT_CODES, Exit};
use super::settings;
use crate::http::code::status;

#[path = "../../tests/server/page.rs"]
mod page;

#[test]
fn the_page_of_settings_is_what_the_code_makes() {
    compare("settings.md", &settings());
}

#[test]
fn the_page_of_exit_codes_is_what_the_code_makes() {
    compare("exit-codes.md", &exit_codes());
}

#[test]
fn the_page_of_the_command_line_is_what_the_code_makes() {
    compare("command-line.md", &command_line());
}

/// Every setting of the host, as flag, variable and key of the configuration file.
fn settings() -> String {
    let command = built();
    let mut page = String::from(
        "# Settings\n\nMade from the code; see [Install and configure](../install.md#configuration) for how flag, \
         variable and file\ncome together. Flags that may be given more than once are arrays in the file, and have \
         commas between their\nvalues in the variable.\n\n\
         | key of the file | flag | variable | default | meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    for arg in settings::arguments(&command).concat() {
        let (about, default) = about_and_default(arg);
        let about = format!("{about}.{}", values(arg)).replace('|', "\\|");
        let key = arg.get_id();
        let _ = writeln!(
            page,
            "| `{key}` | `--{}` | `{}` | {default} | {about} |",
            key.as_str().replace('_', "-"),
            env(arg)
        );
    }
    page
}

/// The exit codes of the command line, and the codes of errors with their statuses and exit codes.
fn exit_codes() -> String {
    let mut page = String::from(
        "# Exit codes and error codes\n\nMade from the code.\n\n## Exit codes\n\n| exit code | meaning |\n| --- | --- |\n",
    );
    for (code, meaning) in EXIT_CODES.lines().filter_map(|line| line.trim().split_once("  ")) {
        let _ = writeln!(page, "| {code} | {meaning} |");
    }
    page.push_str(
        "\n## Error codes\n\nThe HTTP API has them in `code`, the command line with `--json` in `error.code`, and the \
         audit log in\n`outcome`.\n\n| code | HTTP status | exit code | meaning |\n| --- | --- | --- | --- |\n",
    );
    for &kind in ErrorKind::ALL {
        let (status, exit) = (status(kind).as_u16(), Exit::from(kind) as u8);
        let _ = writeln!(page, "| `{}` | {status} | {exit} | {} |", kind.code(), meaning(kind));
    }
    page
}

/// Every command with its arguments.
fn command_line() -> String {
    let mut page = String::from("# Command line\n\nMade from the code; `--help` says the same.\n");
    let root = built();
    describe(&root, &mut page);
    page
}

fn built() -> Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// The command, then its subcommands.
fn describe(command: &Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let _ = write!(page, "\n## {name}\n\n{}.\n\n```text\n{usage}\n```\n", text(&about).trim_end_matches('.'));
    let is_root = !name.contains(' ');
    // The global arguments are listed with the program itself.
    let shown = |arg: &&Arg| !arg.is_hide_set() && (is_root || !arg.is_global_set()) && !is_standard(arg);
    let mut arguments = command.get_arguments().filter(shown).peekable();
    if arguments.peek().is_some() {
        page.push('\n');
    }
    for arg in arguments {
        let (about, default) = about_and_default(arg);
        let default = if default.is_empty() { default } else { format!(" Default: {default}.") };
        let variable = if arg.get_env().is_some() { format!(" (`{}`)", env(arg)) } else { String::new() };
        let _ = writeln!(page, "* `{arg}`{variable}: {about}.{}{default}", values(arg));
    }
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        describe(below, page);
    }
}

/// `--help` and `--version`.
fn is_standard(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version)
}

fn env(arg: &Arg) -> String {
    arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The help, without a default that some texts end with.
fn about_and_default(arg: &Arg) -> (String, String) {
    let about = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let (about, default) = match about.split_once(" [default: ") {
        Some((about, default)) => (about.to_owned(), text(default.trim_end_matches(']'))),
        None => {
            let values = arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy()));
            // A switch is off by default.
            let values = values.filter(|_| arg.get_action().takes_values()).collect::<Vec<_>>();
            (about, values.join(", "))
        }
    };
    (text(about.trim_end_matches('.')), default)
}

/// The possible values of an argument, where they are words.
fn values(arg: &Arg) -> String {
    let possible = arg.get_possible_values();
    if !arg.get_action().takes_values() || possible.is_empty() {
        return String::new();
    }
    let of = |value: &clap::builder::PossibleValue| match value.get_help() {
        Some(help) => format!("`{}` ({})", value.get_name(), text(&help.to_string())),
        None => format!("`{}`", value.get_name()),
    };
    format!(" One of: {}.", possible.iter().map(of).collect::<Vec<_>>().join(", "))
}

/// Escapes characters that are special in Markdown.
fn text(plain: &str) -> String {
    plain.replace('<', "\\<").replace('*', "\\*")
}

fn meaning(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "the request breaks a rule",
        ErrorKind::NotEncrypted => "a credential is not encrypted under the workspace key",
        ErrorKind::Unauthenticated => "no valid API key",
        ErrorKind::Forbidden => "the API key lacks a scope",
        ErrorKind::NotFound => {
            "no such thing in this workspace, or the item is gone; on the command line also a file or the database"
        }
        ErrorKind::Conflict => "it already exists, has changed in the meantime, or is in use",
        ErrorKind::ProviderRefused => {
            "the secret manager refuses the connection's credentials (400 while connecting), or denies this"
        }
        ErrorKind::RateLimited => "the secret manager's limit, or the budget, is used up",
        ErrorKind::ProviderUnavailable => "the secret manager is unreachable or failing",
        ErrorKind::ProviderPaused => "the connection is paused after failures",
        ErrorKind::Busy => "the host is overloaded",
        ErrorKind::ProviderFault => "the provider crashed, hit a limit, or returned something invalid",
        ErrorKind::Unsupported => "the provider cannot do this",
        ErrorKind::NotInstalled => "no component of this provider type is installed (400 while connecting)",
        ErrorKind::KeysUnavailable => "the key service is unreachable",
        ErrorKind::Ending => "the host is shutting down; send the request to its successor",
        ErrorKind::AuditUnavailable => "the audit log cannot be written, so nothing is released",
        _ => "a fault of the host or of its set-up; its log has details",
    }
}
