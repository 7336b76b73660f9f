//! What clients send about vault entries.
//!
//! A client may send back what it got, also what only the server decides; that is ignored. Everything else that is not known is an error.

use axum::http::StatusCode;
use keyway::{AttributeChanges, Attributes, EntryChanges, EntrySelector, NewEntry};

use crate::http::body::Fields;
use crate::http::error::ApiError;

/// What clients send back from an answer, and what nobody but the server decides.
const SERVER_MANAGED: [&str; 10] = [
    "id",
    "workspace_id",
    "organization_id",
    "site_identifier",
    "created_at",
    "updated_at",
    "tfa_email",
    "tfa_phone_number",
    "session_data_set_at",
    "effective_expires_at",
];

/// The entry that a `POST` describes.
pub(super) fn new_entry(mut fields: Fields) -> Result<NewEntry, ApiError> {
    let new = NewEntry {
        permissioned_user_id: fields.required_text("permissioned_user_id")?,
        domain: fields.required_text("domain")?,
        user_alias: fields.text("user_alias")?,
        tfa_method: fields.word("tfa_method")?,
        passkey: fields.flag("passkey")?.unwrap_or_default(),
        secret_provider_id: fields.id("secret_provider_id")?,
        secret_ref: fields.text("secret_ref")?,
        secret_cache_ttl_seconds: fields.whole_number("secret_cache_ttl_seconds")?,
        user_name: fields.text("user_name")?,
        password: fields.text("password")?,
        tfa_secret: fields.text("tfa_secret")?,
        attributes: attributes(&mut fields)?,
    };
    end(fields)?;
    Ok(new)
}

/// Which entry a `PUT` changes, and how. With an `id` that counts, and another pair of user and domain renames the entry.
pub(super) fn changes(mut fields: Fields) -> Result<(EntrySelector, EntryChanges), ApiError> {
    let id = fields.id("id")?;
    let (user, domain) = (fields.text("permissioned_user_id")?, fields.text("domain")?);
    let mut changes = EntryChanges {
        user_alias: fields.change("user_alias", Fields::text)?,
        tfa_method: fields.change("tfa_method", Fields::word)?,
        passkey: fields.flag("passkey")?,
        secret_provider_id: fields.change("secret_provider_id", Fields::id)?,
        secret_ref: fields.change("secret_ref", Fields::text)?,
        secret_cache_ttl_seconds: fields.change("secret_cache_ttl_seconds", Fields::whole_number)?,
        user_name: fields.change("user_name", Fields::text)?,
        password: fields.change("password", Fields::text)?,
        tfa_secret: fields.change("tfa_secret", Fields::text)?,
        attributes: attributes(&mut fields)?,
        ..EntryChanges::default()
    };
    end(fields)?;
    let selector = match id {
        Some(id) => {
            (changes.permissioned_user_id, changes.domain) = (user, domain);
            EntrySelector::Id(id)
        }
        None => pair(user, domain)?,
    };
    Ok((selector, changes))
}

/// Which entry a body names, by `id` or by pair, and nothing else counts. Unknown fields pass here: a client that names an entry too precisely names it still.
pub(super) fn named(mut fields: Fields) -> Result<EntrySelector, ApiError> {
    match fields.id("id")? {
        Some(id) => Ok(EntrySelector::Id(id)),
        None => pair(fields.text("permissioned_user_id")?, fields.text("domain")?),
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
            return Err(ApiError::invalid(format!("the parameter {name} is there twice")));
        }
    }
    match (user, domain) {
        (None, None) => Ok(None),
        (Some(permissioned_user_id), Some(domain)) => Ok(Some(EntrySelector::Pair { permissioned_user_id, domain })),
        _ => Err(ApiError::invalid(
            "permissioned_user_id and domain must be provided together, or neither for all entries",
        )),
    }
}

fn pair(user: Option<String>, domain: Option<String>) -> Result<EntrySelector, ApiError> {
    match (user, domain) {
        (Some(permissioned_user_id), Some(domain)) => Ok(EntrySelector::Pair { permissioned_user_id, domain }),
        _ => Err(ApiError::invalid(
            "permissioned_user_id and domain are both required; they say which vault entry is meant",
        )),
    }
}

fn attributes(fields: &mut Fields) -> Result<AttributeChanges, ApiError> {
    let mut changes = AttributeChanges::new();
    for name in Attributes::names() {
        if let Some(json) = fields.raw(name) {
            let set = changes.set(name, &json);
            set.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, "VALIDATION_FAILED", error.to_string()))?;
        }
    }
    Ok(changes)
}

fn end(mut fields: Fields) -> Result<(), ApiError> {
    fields.ignore(&SERVER_MANAGED);
    fields.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queried_pair(query: &str) -> Option<(String, String)> {
        match queried(query).unwrap() {
            Some(EntrySelector::Pair { permissioned_user_id, domain }) => Some((permissioned_user_id, domain)),
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
