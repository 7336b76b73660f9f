//! Shared by all commands: the global options, the host's configuration, and opening it.

use std::time::Duration;

use keyway::Access;
use keyway::storage::StorageError;
use keyway_runtime::egress::{CaStore, EgressPolicy};
use keyway_runtime::{Compiler, Provider};
use tokio::sync::OnceCell;

use super::args::global::{AuditSync, Authorities, GlobalOptions};
use super::args::target::WorkspaceOption;
use super::args::values::Private;
use super::exit::CliError;
use super::output::Output;
use super::settings::{Origin, Settings};
use super::{proxy, select};
use crate::config::{HostConfig, MasterKeySource, default_data_dir};
use crate::host::{Host, OpenError};
use crate::process::MASTER_KEY_VARIABLE;

/// The only argument of a program that compiles the component on its standard input, and is no
/// command: the program runs itself this way, in a separate process with limits.
pub(super) const COMPILE_COMPONENT: &str = "compile-component";

/// When opening takes longer than this, a note says why.
const NOTICE_AFTER: Duration = Duration::from_millis(800);

/// The state of every command.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) output: Output,
    pub(crate) global: GlobalOptions,
    /// The settings with their origins.
    pub(crate) settings: Settings,
    /// The opened host; closed with the command, however the command ends.
    host: OnceCell<Host>,
}

impl App {
    pub(super) fn new(global: GlobalOptions, settings: Settings) -> Self {
        Self { output: Output { json: global.json }, global, settings, host: OnceCell::new() }
    }

    /// Closes the opened host.
    pub(super) async fn close(&self) {
        if let Some(host) = self.host.get() {
            host.close().await;
        }
    }

    /// Adds to an error what it has to do with the settings: the provider folder, for a provider
    /// that is missing; redirections and the proxy, where requests do not get through.
    pub(super) fn with_what_to_do(&self, error: CliError) -> CliError {
        let Ok(config) = self.config() else { return error };
        if error.is_not_installed() && error.hint.is_none() {
            let folder = config.provider_folder();
            return error.hint(format!(
                "the provider folder is {}; `keyway provider list` shows what is in it, and why a file is not in use",
                folder.display()
            ));
        }
        if !error.is_unreachable || error.in_result {
            return error;
        }
        let rules: Vec<_> = self.global.connect_to.iter().map(ToString::to_string).collect();
        match &config.egress.proxy {
            _ if !rules.is_empty() => {
                error.hint(format!("connections are redirected ({}): is there a server?", rules.join(", ")))
            }
            Some(proxy) => {
                error.hint(format!("requests leave through the proxy {proxy}; `keyway config check` tries it"))
            }
            None => error,
        }
    }

    /// The host's configuration, from flags, environment and file.
    pub(crate) fn config(&self) -> Result<HostConfig, CliError> {
        let data_dir = self.global.data_dir.clone().or_else(default_data_dir).ok_or_else(|| {
            CliError::usage("there is no home folder to keep data in").hint("--data-dir names a folder")
        })?;
        self.config_in(data_dir)
    }

    /// The same with another data folder.
    pub(crate) fn config_in(&self, data_dir: std::path::PathBuf) -> Result<HostConfig, CliError> {
        let global = &self.global;
        let mut host = HostConfig::new(data_dir);
        host.operator = select::OPERATOR.to_owned();
        host.providers.clone_from(&global.providers);
        host.old_master_key.clone_from(&global.old_master_key_file);
        host.egress = global.connect_to.iter().cloned().fold(host.egress, EgressPolicy::with_connect_to);
        for private in &global.allow_private {
            host.egress = match private {
                Private::Destination(destination) => host.egress.with_private(destination.clone()),
                Private::Range(range) => host.egress.with_range(*range),
            };
        }
        let is_readable = matches!(self.settings.origin(proxy::SETTING), Origin::Flag | Origin::File);
        host.egress.proxy = proxy::proxy(global.proxy.as_ref(), is_readable)?;
        host.egress.no_proxy = proxy::no_proxy(&global.no_proxy);
        host.egress.ca_store = match global.ca_store {
            Authorities::Mozilla => CaStore::Mozilla,
            Authorities::System => CaStore::System,
        };
        host.ca_file.clone_from(&global.ca_file);
        for (provider, tier) in &global.default_rate_limit_tier {
            host.budgets = host.budgets.default_tier(provider, tier);
        }
        host.audit = host.audit.sync_every_record(global.audit_sync == AuditSync::Every);
        if let Some(folder) = &global.audit_dir {
            host.audit.folder.clone_from(folder);
        }
        if let Some(mebibytes) = global.audit_segment_mib {
            host.audit = host.audit.segment_bytes(u64::from(mebibytes) << 20);
        }
        // The program compiles components in a child process, which it can kill.
        match std::env::current_exe() {
            Ok(program) => host.compiler = Compiler::Child { program, args: vec![COMPILE_COMPONENT.into()] },
            Err(error) => tracing::warn!(
                %error,
                "the program cannot find its own executable, so it compiles components in this process, without separate limits"
            ),
        }
        // The key itself is also a variable. It wins over a file named in the configuration file,
        // but not over one named in the environment or by a flag.
        let in_environment = std::env::var_os(MASTER_KEY_VARIABLE).is_some_and(|key| !key.is_empty());
        let counts = !in_environment || self.settings.origin("master_key_file") != Origin::File;
        host.master_key = match &global.master_key_file {
            Some(file) if counts => Some(MasterKeySource::File(file.clone())),
            _ => in_environment.then(|| MasterKeySource::Environment(MASTER_KEY_VARIABLE.to_owned())),
        };
        Ok(host)
    }

    /// Opens the host with its providers.
    pub(crate) async fn open(&self) -> Result<&Host, CliError> {
        self.open_with_providers(false).await
    }

    /// Opens the host for a server.
    pub(crate) async fn open_to_serve(&self) -> Result<&Host, CliError> {
        self.open_with_providers(true).await
    }

    async fn open_with_providers(&self, background_work: bool) -> Result<&Host, CliError> {
        let open = async {
            let config = HostConfig { background_work, ..self.config()? };
            let host = patiently(Host::open(&config)).await?;
            self.check_tiers(|provider_type| host.broker().providers().get(provider_type))?;
            Ok(host)
        };
        self.host.get_or_try_init(|| open).await
    }

    /// A default tier that an installed provider does not declare is a mistake.
    pub(super) fn check_tiers(&self, installed: impl Fn(&str) -> Option<Provider>) -> Result<(), CliError> {
        for (provider_type, tier) in &self.global.default_rate_limit_tier {
            let Some(provider) = installed(provider_type) else { continue };
            let known: Vec<_> = provider.description().rate_limits.iter().map(|tier| tier.name.as_str()).collect();
            if !known.contains(&tier.as_str()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let message = format!("{provider_type} has no rate-limit tier `{tier}`; it declares {known}");
                return Err(CliError::usage(message).hint("--default-rate-limit-tier names one for each type"));
            }
        }
        Ok(())
    }

    /// The provider types that have a default tier and are not installed.
    pub(super) fn unknown_tiers(&self, installed: impl Fn(&str) -> Option<Provider>) -> Vec<&str> {
        let types = self.global.default_rate_limit_tier.iter().map(|(provider_type, _)| provider_type.as_str());
        types.filter(|provider_type| installed(provider_type).is_none()).collect()
    }

    /// Opens the host for a command that calls no provider.
    pub(crate) async fn open_without_providers(&self) -> Result<&Host, CliError> {
        let open = async { Ok(Host::open_without_providers(&self.config()?).await?) };
        self.host.get_or_try_init(|| open).await
    }

    /// Opens the host for a command that only reads the database. A database of an earlier release
    /// is brought up to date first.
    pub(crate) async fn open_read_only(&self) -> Result<&Host, CliError> {
        let open = async {
            let config = self.config()?;
            match Host::open_read_only(&config).await {
                Err(OpenError::Storage(StorageError::Outdated { .. })) => {
                    Ok(Host::open_without_providers(&config).await?)
                }
                host => Ok(host?),
            }
        };
        self.host.get_or_try_init(|| open).await
    }

    /// Opens the host with its providers, for a command in this workspace.
    pub(crate) async fn open_in(&self, workspace: &WorkspaceOption) -> Result<(&Host, Access), CliError> {
        self.open_for(workspace, true).await
    }

    /// The same for a command that calls no provider.
    pub(crate) async fn open_without_providers_in(
        &self,
        workspace: &WorkspaceOption,
    ) -> Result<(&Host, Access), CliError> {
        self.open_for(workspace, false).await
    }

    /// The same for a command whose options decide whether it calls a provider.
    pub(crate) async fn open_for(
        &self,
        workspace: &WorkspaceOption,
        with_providers: bool,
    ) -> Result<(&Host, Access), CliError> {
        let host = if with_providers { self.open().await? } else { self.open_without_providers().await? };
        Ok((host, select::workspace(host.broker(), workspace).await?))
    }
}

/// Opens a host, and says why when it takes long.
pub(crate) async fn patiently(open: impl Future<Output = Result<Host, OpenError>>) -> Result<Host, CliError> {
    let mut open = std::pin::pin!(open);
    match tokio::time::timeout(NOTICE_AFTER, &mut open).await {
        Ok(host) => Ok(host?),
        Err(_) => {
            Output::note("Loading provider components; a new one is compiled once, which takes a moment.");
            Ok(open.await?)
        }
    }
}
