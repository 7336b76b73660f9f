//! The keys of the host and of workspaces, and the rotation of both levels. Both rotations can run
//! while this and other processes serve requests, and can be interrupted at any moment.

mod attempts;
mod client_values;
mod master;
mod workspace;

use std::sync::Arc;

use keyway_audit::{Operation, Trail};
pub use keyway_keys::{
    ClientKey, ClientValueError, EnvelopeError, HostKey, KeyError, KeyId, KeyWrapper, MasterKey, MasterKeys,
};
use secrecy::SecretString;

use attempts::Attempts;
pub(crate) use client_values::under_new_client_key;
pub use master::RotatedMasterKey;
pub use workspace::RotatedWorkspaceKey;
pub(crate) use workspace::damaged_values;

use crate::access::Access;
use crate::core::Core;
use crate::error::BrokerError;

/// The keys: see [`Broker::keys`](crate::Broker::keys).
pub struct Keys {
    core: Arc<Core>,
    attempts: Attempts,
}

impl Keys {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, attempts: Attempts::default() }
    }

    /// The key of this host, from which keys for other purposes can be derived. It stays when the
    /// master key is replaced.
    pub fn host_key(&self) -> &HostKey {
        self.core.keyring.host_key()
    }

    /// The key that the workspace's clients encrypt credentials under: 64 hexadecimal digits. Needs
    /// [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// It opens what clients encrypted, but nothing that the broker seals, such as connections'
    /// settings and cached secrets.
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`], [`BrokerError::NotFound`].
    pub async fn encryption_key(&self, access: &Access) -> Result<SecretString, BrokerError> {
        let get = async {
            // Not from memory: another process may have rotated the key a moment ago.
            self.core.keyring.forget(access.workspace());
            Ok(self.core.keyring.get(access.workspace()).await?.client().to_hex())
        };
        self.core.audited(access, Operation::EncryptionKey, &Trail::new(), get).await
    }
}
