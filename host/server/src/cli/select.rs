//! Which workspace and which connection a command is about: by id, by name, or the only one there is.

use keyway::{Access, Broker, Connection, ConnectionId, ErrorKind, Workspace};

use super::args::target::{ConnectionOption, WorkspaceOption};
use super::exit::CliError;

/// Under which name the command line acts.
pub(crate) const OPERATOR: &str = "command line";

/// Full access to the workspace that is meant.
pub(crate) async fn workspace(broker: &Broker, option: &WorkspaceOption) -> Result<Access, CliError> {
    let all = broker.workspaces().list().await?;
    let meant = |workspace: &Workspace, text: &str| workspace.name == text || workspace.id.to_string() == text;
    let chosen = choose(all, option.workspace.as_deref(), meant, |workspace| workspace.name.clone(), &WORKSPACE)?;
    Ok(Access::operator(chosen.id, OPERATOR))
}

/// The connection that is meant.
pub(crate) async fn connection(
    broker: &Broker,
    access: &Access,
    option: &ConnectionOption,
) -> Result<Connection, CliError> {
    let all = broker.list_connections(access).await?;
    let meant = |connection: &Connection, text: &str| {
        as_connection_id(text).is_some_and(|id| connection.id == id) || connection.name == text
    };
    choose(all, option.connection.as_deref(), meant, |connection| connection.name.clone(), &CONNECTION)
}

/// A connection's id if the text is one.
fn as_connection_id(text: &str) -> Option<ConnectionId> {
    text.parse().ok()
}

/// What a kind of thing is called in messages.
struct Words {
    one: &'static str,
    none_yet: &'static str,
    flag: &'static str,
    list: &'static str,
}

const WORKSPACE: Words = Words {
    one: "workspace",
    none_yet: "`keyway workspace create NAME` creates one",
    flag: "--workspace",
    list: "`keyway workspace list` shows the workspaces there are",
};

const CONNECTION: Words = Words {
    one: "connection",
    none_yet: "`keyway connect` creates one",
    flag: "--connection",
    list: "`keyway connection list` shows the connections there are",
};

fn choose<T>(
    mut all: Vec<T>,
    text: Option<&str>,
    meant: impl Fn(&T, &str) -> bool,
    name: impl Fn(&T) -> String,
    words: &Words,
) -> Result<T, CliError> {
    let Words { one, none_yet, flag, list } = words;
    if all.is_empty() {
        return Err(CliError::new(ErrorKind::NotFound, format!("there is no {one} yet")).hint(*none_yet));
    }
    if let Some(text) = text {
        all.retain(|thing| meant(thing, text));
        if all.is_empty() {
            return Err(CliError::new(ErrorKind::NotFound, format!("there is no {one} `{text}`")).hint(*list));
        }
    }
    if all.len() > 1 {
        let names: Vec<_> = all.iter().take(5).map(name).collect();
        let more = if all.len() > names.len() { ", ..." } else { "" };
        let message = match text {
            Some(text) => format!("{} {one}s are called `{text}`; choose one by its id", all.len()),
            None => format!("there are {} {one}s ({}{more}); choose one with {flag}", all.len(), names.join(", ")),
        };
        return Err(CliError::usage(message).hint(*list));
    }
    all.pop().ok_or_else(|| CliError::new(ErrorKind::Internal, "nothing was chosen"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    fn chosen(all: &[&str], text: Option<&str>) -> Result<String, CliError> {
        let all = all.iter().map(|name| (*name).to_owned()).collect();
        choose(all, text, |name, text| name == text, String::clone, &WORKSPACE)
    }

    #[test]
    fn the_only_one_needs_no_name_and_of_several_one_must_be_named() {
        assert_eq!(chosen(&["a"], None).unwrap(), "a");
        assert_eq!(chosen(&["a", "b"], Some("b")).unwrap(), "b");
        let error = chosen(&["a", "b"], None).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.message().contains("(a, b)"));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        assert_eq!(chosen(&[], None).unwrap_err().exit(), Exit::NotFound);
        assert_eq!(chosen(&["a"], Some("b")).unwrap_err().exit(), Exit::NotFound);
        assert!(chosen(&["a", "a"], Some("a")).unwrap_err().message().contains("by its id"));
    }
}
