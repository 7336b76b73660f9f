//! Selecting a vault entry.

use keyway::{EntryId, EntrySelector};

use crate::http::body::{Fields, FromBody, body};
use crate::http::error::ApiError;
use crate::http::schema::{described, named};

body! {
    /// Selects an entry, by its id or by its user and domain. Other fields are ignored.
    #[schema(example = json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com"}))]
    struct Name {
        /// If present, selects the entry alone.
        #[schema(value_type = Option<Uuid>)]
        id: Option<EntryId>,
        permissioned_user_id: Option<String>,
        domain: Option<String>,
    }
}

/// A body that only selects an entry.
pub(crate) struct EntryName(pub(super) EntrySelector);

described!(EntryName as "VaultEntryName": named(Name::schema()));

/// The entry that a body selects, by `id` or by user and domain; other fields are ignored.
impl FromBody for EntryName {
    fn read(mut fields: Fields) -> Result<Self, ApiError> {
        let Name { id, permissioned_user_id: user, domain } = Name::take(&mut fields)?;
        id.map_or_else(|| pair(user, domain), |id| Ok(EntrySelector::Id(id))).map(Self)
    }
}

/// The query parameters of these names, each at most once. Unknown parameters are ignored.
pub(in crate::http) fn parameters<const N: usize>(
    query: Option<String>,
    names: [&str; N],
) -> Result<[Option<String>; N], ApiError> {
    let mut values = [const { None }; N];
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let place = names.iter().zip(&mut values).find(|(known, _)| **known == name);
        if place.and_then(|(_, place)| place.replace(value.into_owned())).is_some() {
            return Err(ApiError::invalid(format!("the parameter {name} occurs twice")));
        }
    }
    Ok(values)
}

/// The entry that the query asks for; `None` asks for all of them.
pub(super) fn queried(query: Option<String>) -> Result<Option<EntrySelector>, ApiError> {
    match parameters(query, ["permissioned_user_id", "domain"])? {
        [None, None] => Ok(None),
        [Some(user), Some(domain)] => Ok(Some(EntrySelector::Pair { user, domain })),
        _ => Err(ApiError::invalid("permissioned_user_id and domain must be provided together")),
    }
}

/// The entry of this user and domain, both of which are required.
pub(super) fn pair(user: Option<String>, domain: Option<String>) -> Result<EntrySelector, ApiError> {
    let message = "permissioned_user_id and domain are both required; together they name the vault entry";
    let selector = user.zip(domain).map(|(user, domain)| EntrySelector::Pair { user, domain });
    selector.ok_or_else(|| ApiError::invalid(message))
}

/// The entry selected by id or by user and domain.
pub(in crate::http) fn either(
    id: Option<EntryId>,
    user: Option<String>,
    domain: Option<String>,
) -> Result<EntrySelector, ApiError> {
    match (id, user, domain) {
        (Some(id), None, None) => Ok(EntrySelector::Id(id)),
        (None, Some(user), Some(domain)) => Ok(EntrySelector::Pair { user, domain }),
        _ => {
            let message = "name the vault entry either by id, or by permissioned_user_id and domain together";
            Err(ApiError::invalid(message))
        }
    }
}

/// Defines a [body](body!) that selects an entry by id or by user and domain, beside its own
/// fields.
macro_rules! about_an_entry {
    ($(#[$about:meta])* $visible:vis struct $name:ident { $($fields:tt)* }) => {
        $crate::http::body::body! {
            $(#[$about])*
            $visible struct $name {
                /// The entry's id, in place of the other two.
                #[schema(value_type = Option<Uuid>)]
                id: Option<keyway::EntryId>,
                permissioned_user_id: Option<String>,
                domain: Option<String>,
                $($fields)*
            }
        }

        impl $name {
            fn entry(&self) -> Result<keyway::EntrySelector, $crate::http::error::ApiError> {
                $crate::http::vault::name::either(self.id, self.permissioned_user_id.clone(), self.domain.clone())
            }
        }
    };
}
pub(in crate::http) use about_an_entry;

#[cfg(test)]
mod tests {
    use super::*;

    fn queried_pair(query: &str) -> Option<(String, String)> {
        match queried(Some(query.to_owned())).unwrap() {
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
            assert!(queried(Some(query.to_owned())).is_err(), "{query}");
        }
    }
}
