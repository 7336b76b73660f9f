//! The runtime: one engine, its limits, and everything that all calls share.

use std::path::PathBuf;
use std::sync::Arc;

use keyway_clock::{Clock, SystemClock};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::adapter::{Adapter, VERSIONS};
use crate::code_cache::{CodeCache, CodeCacheKey};
use crate::compiler::Compiler;
use crate::connection::OpenConnection;
use crate::contract::Settings;
use crate::egress::{
    self, ApprovedDestination, Authorities, AuthoritiesError, ClockSkew, Egress, EgressPolicy, Guard, RequestCounter,
    Trust,
};
use crate::engine::{self, AddressSpace, Ticker};
use crate::error::{CallError, LoadError, SandboxError};
use crate::limits::Limits;
use crate::provider::{self, Provider};
use crate::session::{SessionKey, Slot};
use crate::settings::Patterns;
use crate::state::CallState;
use crate::{imports, request_parts, self_test, validate};

/// Loads secret provider components and runs their calls. Cheap to clone; a process usually has
/// one.
#[derive(Clone)]
pub struct Runtime(pub(crate) Arc<Shared>);

/// What all calls share.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    space: AddressSpace,
    pub(crate) limits: Arc<Limits>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) turns: Arc<Semaphore>,
    linker: Linker<CallState>,
    compiler: Compiler,
    code_cache: Option<CodeCache>,
    policy: Arc<EgressPolicy>,
    clock_skew: Arc<ClockSkew>,
    trust: Trust,
    egress_layer: Option<EgressLayer>,
    session_key: Arc<SessionKey>,
    _ticker: Ticker,
}

/// Wraps the guard of a connection.
type EgressLayer = Arc<dyn Fn(Arc<dyn Egress>) -> Arc<dyn Egress> + Send + Sync>;

/// The runtime cannot start.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The sandbox cannot be set up on this machine.
    #[error("cannot set up the sandbox: {0}")]
    Sandbox(String),
    /// A limit was tested and had no effect.
    #[error("the sandbox is not safe: {0}. The host does not start")]
    SelfTest(String),
    /// The certificate authorities of the network policy cannot be used.
    #[error(transparent)]
    Authorities(#[from] AuthoritiesError),
}

/// What to do when there is no room for a sandbox. With 4 GiB, a few calls run at once.
pub const MORE_ADDRESS_SPACE: &str =
    "Allow at least 4 GiB of address space, better no limit (`ulimit -v unlimited`, `LimitAS=infinity`)";

/// Sets up a [`Runtime`].
pub struct RuntimeBuilder {
    limits: Limits,
    clock: Arc<dyn Clock>,
    compiler: Compiler,
    code_cache: Option<CodeCache>,
    policy: EgressPolicy,
    egress_layer: Option<EgressLayer>,
}

impl RuntimeBuilder {
    /// Replaces the default limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Replaces the system clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where components are compiled.
    #[must_use]
    pub fn compiler(mut self, compiler: Compiler) -> Self {
        self.compiler = compiler;
        self
    }

    /// Keeps compiled components in a folder, so that they next load in a millisecond.
    #[must_use]
    pub fn code_cache(mut self, folder: impl Into<PathBuf>, key: CodeCacheKey) -> Self {
        self.code_cache = Some(CodeCache::new(folder.into(), key));
        self
    }

    /// Sets the operator's network policy.
    #[must_use]
    pub fn egress(mut self, policy: EgressPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Puts a layer between the components and the guard, for example to inject faults. The
    /// function is called once for each connection with that connection's guard, and returns what
    /// the components talk to.
    #[must_use]
    pub fn egress_layer(mut self, layer: impl Fn(Arc<dyn Egress>) -> Arc<dyn Egress> + Send + Sync + 'static) -> Self {
        self.egress_layer = Some(Arc::new(layer));
        self
    }

    /// Sets up the sandbox and tests its limits. Takes about 40 ms.
    pub fn build(self) -> Result<Runtime, SetupError> {
        Ok(self.prepare()?.build())
    }

    /// The slow part of [`build`](Self::build), for a host that meanwhile obtains the key of its
    /// code cache.
    ///
    /// Where the address space is limited, fewer calls may run at once than
    /// [`Limits::concurrent_calls`]: [`Runtime::limits`] says how many.
    pub fn prepare(mut self) -> Result<PreparedRuntime, SetupError> {
        let sandbox = |error: &dyn std::fmt::Display| SetupError::Sandbox(error.to_string());
        let (engine, space) = engine::fitting(&mut self.limits)
            .map_err(|error| SetupError::Sandbox(format!("{error:#}. {MORE_ADDRESS_SPACE}")))?;
        let ticker = Ticker::start(&engine).map_err(|error| sandbox(&error))?;
        self_test::run(&engine)?;
        let linker = linker(&engine).map_err(|error| SetupError::Sandbox(format!("{error:#}")))?;
        let session_key = SessionKey::generate().map_err(|error| sandbox(&error))?;
        let turns = Arc::new(Semaphore::new(self.limits.concurrent_calls as usize));
        Ok(PreparedRuntime(Shared {
            engine,
            space,
            limits: Arc::new(self.limits),
            clock_skew: Arc::new(ClockSkew::new(self.clock.clone())),
            clock: self.clock,
            turns,
            linker,
            compiler: self.compiler,
            code_cache: self.code_cache,
            trust: Trust::new(self.policy.ca_store, &self.policy.authorities)?,
            policy: Arc::new(self.policy),
            egress_layer: self.egress_layer,
            session_key: Arc::new(session_key),
            _ticker: ticker,
        }))
    }
}

/// A sandbox that passed its tests, and is not in use yet.
pub struct PreparedRuntime(Shared);

impl PreparedRuntime {
    /// As [`RuntimeBuilder::code_cache`].
    #[must_use]
    pub fn code_cache(mut self, folder: impl Into<PathBuf>, key: CodeCacheKey) -> Self {
        self.0.code_cache = Some(CodeCache::new(folder.into(), key));
        self
    }

    /// The runtime.
    pub fn build(self) -> Runtime {
        Runtime(Arc::new(self.0))
    }
}

impl std::fmt::Debug for PreparedRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedRuntime").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<CallState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    request_parts::limit(&mut linker)?;
    for version in VERSIONS {
        (version.link)(&mut linker)?;
    }
    Ok(linker)
}

impl Runtime {
    /// A builder with the default limits, the system clock, no code cache and public addresses
    /// only.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder {
            limits: Limits::default(),
            clock: Arc::new(SystemClock::new()),
            compiler: Compiler::default(),
            code_cache: None,
            policy: EgressPolicy::default(),
            egress_layer: None,
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// What is wrong with this machine's clock, in a sentence, if the dates of servers' answers
    /// differ from it by more than five seconds.
    pub fn clock_warning(&self) -> Option<String> {
        self.0.clock_skew.wrong_by().map(egress::described)
    }

    /// Whether this is a clone of `other`.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Loads a component: compiles it (or takes its compiled form from the code cache), checks its
    /// imports and exports, and calls its `describe`.
    ///
    /// `component` is the component in binary form.
    pub async fn load(&self, component: &[u8]) -> Result<Provider, LoadError> {
        let shared = &self.0;
        let limit_bytes = shared.limits.component_bytes;
        if component.len() > limit_bytes {
            return Err(LoadError::TooLarge { limit_bytes });
        }
        validate::preamble(component).map_err(LoadError::Malformed)?;
        let digest: Arc<str> = hex(&Sha256::digest(component)).into();
        let compiled = self.compiled(component.into(), digest.clone()).await?;
        let version = imports::check(&shared.engine, &compiled)?;
        let linked = shared.linker.instantiate_pre(&compiled).map_err(|error| imports::not_linked(&error))?;
        let adapter = (version.adapt)(linked).map_err(|error| other_shape(version.export, format!("{error:#}")))?;
        self.describe(adapter, digest, version.export).await
    }

    /// Calls a provider's `describe` and checks the answer. `export` is the interface of its
    /// functions.
    pub(crate) async fn describe(
        &self,
        adapter: Box<dyn Adapter>,
        digest: Arc<str>,
        export: &str,
    ) -> Result<Provider, LoadError> {
        let described = provider::describe(&self.0, &*adapter).await;
        let description = described.map_err(|error| match error {
            CallError::Sandbox(SandboxError::OtherShape(mismatch)) => other_shape(export, mismatch),
            error => LoadError::Describe(error),
        })?;
        validate::description(&description).map_err(LoadError::InvalidDescription)?;
        let patterns = Patterns::compile(&description).map_err(LoadError::InvalidDescription)?;
        validate::defaults(&description, &patterns).map_err(LoadError::InvalidDescription)?;
        Ok(Provider::new(self.0.clone(), adapter, description, patterns, digest))
    }

    async fn compiled(&self, component: Arc<[u8]>, digest: Arc<str>) -> Result<Component, LoadError> {
        let host = |error: tokio::task::JoinError| LoadError::Host(error.to_string());
        let shared = self.0.clone();
        let key = digest.clone();
        let cached = tokio::task::spawn_blocking(move || {
            let code = shared.code_cache.as_ref()?.get(&shared.engine, &key)?;
            // A file from another wasmtime is a miss.
            load_code(&shared.engine, &code).ok()
        });
        if let Some(component) = cached.await.map_err(host)? {
            return Ok(component);
        }
        let code = self.0.compiler.compile((&self.0.engine, self.0.space), &self.0.limits, &component).await?;
        let shared = self.0.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            let component = load_code(&shared.engine, &code)?;
            if let Some(cache) = &shared.code_cache {
                cache.put(&shared.engine, &digest, &code);
            }
            Ok(component)
        });
        loaded.await.map_err(host)?.map_err(|error: wasmtime::Error| LoadError::Compile(format!("{error:#}")))
    }

    /// Opens a connection with its own session and network pool. Makes no request yet.
    ///
    /// `approved` are the destinations that its provider may connect to;
    /// [`Description::approved_destinations`](crate::contract::Description::approved_destinations)
    /// says which the provider asks for.
    pub fn connection(&self, settings: Settings, approved: Vec<ApprovedDestination>) -> OpenConnection {
        self.open(settings, approved, self.0.trust.config().clone())
    }

    /// The same for a connection that trusts further certificate authorities. No other connection
    /// does.
    ///
    /// # Errors
    /// [`AuthoritiesError`] if they cannot be used.
    pub fn connection_trusting(
        &self,
        settings: Settings,
        approved: Vec<ApprovedDestination>,
        authorities: &Authorities,
    ) -> Result<OpenConnection, AuthoritiesError> {
        Ok(self.open(settings, approved, self.0.trust.with(authorities)?))
    }

    fn open(
        &self,
        settings: Settings,
        approved: Vec<ApprovedDestination>,
        tls: Arc<rustls::ClientConfig>,
    ) -> OpenConnection {
        let shared = &self.0;
        let approved: Arc<[ApprovedDestination]> = approved.into();
        let counter: Arc<RequestCounter> = Arc::default();
        let (policy, limits) = (shared.policy.clone(), shared.limits.clone());
        let guard = Guard::new(policy, tls, approved.clone(), limits, counter.clone(), shared.clock_skew.clone());
        let mut egress: Arc<dyn Egress> = Arc::new(guard);
        if let Some(layer) = &shared.egress_layer {
            egress = layer(egress);
        }
        let slot = Slot::new(shared.session_key.clone(), shared.clock.clone(), shared.limits.session_bytes);
        let turns = Arc::new(Semaphore::new(shared.limits.calls_per_connection as usize));
        OpenConnection::new(settings, approved, Arc::new(slot), egress, counter, turns)
    }
}

fn other_shape(export: &str, mismatch: String) -> LoadError {
    LoadError::OtherShape { interface: export.to_owned(), mismatch }
}

#[expect(unsafe_code, reason = "the bytes come from the compiler or carry the code cache's MAC")]
fn load_code(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: wasmtime executes the code it is given here. The code comes from
    // `precompile_component` of this program: either just now, or from a file whose MAC was checked
    // with a key that only this host has.
    unsafe { Component::deserialize(engine, code) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}
