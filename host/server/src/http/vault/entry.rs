//! A vault entry as clients see it.
//!
//! Credentials and a custom proxy's address are returned as the ciphertext that came; of a bound entry there are none, for no answer of this API has a
//! resolved value. Attributes are returned as the very text that came.

use jiff::Timestamp;
use keyway::{Attributes, CredentialSource, TfaMethod, VaultEntry};
use serde::ser::{Error, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// Writes an entry, every field there is, `null` where it is not set.
pub(in crate::http) struct Entry(pub(super) VaultEntry);

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = &self.0;
        let own = match &entry.credentials {
            CredentialSource::Own(own) => Some(own),
            CredentialSource::Bound(_) => None,
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
            let value = entry.attributes.get(name).map(serde_json::from_str::<&RawValue>).transpose();
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
