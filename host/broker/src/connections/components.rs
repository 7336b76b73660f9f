//! Which component serves a provider type: each change is in the audit log before the new component
//! is used.
//!
//! How it can fail: the digest that served last is in the database, not authenticated. Without that
//! row a change is not noticed; the records of operations name the component all the same.

use std::collections::HashMap;
use std::sync::Arc;

use keyway_audit::{AuditActor, AuditEvent, Durability, Operation, Outcome};
use keyway_runtime::Provider;
use parking_lot::Mutex;
use tracing::warn;

use crate::core::Core;
use crate::error::BrokerError;
use crate::providers::Providers;

/// The digests of the components in use, by provider type.
#[derive(Default)]
pub(crate) struct Components(Mutex<HashMap<String, String>>);

impl Components {
    /// Records that another component serves the type of this provider than did last, here or in
    /// an earlier process.
    pub(super) async fn serves(
        &self,
        core: &Arc<Core>,
        providers: &Providers,
        provider: &Provider,
    ) -> Result<(), BrokerError> {
        let (provider_type, digest) = (&*provider.description().provider_type, provider.digest());
        if self.0.lock().get(provider_type).is_some_and(|known| known == digest) {
            return Ok(());
        }
        let before = core.storage.component(provider_type).await?;
        if before.as_deref() != Some(digest) {
            if let Some(before) = before {
                let mut event =
                    AuditEvent::new(core.timestamp(), AuditActor::System, Operation::ComponentChanged, Outcome::OK);
                event.subject.provider_type = Some(provider_type.to_owned());
                event.subject.component = Some(digest.to_owned());
                event.subject.former_component = Some(before);
                event.subject.file = providers.file_of(digest);
                core.recorder.append(&event, Durability::Synced).await?;
            }
            if let Err(error) = core.storage.put_component(provider_type, digest).await {
                // The next process records the change again, which is harmless.
                warn!(provider_type, %error, "the component that serves could not be noted");
            }
        }
        self.0.lock().insert(provider_type.to_owned(), digest.to_owned());
        Ok(())
    }
}
