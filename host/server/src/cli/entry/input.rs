//! The content of a vault entry, from files, standard input and the terminal. Values that clients
//! of the HTTP API encrypt are encrypted here in the same way.

use std::path::Path;

use keyway::entries::Attributes;
use keyway::keys::ClientKey;
use keyway::{Access, Broker, ErrorKind};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::cli::args::entry::{AttributeOptions, CredentialOptions};
use crate::cli::exit::CliError;
use crate::cli::secret_input;
use crate::http::vault::attributes::{self, AttributeChanges, PROXY_SETTING, PROXY_VALUE};
use crate::http::vault::changes::EntryChanges;

/// Reads secrets, and standard input at most once.
pub(super) struct Input<'a> {
    broker: &'a Broker,
    access: &'a Access,
    stdin_is_read: bool,
    key: OnceCell<ClientKey>,
}

impl<'a> Input<'a> {
    pub(super) fn new(broker: &'a Broker, access: &'a Access) -> Self {
        Self { broker, access, stdin_is_read: false, key: OnceCell::new() }
    }

    /// Credentials from files. With `ask`, and when none of them is given, prompts for user name
    /// and password.
    pub(super) async fn credentials(
        &mut self,
        options: &CredentialOptions,
        ask: bool,
        to: &mut EntryChanges,
    ) -> Result<(), CliError> {
        let places = [
            (&options.user_name_file, "User name", &mut to.user_name),
            (&options.password_file, "Password", &mut to.password),
            (&options.tfa_secret_file, "", &mut to.tfa_secret),
        ];
        let ask = ask && places.iter().all(|(file, ..)| file.is_none());
        for (file, label, place) in places {
            let value = match file {
                Some(file) => Some(self.read(file, secret_input::LIMIT)?),
                None if ask && !label.is_empty() => {
                    secret_input::ask(label, "").transpose()?.filter(|value| !value.expose_secret().is_empty())
                }
                None => None,
            };
            if let Some(value) = value {
                *place = Some(Some(self.encrypted(&value).await?));
            }
        }
        Ok(())
    }

    /// Attributes from arguments and files. `before` are the entry's current ones.
    pub(super) async fn attributes(
        &mut self,
        options: &AttributeOptions,
        before: &Attributes,
    ) -> Result<AttributeChanges, CliError> {
        let mut changes = AttributeChanges::default();
        for (name, value) in &options.set {
            if attributes::is_secret(name) {
                let message = format!("{name} may hold a secret, and other users can see arguments");
                return Err(CliError::usage(message).hint(format!("--set-file {name}=FILE reads it from a file")));
            }
            set(&mut changes, name, value)?;
        }
        let given = options.set.iter().rfind(|(name, _)| name == PROXY_SETTING).map(|(_, value)| value.as_str());
        let setting = given.or_else(|| before.get(PROXY_SETTING));
        // As a word, or as JSON.
        let is_custom = setting.is_some_and(|setting| setting.trim_matches('"') == "custom");
        for (name, file) in &options.set_file {
            let value = self.read(Path::new(file), secret_input::ATTRIBUTE_LIMIT)?;
            if name == PROXY_VALUE && is_custom {
                set(&mut changes, name, &self.encrypted(&value).await?)?;
            } else {
                set(&mut changes, name, value.expose_secret())?;
            }
        }
        Ok(changes)
    }

    fn read(&mut self, file: &Path, limit: usize) -> Result<SecretString, CliError> {
        if file == Path::new("-") && std::mem::replace(&mut self.stdin_is_read, true) {
            return Err(CliError::usage("standard input can supply only one value; give the others as files"));
        }
        secret_input::read(file, limit)
    }

    async fn encrypted(&self, value: &SecretString) -> Result<String, CliError> {
        let key =
            async { ClientKey::from_hex(&self.broker.keys().encryption_key(self.access).await?).map_err(internal) };
        self.key.get_or_try_init(|| key).await?.encrypt(value).map_err(internal)
    }
}

fn internal(error: impl std::error::Error) -> CliError {
    CliError::new(ErrorKind::Internal, error.to_string())
}

/// Takes a value as JSON if it is JSON of the attribute's kind, and otherwise as text.
fn set(changes: &mut AttributeChanges, name: &str, value: &str) -> Result<(), CliError> {
    let Err(error) = changes.set(name, value) else { return Ok(()) };
    let quoted = Zeroizing::new(serde_json::Value::from(value).to_string());
    changes.set(name, &quoted).map_err(|_| CliError::new(ErrorKind::Invalid, error.to_string()))
}
