//! The set-up of whole-system tests and benchmarks: the compiled 1Password component in a runtime,
//! connected to an emulator.

#![deny(missing_docs)]

use std::path::PathBuf;

use keyway_emulator_onepassword::{Emulator, KnobError, Options, StartError};
use keyway_runtime::egress::{DestinationError, EgressPolicy};
use keyway_runtime::{LoadError, OpenConnection, Provider, Runtime, RuntimeBuilder, Settings, SetupError};
use thiserror::Error;

/// The set-up failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LabError {
    /// A component was not built.
    #[error("cannot read {}: {source}. Run `cargo xtask build-components` first", file.display())]
    NoComponent {
        /// The missing file.
        file: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The emulator did not start.
    #[error(transparent)]
    Emulator(#[from] StartError),
    /// The emulator has no such account.
    #[error(transparent)]
    Account(#[from] KnobError),
    /// The runtime did not start.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The component was refused.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The component's destinations are invalid.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The emulator's address cannot be used.
    #[error("the emulator's address is not usable: {0}")]
    Address(String),
}

/// The folder of compiled components: `KEYWAY_COMPONENTS`, or `target/components`.
pub fn components() -> PathBuf {
    std::env::var_os("KEYWAY_COMPONENTS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/components"), PathBuf::from)
}

/// A compiled component by its file name without `.wasm`, for example `onepassword` or
/// `fixtures/echo`.
pub fn component(name: &str) -> Result<Vec<u8>, LabError> {
    let file = components().join(format!("{name}.wasm"));
    std::fs::read(&file).map_err(|source| LabError::NoComponent { file, source })
}

/// An emulator, and a runtime with the 1Password component, whose requests go to it.
pub struct Lab {
    /// The server.
    pub emulator: Emulator,
    /// The host.
    pub runtime: Runtime,
    /// The component.
    pub provider: Provider,
}

impl Lab {
    /// With the default emulator and limits.
    pub async fn start() -> Result<Self, LabError> {
        Self::start_with(Options::default(), Runtime::builder()).await
    }

    /// With another emulator or other limits.
    pub async fn start_with(options: Options, runtime: RuntimeBuilder) -> Result<Self, LabError> {
        let emulator = Emulator::start_with(options)?;
        let rule = format!("{}={}", emulator.host(), emulator.url());
        let rule = rule.parse().map_err(|_| LabError::Address(rule))?;
        let runtime = runtime.egress(EgressPolicy::default().with_connect_to(rule)).build()?;
        let provider = runtime.load(&component("onepassword")?).await?;
        Ok(Self { emulator, runtime, provider })
    }

    /// A connection with the token of this account of the emulator.
    pub fn connect(&self, account: &str) -> Result<OpenConnection, LabError> {
        self.connect_with(&self.emulator.account(account)?.token)
    }

    /// A connection with this token.
    pub fn connect_with(&self, token: &str) -> Result<OpenConnection, LabError> {
        let settings = Settings::new().with("token", token);
        let approved = self.provider.description().approved_destinations(&settings)?;
        Ok(self.runtime.connection(settings, approved))
    }

    /// The reference of an item that the account `automation` sees, by vault name and title.
    pub fn reference(&self, vault: &str, title: &str) -> Option<String> {
        let account = self.emulator.account("automation").ok()?;
        Some(account.vault(vault)?.item(title)?.reference.clone())
    }
}
