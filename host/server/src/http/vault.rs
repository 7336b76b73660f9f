//! `/vault`: vault entries.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream;
use jiff::Timestamp;
use keyway::{
    Access, BrokerError, ConnectionId, CredentialSource, EntryId, EntryPage, EntrySelector, NewEntry, TfaMethod,
    VaultEntry, WorkspaceId,
};
use serde::Serialize;

use super::Api;
use super::auth::Caller;
use super::body::Fields;
use super::error::ApiError;

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

/// Fields of the published clients that nothing here acts on yet.
const NOT_SUPPORTED: [&str; 24] = [
    "allow_multiple_sessions",
    "max_concurrency",
    "prevent_concurrency_during_login",
    "persist_cookies",
    "persist_local_storage",
    "persist_session_storage",
    "cookies",
    "local_storage",
    "session_storage",
    "cookie_domain_to_store",
    "skip_csrf_cookies",
    "expiry_time_from_last_use",
    "expiry_time_from_session_data_set",
    "proxy",
    "proxy_setting",
    "proxy_value",
    "proxy_string",
    "user_agent",
    "location",
    "ip_address",
    "session_id",
    "user_id",
    "headers",
    "passkey",
];

/// A vault entry as clients see it: credentials of its own as ciphertext, never a resolved value.
#[derive(Serialize)]
pub(super) struct Entry {
    id: EntryId,
    workspace_id: WorkspaceId,
    permissioned_user_id: String,
    domain: String,
    user_alias: Option<String>,
    user_name: Option<String>,
    password: Option<String>,
    tfa_secret: Option<String>,
    tfa_method: Option<TfaMethod>,
    secret_provider_id: Option<ConnectionId>,
    secret_ref: Option<String>,
    secret_cache_ttl_seconds: Option<u32>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<VaultEntry> for Entry {
    fn from(entry: VaultEntry) -> Self {
        let (binding, own) = match entry.credentials {
            CredentialSource::Bound(binding) => (Some(binding), None),
            CredentialSource::Own(own) => (None, Some(own)),
        };
        let (user_name, password, tfa_secret) =
            own.map(|own| (own.user_name, own.password, own.tfa_secret)).unwrap_or_default();
        Self {
            id: entry.id,
            workspace_id: entry.workspace_id,
            permissioned_user_id: entry.permissioned_user_id,
            domain: entry.domain,
            user_alias: entry.user_alias,
            user_name,
            password,
            tfa_secret,
            tfa_method: entry.tfa_method,
            secret_provider_id: binding.as_ref().map(|binding| binding.connection_id),
            secret_cache_ttl_seconds: binding.as_ref().and_then(|binding| binding.cache_ttl).map(|ttl| ttl.seconds()),
            secret_ref: binding.map(|binding| binding.reference),
            created_at: entry.created_at,
            updated_at: entry.updated_at,
        }
    }
}

/// `POST /vault`
pub(super) async fn create(
    Caller(access): Caller,
    State(api): State<Api>,
    fields: Fields,
) -> Result<(StatusCode, Json<Entry>), ApiError> {
    let entry = api.broker.create_entry(&access, new_entry(fields)?).await?;
    Ok((StatusCode::CREATED, Json(entry.into())))
}

fn new_entry(mut fields: Fields) -> Result<NewEntry, ApiError> {
    let new = NewEntry {
        permissioned_user_id: fields.required_text("permissioned_user_id")?,
        domain: fields.required_text("domain")?,
        user_alias: fields.text("user_alias")?,
        tfa_method: fields.word("tfa_method")?,
        secret_provider_id: fields.id("secret_provider_id")?,
        secret_ref: fields.text("secret_ref")?,
        secret_cache_ttl_seconds: fields.seconds("secret_cache_ttl_seconds")?,
        user_name: fields.text("user_name")?,
        password: fields.text("password")?,
        tfa_secret: fields.text("tfa_secret")?,
    };
    fields.ignore(&SERVER_MANAGED);
    fields.finish(&NOT_SUPPORTED)?;
    Ok(new)
}

/// `GET /vault`: all entries, or the one of a user and a domain.
pub(super) async fn read(
    Caller(access): Caller,
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    match selector(query.as_deref().unwrap_or_default())? {
        Some(selector) => {
            let entry = api.broker.get_entry(&access, &selector).await?;
            Ok(Json(Entry::from(entry)).into_response())
        }
        None => all(api, access).await,
    }
}

/// Which entry the query asks for; `None` is all of them. Unknown parameters are nobody's business.
fn selector(query: &str) -> Result<Option<EntrySelector>, ApiError> {
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

/// All entries as one JSON array that is written page by page, so that a large workspace is never in memory as a whole.
///
/// The first page is read before the answer begins, and what fails there is an error like any other. What fails later ends
/// the connection, which no client takes for the end of the list.
async fn all(api: Api, access: Access) -> Result<Response, ApiError> {
    let first = api.broker.list_entries(&access, None).await?;
    let pages = stream::try_unfold(Some((first, true)), move |state| {
        let (api, access) = (api.clone(), access.clone());
        async move {
            let Some((page, is_first)) = state else { return Ok(None) };
            let EntryPage { entries, next, .. } = page;
            let text = page_text(entries, is_first, next.is_none())?;
            let rest = match next {
                Some(next) => Some((api.broker.list_entries(&access, Some(next)).await.map_err(cut_off)?, false)),
                None => None,
            };
            Ok::<_, std::io::Error>(Some((text, rest)))
        }
    });
    let mut response = Body::from_stream(pages).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn page_text(entries: Vec<VaultEntry>, first: bool, last: bool) -> Result<Bytes, std::io::Error> {
    let mut text = Vec::new();
    if first {
        text.push(b'[');
    }
    for (position, entry) in entries.into_iter().enumerate() {
        if !first || position > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, &Entry::from(entry))?;
    }
    if last {
        text.push(b']');
    }
    Ok(text.into())
}

fn cut_off(error: BrokerError) -> std::io::Error {
    tracing::error!(%error, "a list of vault entries had to be cut off");
    std::io::Error::other("the list had to be cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(query: &str) -> Option<(String, String)> {
        match selector(query).unwrap() {
            Some(EntrySelector::Pair { permissioned_user_id, domain }) => Some((permissioned_user_id, domain)),
            _ => None,
        }
    }

    #[test]
    fn a_query_is_read_by_the_rules_of_forms() {
        let expected = Some(("a b&c".to_owned(), "https://acme.com".to_owned()));
        assert_eq!(pair("permissioned_user_id=a+b%26c&domain=https%3A%2F%2Facme.com&other=1"), expected);
        assert_eq!(pair(""), None);
    }

    #[test]
    fn one_parameter_without_the_other_is_refused() {
        for query in ["domain=https%3A%2F%2Facme.com", "permissioned_user_id=a", "domain=a&domain=b"] {
            assert!(selector(query).is_err(), "{query}");
        }
    }

    #[test]
    fn pages_make_one_array() {
        let text = |first, last| String::from_utf8(page_text(Vec::new(), first, last).unwrap().to_vec()).unwrap();
        assert_eq!(text(true, true), "[]");
        assert_eq!(text(true, false) + &text(false, true), "[]");
    }
}
