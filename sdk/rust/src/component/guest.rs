//! The exported functions, each of which calls the provider's own.

use std::marker::PhantomData;

use super::bindings::exports::keyway::provider::secret_provider as wit;
use super::bindings::keyway::provider::types;
use super::host::host;
use crate::{SecretProvider, Settings};

/// A provider as a component: what [`export!`](crate::export) names.
#[derive(Debug)]
pub struct Exported<P>(PhantomData<P>);

impl<P: SecretProvider + 'static> wit::Guest for Exported<P> {
    fn describe() -> wit::Description {
        P::describe().into()
    }

    fn verify(settings: Vec<types::Setting>) -> Result<wit::Verified, types::Error> {
        Ok(P::verify(&host(), &Settings::from(settings))?.into())
    }

    fn list_items(settings: Vec<types::Setting>, page: Option<String>) -> Result<wit::ItemPage, types::Error> {
        Ok(P::list_items(&host(), &Settings::from(settings), page.as_deref())?.into())
    }

    fn resolve(
        settings: Vec<types::Setting>,
        reference: String,
        fields: wit::Fields,
    ) -> Result<wit::Resolved, types::Error> {
        Ok(P::resolve(&host(), &Settings::from(settings), &reference, fields.into())?.into())
    }

    fn write(
        settings: Vec<types::Setting>,
        reference: String,
        changes: wit::Changes,
        expected_revision: Option<String>,
    ) -> Result<String, types::Error> {
        let settings = Settings::from(settings);
        Ok(P::write(&host(), &settings, &reference, &changes.into(), expected_revision.as_deref())?)
    }

    fn check_write_access(settings: Vec<types::Setting>, reference: String) -> Result<wit::WriteAccess, types::Error> {
        Ok(P::check_write_access(&host(), &Settings::from(settings), &reference)?.into())
    }
}
