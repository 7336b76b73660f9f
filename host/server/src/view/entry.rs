//! A vault entry as clients and scripts see it.
//!
//! Credentials and a custom proxy's address are written as the ciphertext that came; of a bound entry there are none, for no such document has a
//! resolved value. Attributes are written as the very text that came. The command line hides what may let somebody in, unless it was asked for.

use jiff::Timestamp;
use keyway::{Attributes, CredentialSource, TfaMethod, VaultEntry};
use serde::ser::{Error, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// Writes an entry, every field there is, `null` where it is not set or not to be shown.
pub(crate) struct Entry {
    pub(crate) entry: VaultEntry,
    hides: bool,
}

impl From<VaultEntry> for Entry {
    fn from(entry: VaultEntry) -> Self {
        Self { entry, hides: false }
    }
}

impl Entry {
    /// Without credentials, and without the attributes that may let somebody in.
    pub(crate) fn hiding(entry: VaultEntry) -> Self {
        Self { entry, hides: true }
    }

    /// What is set and not shown.
    pub(crate) fn hidden(&self) -> Vec<&'static str> {
        let attributes = self.entry.attributes.iter().map(|(name, _)| name).filter(|name| Attributes::is_secret(name));
        if self.hides { own_credentials(&self.entry).into_iter().chain(attributes).collect() } else { Vec::new() }
    }
}

/// Which credentials of its own an entry has.
pub(crate) fn own_credentials(entry: &VaultEntry) -> Vec<&'static str> {
    let CredentialSource::Own(own) = &entry.credentials else { return Vec::new() };
    let all = [("user_name", &own.user_name), ("password", &own.password), ("tfa_secret", &own.tfa_secret)];
    all.into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name).collect()
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = &self.entry;
        let own = match &entry.credentials {
            CredentialSource::Own(own) if !self.hides => Some(own),
            CredentialSource::Own(_) | CredentialSource::Bound(_) => None,
        };
        let binding = entry.binding();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &entry.id)?;
        map.serialize_entry("workspace_id", &entry.workspace_id)?;
        // Workspaces are all that there is.
        map.serialize_entry("organization_id", &None::<&str>)?;
        map.serialize_entry("permissioned_user_id", &entry.permissioned_user_id)?;
        map.serialize_entry("domain", &entry.domain)?;
        map.serialize_entry("site_identifier", &site_of(&entry.domain))?;
        map.serialize_entry("user_alias", &entry.user_alias)?;
        map.serialize_entry("user_name", &own.and_then(|own| own.user_name.as_ref()))?;
        map.serialize_entry("password", &own.and_then(|own| own.password.as_ref()))?;
        map.serialize_entry("tfa_secret", &own.and_then(|own| own.tfa_secret.as_ref()))?;
        map.serialize_entry("tfa_method", &entry.tfa_method.map(TfaMethod::name))?;
        // There is no inbox and no telephone behind this server.
        map.serialize_entry("tfa_email", &None::<&str>)?;
        map.serialize_entry("tfa_phone_number", &None::<&str>)?;
        map.serialize_entry("passkey", &entry.passkey)?;
        map.serialize_entry("secret_provider_id", &binding.map(|binding| binding.connection_id))?;
        map.serialize_entry("secret_ref", &binding.map(|binding| &binding.reference))?;
        let ttl = binding.and_then(|binding| binding.cache_ttl).map(|ttl| ttl.seconds());
        map.serialize_entry("secret_cache_ttl_seconds", &ttl)?;
        for name in Attributes::names() {
            let value = entry.attributes.get(name).filter(|_| !self.hides || !Attributes::is_secret(name));
            let value = value.map(serde_json::from_str::<&RawValue>).transpose();
            map.serialize_entry(name, &value.map_err(S::Error::custom)?)?;
        }
        map.serialize_entry("session_data_set_at", &entry.session_data_set_at)?;
        map.serialize_entry("effective_expires_at", &entry.effective_expires_at())?;
        map.serialize_entry("created_at", &entry.created_at)?;
        map.serialize_entry::<_, Timestamp>("updated_at", &entry.updated_at)?;
        map.end()
    }
}

/// The site's name.
fn site_of(domain: &str) -> Option<String> {
    url::Url::parse(domain).ok()?.host_str().map(str::to_owned)
}
