//! Ready-to-paste `curl` lines for the demo's HTTP API, as on the product's page.

use keyway::ConnectionId;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::json;

use crate::view::secret::exposed;

/// The API and how to try it.
#[derive(Serialize)]
pub(super) struct Api {
    pub(super) url: String,
    #[serde(serialize_with = "exposed")]
    pub(super) api_key: SecretString,
    /// Commands for a shell in which `CC_API_KEY` is set.
    pub(super) curl: Vec<Command>,
}

/// One command.
#[derive(Serialize)]
pub(super) struct Command {
    pub(super) about: &'static str,
    pub(super) command: String,
}

const KEY: &str = r#"-H "cc-key: $CC_API_KEY""#;

impl Api {
    /// `reference` is an item to bind another vault entry to.
    pub(super) fn new(
        url: String,
        api_key: SecretString,
        connection: ConnectionId,
        domain: &str,
        reference: &str,
    ) -> Self {
        let body = json!({
            "permissioned_user_id": "another-user",
            "domain": domain,
            "secret_provider_id": connection,
            "secret_ref": reference,
            "secret_cache_ttl_seconds": 300,
        });
        let resolve = json!({ "permissioned_user_id": "another-user", "domain": domain });
        let command = |about, command| Command { about, command };
        let curl = vec![
            command("List the connections", format!("curl {url}/secret-providers {KEY}")),
            command("List the items that one can see", format!("curl {url}/secret-providers/{connection}/items {KEY}")),
            command(
                "Bind a vault entry to an item",
                format!(
                    "curl -X POST {url}/vault {KEY} -H \"Content-Type: application/json\" -d {}",
                    quoted(&body.to_string())
                ),
            ),
            command("List the vault entries", format!("curl {url}/vault {KEY}")),
            command(
                "Resolve an entry, which is what a platform does before a login",
                format!(
                    "curl -X POST {url}/vault/resolve {KEY} -H \"Content-Type: application/json\" -d {}",
                    quoted(&resolve.to_string())
                ),
            ),
        ];
        Self { url, api_key, curl }
    }
}

/// Quotes any text as one word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_the_secret_manager_cannot_leave_the_quotes() {
        let api =
            Api::new("http://h".into(), "k".into(), uuid::Uuid::nil().into(), "https://a", "op://v/'; rm -rf ~ #'");
        let post = &api.curl[2].command;
        assert!(post.contains(r"op://v/'\''; rm -rf ~ #'\''"), "{post}");
        assert!(post.ends_with('\''));
    }
}
