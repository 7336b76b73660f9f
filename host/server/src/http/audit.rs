//! `/audit`: the audit log of the caller's workspace.

use std::num::NonZeroUsize;
use std::str::FromStr;

use axum::Json;
use axum::extract::RawQuery;
use keyway::audit::{AuditQuery, AuditRecord, Cursor};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::ArrayBuilder;
use utoipa::openapi::{RefOr, Schema};

use super::answer::Answer;
use super::auth::Caller;
use super::error::ApiError;
use super::schema::{self, Common, Input};
use crate::view::words::words;

/// A page of the log.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditPage)]
pub(super) struct Page {
    /// At most `limit` records. Each page reads a bounded part of the log, so a page with fewer may
    /// still have a next page.
    #[schema(schema_with = audit_records)]
    records: Vec<AuditRecord>,
    /// Send it as `cursor` for the next page.
    #[schema(value_type = Option<String>)]
    next: Option<Cursor>,
    /// How many segments of the log cannot be read and were left out. The server's log names them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    segments_left_out: Option<NonZeroUsize>,
}

words! {
    /// The name of an operation.
    struct OperationName: keyway::audit::Operation::ALL.iter().map(|operation| operation.name());
}

words! {
    /// The word for an outcome, or for several.
    struct OutcomeName: keyway::audit::OutcomeFilter::names();
}

words! {
    /// The words for the order.
    struct OrderName: ["newest", "oldest"];
}

fn audit_records() -> impl Into<RefOr<Schema>> {
    Schema::Array(ArrayBuilder::new().items(schema::audit_record()).build())
}

/// The audit log of the workspace
///
/// Records every release and every change with its actor, and never a value. Needs the scope
/// `admin`.
#[utoipa::path(get, path = "/audit", operation_id = "list_audit_records", tag = "audit",
    params(
        ("since" = Option<jiff::Timestamp>, Query, description = "At this time or later"),
        ("until" = Option<jiff::Timestamp>, Query, description = "Before this time"),
        ("actor" = Option<String>, Query, description = "By the API key with this id or name, or the operator with this name"),
        ("operation" = inline(Option<OperationName>), Query, description = "Only this operation, for example resolve"),
        ("entry" = Option<Uuid>, Query, description = "About this vault entry"),
        ("connection" = Option<Uuid>, Query, description = "About this connection"),
        ("rotation" = Option<Uuid>, Query, description = "About this password rotation: its steps, and the releases of its new password"),
        ("outcome" = inline(Option<OutcomeName>), Query, description = "Only this outcome: ok, begun, failed (any error), or an error code; in upper or lower case"),
        ("order" = inline(Option<OrderName>), Query, description = "Which records come first; the newest by default"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "The maximum number of records; 100 by default"),
        ("cursor" = Option<String>, Query, description = "Continues after the previous page: its `next`"),
    ),
    responses((status = 200, description = "A page", body = Page), Input, Common))]
pub(super) async fn list(Caller(api, access): Caller, RawQuery(query): RawQuery) -> Answer<Page> {
    // Checked before the query, so that a key that may not read the log learns only that.
    let query = access.require(keyway::Scope::Admin).is_ok().then(|| parse(query.as_deref().unwrap_or_default()));
    let page = api.broker.audit().records(&access, query.transpose()?.unwrap_or_default()).await?;
    let segments_left_out = NonZeroUsize::new(page.left_out.len());
    Ok(Json(Page { records: page.records, next: page.next, segments_left_out }))
}

/// Reads the filters. An unknown filter is an error: ignoring it would show more than was asked
/// for.
fn parse(query: &str) -> Result<AuditQuery, ApiError> {
    let mut wanted = AuditQuery::default();
    let mut seen = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if seen.contains(&name) {
            return Err(ApiError::invalid(format!("the parameter {name} occurs twice")));
        }
        match &*name {
            "since" => wanted.since = Some(read(&value, "since must be a time as in 2026-11-23T18:00:00Z")?),
            "until" => wanted.until = Some(read(&value, "until must be a time as in 2026-11-23T18:00:00Z")?),
            "actor" => wanted.actor = Some(value.into_owned()),
            "operation" => wanted.operation = Some(value.parse().map_err(keyway::BrokerError::from)?),
            "entry" => wanted.entry = Some(read(&value, "entry must be the id of a vault entry")?),
            "connection" => wanted.connection = Some(read(&value, "connection must be the id of a connection")?),
            "rotation" => wanted.rotation = Some(read(&value, "rotation must be the id of a password rotation")?),
            "outcome" => wanted.outcome = Some(value.parse().map_err(keyway::BrokerError::from)?),
            "order" => wanted.order = value.parse().map_err(keyway::BrokerError::from)?,
            "limit" => wanted.limit = Some(limit(&value)?),
            "cursor" => wanted.cursor = Some(value.parse().map_err(keyway::BrokerError::from)?),
            _ => {
                let message = "a parameter is unknown; GET /audit has since, until, actor, operation, entry, connection, \
                               rotation, outcome, order, limit and cursor";
                return Err(ApiError::invalid(message));
            }
        }
        seen.push(name);
    }
    Ok(wanted)
}

fn read<T: FromStr>(value: &str, message: &str) -> Result<T, ApiError> {
    value.parse().map_err(|_| ApiError::invalid(message))
}

fn limit(value: &str) -> Result<usize, ApiError> {
    let allowed = 1..=keyway::audit::AUDIT_RECORDS_PER_PAGE;
    let limit = value.parse().ok().filter(|limit| allowed.contains(limit));
    limit.ok_or_else(|| ApiError::invalid(format!("limit must be a number from 1 to {}", allowed.end())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_filter_is_refused_and_not_left_out() {
        assert!(parse("since=2026-11-23T18:00:00Z&order=oldest&limit=1000&cursor=abc&operation=resolve").is_ok());
        for query in [
            "since=yesterday",
            "until=1",
            "entry=x",
            "connection=",
            "rotation=1",
            "operation=sudo",
            "outcome=FORBIDEN",
            "order=up",
            "limit=0",
            "limit=1001",
            "limit=true",
            "cursor=",
            "workspace=other",
            "limit=1&limit=2",
        ] {
            assert!(parse(query).is_err(), "{query}");
        }
    }
}
