//! One connection to a secret manager: settings, session and network pool.
//!
//! **Invariant:** between calls, settings are ciphertext in memory, like sessions and cached
//! values.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::contract::Settings;
use crate::egress::{ApprovedDestination, Egress, RequestCounter, RequestCounts, RequestGate};
use crate::error::ProviderError;
use crate::session::{SessionKey, Slot};
use crate::store::StateStore;

/// What the calls of one connection share. Cheap to clone.
///
/// Open it once with [`crate::Runtime::connection`] and keep it for as long as the settings stay
/// the same. It holds the login session and the open network connections, which no other connection
/// can reach. When the settings change, drop it and open another.
#[derive(Clone)]
pub struct OpenConnection {
    inner: Arc<Inner>,
    gate: Option<Arc<dyn RequestGate>>,
    state_store: Option<Arc<dyn StateStore>>,
}

struct Inner {
    settings: Sealed,
    approved: Arc<[ApprovedDestination]>,
    slot: Arc<Slot>,
    egress: Arc<dyn Egress>,
    counter: Arc<RequestCounter>,
    turns: Arc<Semaphore>,
    /// The settings as the component with this digest receives them, once checked.
    checked: Mutex<Option<(Arc<str>, Sealed)>>,
}

/// Settings under the key of the process's sessions.
struct Sealed(Option<Vec<u8>>);

impl Sealed {
    /// Without random bytes, which the process had at its start, there are none: the next call says
    /// which are missing.
    fn new(settings: &Settings, key: &SessionKey) -> Self {
        Self(key.seal(&settings.encode()))
    }

    fn open(&self, key: &SessionKey) -> Settings {
        let opened = self.0.as_ref().and_then(|sealed| key.open(sealed));
        opened.and_then(|encoded| Settings::decode(&encoded)).unwrap_or_default()
    }
}

impl OpenConnection {
    pub(crate) fn new(
        settings: Settings,
        approved: Arc<[ApprovedDestination]>,
        slot: Arc<Slot>,
        egress: Arc<dyn Egress>,
        counter: Arc<RequestCounter>,
        turns: Arc<Semaphore>,
    ) -> Self {
        let settings = Sealed::new(&settings, slot.key());
        let inner = Arc::new(Inner { settings, approved, slot, egress, counter, turns, checked: Mutex::default() });
        Self { inner, gate: None, state_store: None }
    }

    /// Where the provider may connect to on behalf of this connection.
    pub fn approved_destinations(&self) -> &[ApprovedDestination] {
        &self.inner.approved
    }

    /// The outcomes of its requests so far.
    pub fn request_counts(&self) -> RequestCounts {
        self.inner.counter.read()
    }

    /// The same connection, with the same session and network pool, whose calls ask this gate
    /// before each request.
    #[must_use]
    pub fn with_gate(&self, gate: Arc<dyn RequestGate>) -> Self {
        Self { gate: Some(gate), ..self.clone() }
    }

    /// The same connection, with its durable state kept in this store. Without a store, a provider
    /// that wants to keep state gets the error `unsupported`.
    #[must_use]
    pub fn with_state_store(&self, state_store: Arc<dyn StateStore>) -> Self {
        Self { state_store: Some(state_store), ..self.clone() }
    }

    /// Discards the login session; the next call logs in again.
    pub fn clear_session(&self) {
        self.inner.slot.clear();
    }

    pub(crate) fn settings(&self) -> Settings {
        self.inner.settings.open(self.inner.slot.key())
    }

    /// The settings as this component receives them. They are checked once for each build of the
    /// component.
    pub(crate) fn checked_settings(
        &self,
        component: &Arc<str>,
        check: impl FnOnce(&Settings) -> Result<Settings, ProviderError>,
    ) -> Result<Arc<Settings>, ProviderError> {
        let mut checked = self.inner.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let key = self.inner.slot.key();
        if let Some((of, settings)) = &*checked
            && of == component
        {
            return Ok(Arc::new(settings.open(key)));
        }
        let settings = check(&self.settings())?;
        *checked = Some((component.clone(), Sealed::new(&settings, key)));
        Ok(Arc::new(settings))
    }

    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.inner.slot
    }

    /// The permits for its running calls.
    pub(crate) fn turns(&self) -> &Arc<Semaphore> {
        &self.inner.turns
    }

    pub(crate) fn egress(&self) -> &Arc<dyn Egress> {
        &self.inner.egress
    }

    pub(crate) fn state_store(&self) -> Option<&Arc<dyn StateStore>> {
        self.state_store.as_ref()
    }

    pub(crate) fn gate(&self) -> Option<&Arc<dyn RequestGate>> {
        self.gate.as_ref()
    }
}

impl std::fmt::Debug for OpenConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenConnection").field("approved", &self.inner.approved).finish_non_exhaustive()
    }
}
