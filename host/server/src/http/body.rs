//! Bodies of requests, read field by field.
//!
//! What a body may have is a struct in [`body!`]: its fields are read by their names and types, and are in the document.
//! They are taken out of the JSON object one after the other, each with its own sentence when it is wrong. A message names the
//! field and never repeats its value, which may be a secret in the wrong place; that is why serde's own messages are not used beyond the syntax.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use keyway::{CacheTtl, ConnectionId, EntryId, TfaMethod};
use keyway_runtime::Settings;
use secrecy::SecretString;
use serde_json::Value;
use serde_json::value::RawValue;
use zeroize::{Zeroize, Zeroizing};

use super::code::Code;
use super::error::ApiError;
use super::memory::{self, FREE};

/// What happens to a value that may be absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Change<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is absent afterwards.
    Clear,
    /// It is this afterwards.
    Set(T),
}

impl<T: Clone> Change<T> {
    pub(crate) fn apply(&self, place: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *place = None,
            Self::Set(value) => *place = Some(value.clone()),
        }
    }
}

/// `Some` sets, `None` keeps.
impl<T> From<Option<T>> for Change<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Keep, Self::Set)
    }
}

/// As the library says it.
impl<T> From<Change<T>> for Option<Option<T>> {
    fn from(change: Change<T>) -> Self {
        match change {
            Change::Keep => None,
            Change::Clear => Some(None),
            Change::Set(value) => Some(Some(value)),
        }
    }
}

/// What a body may have.
pub(crate) trait FromBody: Sized {
    /// Takes its fields out.
    fn take(fields: &mut Fields) -> Result<Self, ApiError>;

    /// Its fields, and none beside them.
    fn read(mut fields: Fields) -> Result<Self, ApiError> {
        let read = Self::take(&mut fields)?;
        fields.finish()?;
        Ok(read)
    }
}

/// The type of a field.
pub(crate) trait Field: Sized {
    /// Takes the field of that name out.
    fn take(fields: &mut Fields, name: &'static str) -> Result<Self, ApiError>;
}

macro_rules! fields {
    ($($type:ty: $take:path,)*) => {
        $(impl Field for $type {
            fn take(fields: &mut Fields, name: &'static str) -> Result<Self, ApiError> {
                $take(fields, name)
            }
        })*
    };
}

fields! {
    String: Fields::required_text,
    Option<String>: Fields::text,
    Option<Vec<String>>: Fields::texts,
    Option<bool>: Fields::flag,
    Option<u64>: Fields::whole_number,
    Option<CacheTtl>: Fields::cache_ttl,
    Option<ConnectionId>: Fields::id,
    Option<EntryId>: Fields::id,
    Option<Settings>: Fields::settings,
    Option<TfaMethod>: Fields::word,
}

/// One that says how to change something: `null` clears it.
impl<T> Field for Change<T>
where
    Option<T>: Field,
{
    fn take(fields: &mut Fields, name: &'static str) -> Result<Self, ApiError> {
        let absent = if fields.0.contains_key(name) { Self::Clear } else { Self::Keep };
        Ok(<Option<T> as Field>::take(fields, name)?.map_or(absent, Self::Set))
    }
}

/// A struct that can be read [from a body](FromBody), and that is in the document.
macro_rules! body {
    ($(#[$about:meta])* $visible:vis struct $name:ident { $($(#[$of:meta])* $field_visible:vis $field:ident: $type:ty,)* }) => {
        #[derive(utoipa::ToSchema)]
        $(#[$about])*
        $visible struct $name { $($(#[$of])* $field_visible $field: $type,)* }

        impl $crate::http::body::FromBody for $name {
            fn take(fields: &mut $crate::http::body::Fields) -> Result<Self, $crate::http::error::ApiError> {
                Ok(Self { $($field: $crate::http::body::Field::take(fields, stringify!($field))?,)* })
            }
        }
    };
}
pub(crate) use body;

/// A vault entry with cookies and browser storage fits several times.
const BODY_LIMIT: usize = 2 << 20;

/// A field's name in a message is cut off here.
const NAME_SHOWN: usize = 64;

/// Bytes of a body that is too large that are read before the client is cut off after all.
const DISCARDED: usize = 8 * BODY_LIMIT;

/// The fields of a JSON object in a request's body, each as the text that came until it is taken out. What was not taken out is wiped: it may be a secret.
pub(crate) struct Fields(BTreeMap<String, Box<RawValue>>);

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fields").finish_non_exhaustive()
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        std::mem::take(&mut self.0).into_values().map(wiping).for_each(drop);
    }
}

/// The text of a value, which wipes itself.
fn wiping(value: Box<RawValue>) -> Zeroizing<String> {
    Zeroizing::new(String::from(Box::<str>::from(value)))
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(values) => values.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !is_json(&request) {
            return Err(not_json());
        }
        let body = read(request.into_body()).await?;
        Self::parse(&body)
    }
}

/// For requests that need no body: an empty one is none, whatever its type is said to be.
impl<S: Send + Sync> OptionalFromRequest<S> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Option<Self>, ApiError> {
        let is_json = is_json(&request);
        let body = read(request.into_body()).await?;
        match body.trim_ascii() {
            b"" => Ok(None),
            // What clients send for an object that they do not have.
            b"null" if is_json => Ok(None),
            _ if is_json => Self::parse(&body).map(Some),
            _ => Err(not_json()),
        }
    }
}

fn not_json() -> ApiError {
    let message = "send the body as JSON, with the header Content-Type: application/json";
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::UnsupportedMediaType, message)
}

/// Reads a body up to the limit, with room for it. What goes beyond, or has no room, is read, too, within reason, and thrown away: a client that is cut
/// off while it sends sees a broken connection and not the answer that says why.
async fn read(mut body: Body) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let announced = body.size_hint().exact().map(|size| usize::try_from(size).unwrap_or(usize::MAX));
    // Of its final size if the client says so, so that growing leaves no copies of secrets behind.
    let mut kept = buffer(announced.filter(|size| *size <= BODY_LIMIT).unwrap_or(FREE)).await;
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad_request("the body could not be read to its end; send it again"))?;
        let Ok(data) = frame.into_data() else { continue };
        size += data.len();
        if size > DISCARDED {
            break;
        }
        let Ok(text) = &mut kept else { continue };
        // Only one of which nobody has said how large it is; what was said to be too large needs no room.
        let grows = announced.is_none() && text.capacity() < BODY_LIMIT;
        if grows && size > text.capacity() && size <= BODY_LIMIT {
            let smaller = std::mem::take(text);
            kept = buffer(BODY_LIMIT).await;
            if let Ok(text) = &mut kept {
                text.extend_from_slice(&smaller);
            }
        }
        if let Ok(text) = &mut kept
            && size <= text.capacity()
        {
            text.extend_from_slice(&data);
        }
    }
    if size > BODY_LIMIT {
        let message = format!("the body is larger than {} MiB", BODY_LIMIT >> 20);
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, Code::PayloadTooLarge, message));
    }
    kept
}

/// Room for a body of that size. Twice: what is read out of it is a second copy, and for a while there are both.
async fn buffer(size: usize) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    if size > FREE {
        memory::hold(2 * size).await?;
    }
    Ok(Zeroizing::new(Vec::with_capacity(size)))
}

fn is_json(request: &Request) -> bool {
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json" || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

impl Fields {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        use serde_json::error::Category;
        if body.trim_ascii().is_empty() {
            return Err(ApiError::bad_request("the body is empty; send a JSON object"));
        }
        serde_json::from_slice(body).map(Self).map_err(|error| match error.classify() {
            Category::Data => ApiError::bad_request("the body must be a JSON object"),
            _ => ApiError::bad_request(format!("the body is not valid JSON: {error}")),
        })
    }

    /// Takes a field out as it came.
    pub(super) fn raw(&mut self, name: &str) -> Option<Zeroizing<String>> {
        self.0.remove(name).map(wiping)
    }

    /// Takes a field out; `None` when it is not there, or `null`. What is nested too deeply to be read is no value of any field's type.
    fn value(&mut self, name: &'static str) -> Option<Value> {
        let value = serde_json::from_str(&self.raw(name)?).unwrap_or(Value::Array(Vec::new()));
        (value != Value::Null).then_some(value)
    }

    /// Takes a `true` or `false` out.
    fn flag(&mut self, name: &'static str) -> Result<Option<bool>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(other, format!("{name} must be true or false"))),
        }
    }

    /// Takes a text out. `null` is the same as nothing.
    fn text(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(other, format!("{name} must be a string"))),
        }
    }

    /// Takes a text out that must be there.
    fn required_text(&mut self, name: &'static str) -> Result<String, ApiError> {
        self.text(name)?.ok_or_else(|| ApiError::invalid(format!("{name} is required and must be a string")))
    }

    /// Takes a list of texts out.
    fn texts(&mut self, name: &'static str) -> Result<Option<Vec<String>>, ApiError> {
        let message = || format!("{name} must be a list of strings");
        let text = |value| if let Value::String(text) = value { Ok(text) } else { Err(wrong(value, message())) };
        match self.value(name) {
            None => Ok(None),
            Some(Value::Array(values)) => values.into_iter().map(text).collect::<Result<_, _>>().map(Some),
            Some(other) => Err(wrong(other, message())),
        }
    }

    /// Takes the settings of a connection out: an object of texts, which may be secret.
    fn settings(&mut self, name: &'static str) -> Result<Option<Settings>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(values)) if values.values().all(Value::is_string) => {
                let mut settings = Settings::new();
                for (name, value) in values {
                    if let Value::String(text) = value {
                        settings.set(name, SecretString::from(text));
                    }
                }
                Ok(Some(settings))
            }
            Some(other) => Err(wrong(other, format!("{name} must be an object whose values are strings"))),
        }
    }

    /// Takes an identifier out.
    fn id<I: FromStr>(&mut self, name: &'static str) -> Result<Option<I>, ApiError> {
        let parse = |text: String| text.parse().map_err(|_| ApiError::invalid(format!("{name} must be a UUID")));
        self.text(name)?.map(parse).transpose()
    }

    /// Takes a text out that is one of a few words.
    fn word<W: FromStr>(&mut self, name: &'static str) -> Result<Option<W>, ApiError>
    where
        W::Err: std::fmt::Display,
    {
        self.text(name)?
            .map(|text| text.parse().map_err(|error: W::Err| ApiError::invalid(error.to_string())))
            .transpose()
    }

    /// Takes a whole number out that is not negative, written as one. Not `true`, not `1.5`, not `"300"`.
    fn whole_number(&mut self, name: &'static str) -> Result<Option<u64>, ApiError> {
        let not_one = || ApiError::invalid(format!("{name} must be a non-negative integer"));
        self.value(name).map(|value| value.as_u64().ok_or_else(not_one)).transpose()
    }

    /// Takes a cache duration out, in seconds.
    fn cache_ttl(&mut self, name: &'static str) -> Result<Option<CacheTtl>, ApiError> {
        let too_long =
            |_| ApiError::invalid(format!("{name} must be a non-negative integer, of at most {} seconds", u32::MAX));
        let ttl = |seconds| u32::try_from(seconds).map(CacheTtl::from_seconds).map_err(too_long);
        self.whole_number(name)?.map(ttl).transpose()
    }

    /// Drops fields that the server manages and clients may send back.
    pub(super) fn ignore(&mut self, names: impl IntoIterator<Item = &'static str>) {
        for name in names {
            self.0.remove(name);
        }
    }

    /// Ends reading. A field that is left is one that the server would not act on, and silence about it would be taken for a yes.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        let Some(name) = self.0.keys().next() else { return Ok(()) };
        let name: String = name.chars().filter(|c| !c.is_control()).take(NAME_SHOWN).collect();
        Err(ApiError::invalid(format!("there is no field `{name}`; check its spelling")))
    }
}

/// A value of another type than its field's, which may be a secret all the same.
fn wrong(mut value: Value, message: String) -> ApiError {
    wipe(&mut value);
    ApiError::invalid(message)
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    fn fields(json: &str) -> Fields {
        Fields::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_number_of_seconds_is_a_whole_number_and_nothing_that_looks_like_one() {
        let seconds = |json: &str| fields(&format!("{{\"ttl\": {json}}}")).whole_number("ttl");
        assert_eq!(seconds("300").unwrap(), Some(300));
        assert_eq!(seconds("0").unwrap(), Some(0));
        assert_eq!(seconds("null").unwrap(), None);
        for bad in ["true", "false", "1.5", "300.0", "\"300\"", "-1", "1e3", "99999999999999999999", "[]", "{}"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn null_is_nothing_and_another_type_is_refused_without_its_value() {
        assert_eq!(fields(r#"{"a": null}"#).text("a").unwrap(), None);
        assert_eq!(fields("{}").text("a").unwrap(), None);
        let error = fields(r#"{"password": 8462531}"#).text("password").unwrap_err();
        assert!(!format!("{error:?}").contains("8462531"));
    }

    #[test]
    fn a_field_that_is_left_over_is_named() {
        assert!(fields("{}").finish().is_ok());
        assert!(format!("{:?}", fields(r#"{"secret_reff": null}"#).finish()).contains("`secret_reff`"));
    }

    #[test]
    fn a_field_that_is_not_there_is_kept_and_null_clears_it() {
        let alias = |json: &str| Change::<String>::take(&mut fields(json), "user_alias").unwrap();
        assert_eq!(alias("{}"), Change::Keep);
        assert_eq!(alias(r#"{"user_alias": null}"#), Change::Clear);
        assert_eq!(alias(r#"{"user_alias": "Main"}"#), Change::Set("Main".to_owned()));
        assert!(Change::<String>::take(&mut fields(r#"{"user_alias": 7}"#), "user_alias").is_err());
    }

    #[tokio::test]
    async fn a_body_of_a_size_that_nobody_has_said_is_read_whole_up_to_the_limit() {
        let memory = std::sync::Arc::<memory::Memory>::default();
        for (parts, fits) in [(1, true), (5, true), (256, true), (257, false)] {
            let part = |number: u8| Ok::<_, std::convert::Infallible>(vec![number; 8 << 10]);
            let stream = futures::stream::iter((0..parts).map(move |number: u16| part((number % 251) as u8)));
            let read = memory.scope(read(Body::from_stream(stream))).await;
            match read {
                Ok(body) => {
                    let expected = (0..parts).flat_map(|number: u16| vec![(number % 251) as u8; 8 << 10]);
                    assert!(fits && body.iter().copied().eq(expected), "{parts}");
                }
                Err(error) => assert!(!fits && error.into_response().status() == 413, "{parts}"),
            }
        }
    }

    #[test]
    fn what_is_no_object_is_a_bad_request() {
        for body in ["", "{", "[]", "null", "1", "\"text\"", "{} {}", "{\"a\": \u{1}}", "\u{feff}{}"] {
            let error = Fields::parse(body.as_bytes()).unwrap_err();
            assert_eq!(error.into_response().status(), 400, "{body}");
        }
        let deep = "[".repeat(200_000);
        assert_eq!(Fields::parse(deep.as_bytes()).unwrap_err().into_response().status(), 400);
    }
}
