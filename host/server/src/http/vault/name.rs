//! Which vault entry a client means.

use std::borrow::Cow;

use keyway::{EntryId, EntrySelector};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::http::body::{Fields, FromBody, body};
use crate::http::error::ApiError;
use crate::http::schema;

body! {
    /// Which entry is meant, by its id or by its user and domain. Other fields are allowed: a client that names an entry too
    /// precisely names it still.
    #[schema(example = json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com"}))]
    struct Name {
        /// Counts alone if it is there.
        #[schema(value_type = Option<Uuid>)]
        id: Option<EntryId>,
        permissioned_user_id: Option<String>,
        domain: Option<String>,
    }
}

/// The body that is a name.
pub(crate) struct EntryName;

impl PartialSchema for EntryName {
    fn schema() -> RefOr<Schema> {
        schema::named(Name::schema())
    }
}

impl ToSchema for EntryName {
    fn name() -> Cow<'static, str> {
        "VaultEntryName".into()
    }
}

/// Which entry a body names, by `id` or by pair, and nothing else counts.
pub(super) fn named(mut fields: Fields) -> Result<EntrySelector, ApiError> {
    let name = Name::take(&mut fields)?;
    match name.id {
        Some(id) => Ok(EntrySelector::Id(id)),
        None => pair(name.permissioned_user_id, name.domain),
    }
}

/// Which entry the query asks for; `None` is all of them. Unknown parameters are nobody's business.
pub(super) fn queried(query: &str) -> Result<Option<EntrySelector>, ApiError> {
    let (mut user, mut domain) = (None, None);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let place = match &*name {
            "permissioned_user_id" => &mut user,
            "domain" => &mut domain,
            _ => continue,
        };
        if place.replace(value.into_owned()).is_some() {
            return Err(ApiError::invalid(format!("the parameter {name} occurs twice")));
        }
    }
    match (user, domain) {
        (None, None) => Ok(None),
        (Some(user), Some(domain)) => Ok(Some(EntrySelector::Pair { user, domain })),
        _ => Err(ApiError::invalid("permissioned_user_id and domain must be provided together")),
    }
}

pub(super) fn pair(user: Option<String>, domain: Option<String>) -> Result<EntrySelector, ApiError> {
    match (user, domain) {
        (Some(user), Some(domain)) => Ok(EntrySelector::Pair { user, domain }),
        _ => Err(ApiError::invalid(
            "permissioned_user_id and domain are both required; they say which vault entry is meant",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queried_pair(query: &str) -> Option<(String, String)> {
        match queried(query).unwrap() {
            Some(EntrySelector::Pair { user, domain }) => Some((user, domain)),
            _ => None,
        }
    }

    #[test]
    fn a_query_is_read_by_the_rules_of_forms() {
        let expected = Some(("a b&c".to_owned(), "https://acme.com".to_owned()));
        assert_eq!(queried_pair("permissioned_user_id=a+b%26c&domain=https%3A%2F%2Facme.com&other=1"), expected);
        assert_eq!(queried_pair(""), None);
    }

    #[test]
    fn one_parameter_without_the_other_is_refused() {
        for query in ["domain=https%3A%2F%2Facme.com", "permissioned_user_id=a", "domain=a&domain=b"] {
            assert!(queried(query).is_err(), "{query}");
        }
    }
}
