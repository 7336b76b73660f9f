//! What is wrong with a command line, the environment or the configuration file, as clap found it,
//! in words that name what was given.

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue};

use super::args::{self, Cli};

/// With escapes in a value that it repeats, so that the value cannot break its line.
pub(super) fn with_escapes(mut error: clap::Error) -> clap::Error {
    let escaped = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) if value.contains(char::is_control) => value.escape_debug().to_string(),
        _ => return error,
    };
    error.insert(ContextKind::InvalidValue, ContextValue::String(escaped));
    error
}

/// The argument that an error is about, as the error names it.
pub(super) fn argument_of(error: &clap::Error) -> Option<&str> {
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(argument) => Some(argument),
        _ => None,
    }
}

/// The same command line without the environment.
pub(super) fn without_variables(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| arg.env(clap::builder::Resettable::Reset)).mut_subcommands(without_variables)
}

/// With the name of the variable, or of the key of the configuration file, in place of the flag
/// that was not given.
pub(super) fn with_origin(mut error: clap::Error) -> clap::Error {
    fn find(command: &clap::Command, flag: &str) -> Option<clap::Arg> {
        let own = command.get_arguments().find(|arg| arg.to_string() == flag);
        own.cloned().or_else(|| command.get_subcommands().find_map(|below| find(below, flag)))
    }
    let mut all = Cli::command();
    all.build();
    if let Some(arg) = argument_of(&error).and_then(|flag| find(&all, flag)) {
        let variable = arg.get_env().filter(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
        let name = variable.unwrap_or(std::ffi::OsStr::new(arg.get_id().as_str())).to_string_lossy().into_owned();
        error.insert(ContextKind::InvalidArg, ContextValue::String(name));
    }
    error
}

/// With the usage of the command as `--help` shows it. That of clap also lists what the environment
/// has set, as if it had been typed.
pub(super) fn with_own_usage(mut error: clap::Error) -> clap::Error {
    if error.get(ContextKind::Usage).is_some() {
        let mut all = args::command(None);
        all.build();
        let below = |at: &clap::Command, word| at.find_subcommand(word).cloned();
        let mut named = std::env::args_os().skip(1).fold(all, |at, word| below(&at, word).unwrap_or(at));
        error.insert(ContextKind::Usage, ContextValue::StyledStr(named.render_usage()));
    }
    error
}

/// Whether it would repeat a text that stands where none belongs, such as a token.
pub(super) fn is_stray_value(error: &clap::Error) -> bool {
    let argument = error.get(ContextKind::InvalidArg);
    error.kind() == clap::error::ErrorKind::UnknownArgument
        && matches!(argument, Some(ContextValue::String(text)) if !text.starts_with('-'))
}

/// The error in one line, with the arguments that are missing or the values that are possible.
pub(super) fn first_line(error: &clap::Error) -> String {
    let message = error.to_string();
    let first = message.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    match (error.get(ContextKind::ValidValue), error.get(ContextKind::InvalidArg)) {
        (Some(ContextValue::Strings(values)), _) if !values.is_empty() => {
            format!("{first}: use {}", values.join(" or "))
        }
        (_, Some(ContextValue::Strings(missing))) if first.ends_with(':') => format!("{first} {}", missing.join(", ")),
        _ => first.to_owned(),
    }
}
