//! Resolving an entry with credentials of its own: they are opened with the workspace's client key
//! when they are needed, and never kept in that form. There is nothing to cache, so the result is
//! always what is stored.

use std::sync::Arc;
use std::time::Instant;

use keyway_audit::AuditSource;
use keyway_keys::ClientKey;
use keyway_otp::{Kind, Totp};
use keyway_runtime::contract::{NoCode, NoCodeReason, OneTimeCode};
use keyway_storage::ItemId;
use secrecy::{ExposeSecret, SecretString};

use super::{Credentials, ResolvableEntry};
use crate::error::{BrokerError, Thing};
use crate::keyring::WorkspaceKeys;
use crate::resolve::{Resolution, ResolveRequest, Resolver, Timings, Unreleased};

impl Resolver {
    /// The values of an entry that is not bound. Its revision is the number of times it was stored.
    pub(crate) async fn resolve_own(
        &self,
        entry: &ResolvableEntry,
        request: &ResolveRequest,
    ) -> Result<Unreleased, BrokerError> {
        let started = Instant::now();
        let fields = request.fields;
        // There is no provider to fetch it from again.
        let rejected = request.rejected.as_deref();
        let item = ItemId::of_entry(entry.id);
        let ahead = match fields.password {
            true => {
                let state = self.items.state(entry.workspace_id, &item).await?;
                self.journal.password_ahead(state.as_deref()).await?.map(|(rotation, password)| (rotation.id, password))
            }
            false => None,
        };
        // Read again: a rotation that ended since the first read has put its password into the
        // entry, and is no longer ahead.
        let again = match (fields.password, &ahead) {
            (true, None) => Some(self.entries.resolvable(entry.workspace_id, &request.entry).await?),
            _ => None,
        };
        let entry = again.as_deref().unwrap_or(entry);
        if entry.binding.is_some() {
            return Err(BrokerError::Changed(Thing::Entry));
        }
        let (own, keys) = self.open_own(entry).await?;
        let value = |field, wanted: bool, ciphertext: Option<&str>| match ciphertext {
            Some(ciphertext) if wanted => open(keys.client(), field, ciphertext),
            _ => Ok(None),
        };
        let revision = entry.version.to_string();
        let (rotation, password) = ahead.unzip();
        let secret = value("tfa_secret", fields.one_time_code, own.tfa_secret.as_deref())?;
        let (one_time_code, no_code) = match secret.map(|secret| self.code_of(&secret)) {
            Some(Ok(code)) => (Some(code), None),
            Some(Err(none)) => (None, Some(none)),
            None => (None, fields.one_time_code.then(no_secret)),
        };
        let resolution = Resolution {
            username: value("user_name", fields.username, own.user_name.as_deref())?,
            password: password.or(value("password", fields.password, own.password.as_deref())?),
            rotation,
            // A secret that makes no code must not block the login, as on an item.
            one_time_code,
            no_code,
            code_revision: fields.one_time_code.then(|| revision.clone()),
            rejected_is_current: rejected == Some(&*revision),
            revision,
            timings: Timings { total: started.elapsed(), provider: None },
            ..Resolution::default()
        }
        .with_revision_of_rotation(rejected);
        Ok(Unreleased { item, resolution: resolution.into(), source: AuditSource::Entry })
    }

    async fn open_own(&self, entry: &ResolvableEntry) -> Result<(Credentials, Arc<WorkspaceKeys>), BrokerError> {
        let sealed = entry.sealed_credentials.as_deref();
        self.entries.open_credentials(entry.workspace_id, (entry.id, entry.version), sealed).await
    }

    fn code_of(&self, secret: &SecretString) -> Result<OneTimeCode, NoCode> {
        let now = u64::try_from(self.core.timestamp().as_second()).unwrap_or_default();
        let totp = Totp::parse(secret.expose_secret()).map_err(|error| {
            let reason = match error.kind() {
                Kind::CounterBased => NoCodeReason::CounterBased,
                Kind::Unsupported => NoCodeReason::Other("unsupported".to_owned()),
                _ => NoCodeReason::Malformed,
            };
            NoCode::new(reason, error.to_string())
        })?;
        let code = totp.code_at(now);
        Ok(OneTimeCode::new(code.code, code.expires_at, code.period_seconds))
    }
}

fn no_secret() -> NoCode {
    NoCode::new(NoCodeReason::Absent, "The entry has no tfa_secret.")
}

/// Opens a value that was checked when it was written, so that it must open.
fn open(key: &ClientKey, field: &str, ciphertext: &str) -> Result<Option<SecretString>, BrokerError> {
    let opened = key.decrypt(ciphertext);
    opened.map_err(|_| {
        BrokerError::Host(format!("the {field} of a vault entry cannot be opened with its workspace key").into())
    })
}
