//! The exported functions, each of which calls the provider's.

use std::marker::PhantomData;

use super::bindings::exports::keyway::provider::secret_provider as wit;
use super::bindings::keyway::provider::provider_types as types;
use super::host::host;
use super::item_fields::exports::keyway::provider::item_fields;
use super::leases::exports::keyway::provider::leases;
use super::refresh::exports::keyway::provider::refresh;
use crate::{ItemFields, Leases, Refresh, SecretProvider, Settings};

/// A provider as a component; [`export!`](crate::export) names it.
#[derive(Debug)]
pub struct Exported<P>(PhantomData<P>);

impl<P: SecretProvider + 'static> wit::Guest for Exported<P> {
    fn describe() -> wit::Description {
        P::describe().into()
    }

    fn normalize_reference(reference: String) -> Result<String, types::Error> {
        Ok(P::normalize_reference(&reference)?)
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
        selection: wit::Selection,
    ) -> Result<wit::Resolved, types::Error> {
        Ok(P::resolve(&host(), &Settings::from(settings), &reference, &selection.into())?.into())
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

impl<P: ItemFields + 'static> item_fields::Guest for Exported<P> {
    fn list_fields(
        settings: Vec<types::Setting>,
        reference: String,
    ) -> Result<Vec<item_fields::FieldSpec>, types::Error> {
        let fields = P::list_fields(&host(), &Settings::from(settings), &reference)?;
        Ok(fields.into_iter().map(Into::into).collect())
    }
}

impl<P: Leases + 'static> leases::Guest for Exported<P> {
    fn renew(
        settings: Vec<types::Setting>,
        lease_id: String,
        seconds: Option<u32>,
    ) -> Result<types::Lease, types::Error> {
        Ok(P::renew(&host(), &Settings::from(settings), &lease_id, seconds)?.into())
    }

    fn revoke(settings: Vec<types::Setting>, lease_id: String) -> Result<(), types::Error> {
        Ok(P::revoke(&host(), &Settings::from(settings), &lease_id)?)
    }
}

impl<P: Refresh + 'static> refresh::Guest for Exported<P> {
    fn refresh_state(settings: Vec<types::Setting>) -> Result<(), types::Error> {
        Ok(P::refresh(&host(), &Settings::from(settings))?)
    }
}
