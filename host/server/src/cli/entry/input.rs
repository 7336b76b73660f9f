//! What a vault entry is made of, from files, standard input and the terminal. Whatever clients of the HTTP API encrypt is encrypted here in the same way.

use std::path::{Path, PathBuf};

use keyway::{Access, AttributeChanges, Attributes, Broker, ClientKey, ErrorKind};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::cli::args::entry::{AttributeOptions, CredentialOptions};
use crate::cli::exit::CliError;
use crate::cli::secret_input;

/// The ciphertexts of user name, password and authenticator's secret.
type Credentials = (Option<String>, Option<String>, Option<String>);

/// Reads what is secret, standard input once at most.
pub(super) struct Input<'a> {
    broker: &'a Broker,
    access: &'a Access,
    stdin_is_read: bool,
}

impl<'a> Input<'a> {
    pub(super) fn new(broker: &'a Broker, access: &'a Access) -> Self {
        Self { broker, access, stdin_is_read: false }
    }

    /// Credentials from files. With `ask` and none of them given, a person at the terminal is asked for user name and password.
    pub(super) async fn credentials(
        &mut self,
        options: &CredentialOptions,
        ask: bool,
    ) -> Result<Credentials, CliError> {
        let files = [&options.user_name_file, &options.password_file, &options.tfa_secret_file];
        let mut read =
            |file: &Option<PathBuf>| file.as_deref().map(|file| self.read(file, secret_input::from_file)).transpose();
        let (mut user_name, mut password, tfa_secret) = (read(files[0])?, read(files[1])?, read(files[2])?);
        if ask && files.iter().all(|file| file.is_none()) {
            user_name = secret_input::ask("User name", "").transpose()?.filter(is_given);
            password = secret_input::ask("Password", "").transpose()?.filter(is_given);
        }
        if user_name.is_none() && password.is_none() && tfa_secret.is_none() {
            return Ok((None, None, None));
        }
        let key = self.client_key().await?;
        let encrypt = |value: Option<SecretString>| value.map(|value| encrypted(&key, &value)).transpose();
        Ok((encrypt(user_name)?, encrypt(password)?, encrypt(tfa_secret)?))
    }

    /// Attributes from arguments and files. `before` are those that the entry has.
    pub(super) async fn attributes(
        &mut self,
        options: &AttributeOptions,
        before: &Attributes,
    ) -> Result<AttributeChanges, CliError> {
        let mut changes = AttributeChanges::new();
        for (name, value) in &options.set {
            if Attributes::is_secret(name) {
                let message = format!("{name} may hold a secret, and other users can see arguments");
                return Err(CliError::usage(message).hint(format!("--set-file {name}=FILE reads it from a file")));
            }
            set(&mut changes, name, value)?;
        }
        let given = options.set.iter().rfind(|(name, _)| name == "proxy_setting").map(|(_, value)| value.as_str());
        let setting = given.or_else(|| before.get("proxy_setting"));
        // As a word, or as JSON.
        let is_custom = setting.is_some_and(|setting| setting.trim_matches('"') == "custom");
        for (name, file) in &options.set_file {
            let value = self.read(Path::new(file), secret_input::attribute_from_file)?;
            if name == "proxy_value" && is_custom {
                set(&mut changes, name, &encrypted(&self.client_key().await?, &value)?)?;
            } else {
                set(&mut changes, name, value.expose_secret())?;
            }
        }
        Ok(changes)
    }

    fn read(
        &mut self,
        file: &Path,
        from_file: fn(&Path) -> Result<SecretString, CliError>,
    ) -> Result<SecretString, CliError> {
        if file == Path::new("-") && std::mem::replace(&mut self.stdin_is_read, true) {
            return Err(CliError::usage("standard input can be read for one value only; give the others as files"));
        }
        from_file(file)
    }

    async fn client_key(&self) -> Result<ClientKey, CliError> {
        let key = self.broker.encryption_key(self.access).await?;
        ClientKey::from_hex(&key).map_err(|error| CliError::new(ErrorKind::Internal, error.to_string()))
    }
}

fn is_given(value: &SecretString) -> bool {
    !value.expose_secret().is_empty()
}

fn encrypted(key: &ClientKey, value: &SecretString) -> Result<String, CliError> {
    key.encrypt(value).map_err(|error| CliError::new(ErrorKind::Internal, error.to_string()))
}

/// A value that is JSON of the attribute's kind is taken so, everything else as text.
fn set(changes: &mut AttributeChanges, name: &str, value: &str) -> Result<(), CliError> {
    let Err(error) = changes.set(name, value) else { return Ok(()) };
    let quoted = Zeroizing::new(serde_json::Value::from(value).to_string());
    changes.set(name, &quoted).map_err(|_| CliError::new(ErrorKind::Invalid, error.to_string()))
}
