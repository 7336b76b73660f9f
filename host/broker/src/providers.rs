//! The installed providers.

use std::collections::BTreeMap;

use keyway_runtime::{FileStatus, Provider, ProviderFolder, Runtime};

use crate::error::BrokerError;

/// The installed providers, by type.
#[derive(Default)]
pub struct Providers {
    pub(crate) fixed: BTreeMap<String, Provider>,
    pub(crate) folder: Option<ProviderFolder>,
}

impl Providers {
    /// The current provider of this type.
    pub fn get(&self, provider_type: &str) -> Option<Provider> {
        let from_folder = || self.folder.as_ref().and_then(|folder| folder.get(provider_type));
        self.fixed.get(provider_type).cloned().or_else(from_folder)
    }

    /// The file in the folder that the component with this digest was loaded from.
    pub(crate) fn file_of(&self, digest: &str) -> Option<String> {
        let mut files = self.folder.iter().flat_map(ProviderFolder::files);
        files.find(|file| file.digest.as_deref() == Some(digest)).map(|file| file.file)
    }

    /// All providers in the order of their types.
    pub fn list(&self) -> Vec<Provider> {
        let from_folder = self.folder.iter().flat_map(ProviderFolder::providers);
        let mut all: BTreeMap<_, _> =
            from_folder.map(|provider| (provider.description().provider_type.clone(), provider)).collect();
        all.extend(self.fixed.clone());
        all.into_values().collect()
    }

    /// Refuses providers of another runtime: their calls would escape the limits and the network
    /// policy of this one.
    pub(crate) fn check_runtime(&self, runtime: &Runtime) -> Result<(), BrokerError> {
        let fixed = self.fixed.values().map(Provider::runtime);
        match fixed.chain(self.folder.iter().map(|folder| folder.runtime().clone())).all(|of| of.is(runtime)) {
            true => Ok(()),
            false => Err(BrokerError::OtherRuntime),
        }
    }

    /// The types of all providers.
    pub(crate) fn types(&self) -> Vec<String> {
        self.list().iter().map(|provider| provider.description().provider_type.clone()).collect()
    }

    /// The names of the files in the folder that no provider was ever loaded from. It excludes
    /// files whose earlier version is in use because the newest one was refused, and files whose
    /// provider type is served by another file.
    pub(crate) fn unloaded_files(&self) -> Vec<String> {
        let files = self.folder.iter().flat_map(ProviderFolder::files);
        let is_missing = |file: &FileStatus| file.error.is_some() && file.digest.is_none() && file.served_by.is_none();
        files.filter(is_missing).map(|file| file.file).collect()
    }
}

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.types()).finish()
    }
}
