//! Selects the workspace, the connection or the API key of a command: by id, by name, or the only
//! one.

use keyway::connections::Connection;
use keyway::workspaces::{ApiKey, Workspace};
use keyway::{Access, Broker, ErrorKind};
use uuid::Uuid;

use super::args::target::{ConnectionOption, WorkspaceOption};
use super::exit::{CliError, Exit};

/// The operator's name under which the command line acts.
pub(crate) const OPERATOR: &str = "command line";

/// Full access to the selected workspace.
pub(crate) async fn workspace(broker: &Broker, option: &WorkspaceOption) -> Result<Access, CliError> {
    let all = broker.workspaces().list().await?;
    let named = |workspace: &Workspace| (workspace.id.as_uuid(), workspace.name.clone());
    let none_yet = "`keyway workspace create NAME` creates one";
    let chosen = choose(all, option.workspace.as_deref(), named, "workspace", none_yet);
    Ok(Access::operator(or_damaged(broker, chosen, "workspaces", None).await?.id, OPERATOR))
}

/// The selected connection.
pub(crate) async fn connection(
    broker: &Broker,
    access: &Access,
    option: &ConnectionOption,
) -> Result<Connection, CliError> {
    let all = broker.connections().list(access).await?;
    let named = |connection: &Connection| (connection.id.as_uuid(), connection.name.clone());
    let chosen = choose(all, option.connection.as_deref(), named, "connection", "`keyway connect` creates one");
    or_damaged(broker, chosen, "connections", Some(access)).await
}

/// The API key of this id or name. Of several keys of one name, those that are not revoked count.
pub(crate) async fn api_key(broker: &Broker, access: &Access, text: &str) -> Result<ApiKey, CliError> {
    let mut all = broker.api_keys().list(access).await?;
    if all.iter().any(|key| key.name == text && key.revoked_at.is_none()) {
        all.retain(|key| key.revoked_at.is_none());
    }
    let named = |key: &ApiKey| (key.id.as_uuid(), key.name.clone());
    let chosen = choose(all, Some(text), named, "key", "`keyway key create NAME` creates one");
    or_damaged(broker, chosen, "api_keys", Some(access)).await
}

/// What is not found may be damaged: lists leave such rows out.
async fn or_damaged<T>(
    broker: &Broker,
    chosen: Result<T, CliError>,
    table: &str,
    access: Option<&Access>,
) -> Result<T, CliError> {
    match chosen {
        Err(error) if error.exit == Exit::NotFound => Err(match damaged(broker, table, access).await {
            None => error,
            Some(left_out) => error.and(&left_out).hint("`keyway database check` lists the damaged rows"),
        }),
        chosen => chosen,
    }
}

/// What replaces a list without rows: `none_yet`, unless there are some that are damaged.
pub(super) async fn instead_of<T>(
    rows: &[T],
    broker: &Broker,
    (table, access): (&str, Option<&Access>),
    none_yet: &str,
) -> String {
    let damaged = if rows.is_empty() { damaged(broker, table, access).await } else { None };
    let told = |left_out| format!("The list is empty, but {left_out}. `keyway database check` lists the damaged rows.");
    damaged.map_or_else(|| none_yet.to_owned(), told)
}

/// How many rows of a table, or of a workspace's part of it, are left out because they are damaged.
async fn damaged(broker: &Broker, table: &str, access: Option<&Access>) -> Option<String> {
    // Of a database that cannot even be read, the command itself says so.
    match broker.database().left_out(table, access.map(Access::workspace)).await.unwrap_or_default() {
        0 => None,
        1 => Some("one is left out because its row is damaged".to_owned()),
        several => Some(format!("{several} are left out because their rows are damaged")),
    }
}

/// `one` is the kind of thing, as named in messages, flags and commands.
fn choose<T>(
    mut all: Vec<T>,
    text: Option<&str>,
    named: impl Fn(&T) -> (Uuid, String),
    one: &str,
    none_yet: &str,
) -> Result<T, CliError> {
    if all.is_empty() {
        return Err(CliError::new(ErrorKind::NotFound, format!("there is no {one} yet")).hint(none_yet));
    }
    let list = format!("`keyway {one} list` lists the {one}s");
    if let Some(text) = text {
        let id = Uuid::parse_str(text).ok();
        all.retain(|thing| matches!(named(thing), (its, name) if Some(its) == id || name == text));
        if all.is_empty() {
            return Err(CliError::new(ErrorKind::NotFound, format!("there is no {one} `{text}`")).hint(list));
        }
    }
    if all.len() > 1 {
        let names: Vec<_> = all.iter().take(5).map(|thing| named(thing).1).collect();
        let more = if all.len() > names.len() { ", ..." } else { "" };
        let message = match text {
            Some(text) => format!("{} {one}s are called `{text}`; choose one by its id", all.len()),
            None => format!("there are {} {one}s ({}{more}); choose one with --{one}", all.len(), names.join(", ")),
        };
        return Err(CliError::usage(message).hint(list));
    }
    all.pop().ok_or_else(|| CliError::new(ErrorKind::Internal, "nothing was chosen"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(all: &[&str], text: Option<&str>) -> Result<String, CliError> {
        let all = all.iter().map(|name| (*name).to_owned()).collect();
        choose(all, text, |name: &String| (Uuid::nil(), name.clone()), "workspace", "")
    }

    #[test]
    fn the_only_one_needs_no_name_and_of_several_one_must_be_named() {
        assert_eq!(chosen(&["a"], None).unwrap(), "a");
        assert_eq!(chosen(&["a", "b"], Some("b")).unwrap(), "b");
        let error = chosen(&["a", "b"], None).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.message.contains("(a, b)"));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        assert_eq!(chosen(&[], None).unwrap_err().exit, Exit::NotFound);
        assert_eq!(chosen(&["a"], Some("b")).unwrap_err().exit, Exit::NotFound);
        assert!(chosen(&["a", "a"], Some("a")).unwrap_err().message.contains("by its id"));
    }
}
