//! Request bodies, read field by field.
//!
//! A struct in [`body!`] defines a body: its fields are read by their names and types, and appear
//! in the document. They are taken out of the JSON object one by one, each with its own error
//! message. A message names the field and never repeats its value, which may be a misplaced secret.
//! For the same reason serde's own messages are used only for syntax errors.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::str::FromStr;

use axum::body::HttpBody;
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use keyway::entries::TfaMethod;
use keyway::storage::UnknownName;
use keyway::{CacheTtl, ConnectionId, EntryId, RotationId};
use keyway_runtime::Settings;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::code::Code;
use super::error::ApiError;
use super::memory::{self, FREE};
use super::soon::soon;

/// The change of an optional value, in the library's form: `None` keeps it, `Some(None)` clears it.
pub(crate) type Change<T> = Option<Option<T>>;

/// A type that can be read from a body.
pub(crate) trait FromBody: Sized {
    /// Reads its fields; any other field is an error.
    fn read(fields: Fields) -> Result<Self, ApiError>;
}

/// A type of field.
pub(crate) trait Field: Sized {
    /// Takes the field of that name out.
    fn take(fields: &mut Fields, name: &'static str) -> Result<Self, ApiError>;
}

const TEXT: &str = "a string";
const WHOLE_NUMBER: &str = "a non-negative integer";

macro_rules! fields {
    ($($(#[$about:meta])* $type:ty: $take:expr,)*) => {
        $($(#[$about])* impl Field for $type {
            fn take(fields: &mut Fields, name: &'static str) -> Result<Self, ApiError> {
                let take: fn(&mut Fields, &'static str) -> Result<Self, ApiError> = $take;
                take(fields, name)
            }
        })*
    };
}

fields! {
    Option<String>: |fields, name| fields.value(name, TEXT),
    Option<Vec<String>>: |fields, name| fields.value(name, "a list of strings"),
    Option<bool>: |fields, name| fields.value(name, "true or false"),
    /// A whole number: not `true`, not `1.5`, not `"300"`.
    Option<u64>: |fields, name| fields.value(name, WHOLE_NUMBER),
    Option<ConnectionId>: |fields, name| fields.parsed(name, |_| format!("{name} must be a UUID")),
    Option<EntryId>: |fields, name| fields.parsed(name, |_| format!("{name} must be a UUID")),
    Option<RotationId>: |fields, name| fields.parsed(name, |_| format!("{name} must be a UUID")),
    Option<TfaMethod>: |fields, name| fields.parsed(name, |error: UnknownName| error.to_string()),
    /// A required field.
    String: |fields, name| {
        let text = fields.value(name, TEXT)?;
        text.ok_or_else(|| ApiError::invalid(format!("{name} is required and must be a string")))
    },
    /// In seconds.
    Option<CacheTtl>: |fields, name| {
        let too_long = || format!("{name} must be a non-negative integer, of at most {} seconds", u32::MAX);
        let ttl = |seconds| u32::try_from(seconds).map_err(|_| ApiError::invalid(too_long()));
        Ok(fields.value::<u64>(name, WHOLE_NUMBER)?.map(ttl).transpose()?.map(CacheTtl::from_seconds))
    },
    /// The settings of a connection: texts by name, which may be secret.
    Option<Settings>: |fields, name| {
        let is = "an object whose values are strings";
        let Some(values) = fields.value::<Fields>(name, is)? else { return Ok(None) };
        let mut values = values.once()?;
        let mut settings = Settings::new();
        while let Some((setting, json)) = values.by_name.pop_first() {
            settings.set(setting, read_as::<String>(name, is, &wiping(json))?);
        }
        Ok(Some(settings))
    },
}

/// A change of an optional value: `null` clears it.
impl<T> Field for Change<T>
where
    Option<T>: Field,
{
    fn take(fields: &mut Fields, name: &'static str) -> Result<Self, ApiError> {
        let is_there = fields.by_name.contains_key(name);
        Ok(Some(<Option<T> as Field>::take(fields, name)?).filter(|_| is_there))
    }
}

/// Defines a struct that can be read [from a body](FromBody) and appears in the document. The
/// ignored fields are managed by the server: clients may send them back as they got them.
macro_rules! body {
    ($(#[$about:meta])* $visible:vis struct $name:ident $(ignoring($ignored:expr))? {
        $($(#[$of:meta])* $field_visible:vis $field:ident: $type:ty,)*
    }) => {
        #[derive(utoipa::ToSchema)]
        $(#[$about])*
        $visible struct $name { $($(#[$of])* $field_visible $field: $type,)* }

        impl $name {
            /// Takes its fields out.
            fn take(fields: &mut $crate::http::body::Fields) -> Result<Self, $crate::http::error::ApiError> {
                Ok(Self { $($field: $crate::http::body::Field::take(fields, stringify!($field))?,)* })
            }
        }

        impl $crate::http::body::FromBody for $name {
            fn read(mut fields: $crate::http::body::Fields) -> Result<Self, $crate::http::error::ApiError> {
                let read = Self::take(&mut fields)?;
                $(fields.ignore($ignored);)?
                fields.finish()?;
                Ok(read)
            }
        }
    };
}
pub(crate) use body;

/// Several times the size of a vault entry with cookies and browser storage.
const BODY_LIMIT: usize = 2 << 20;

/// Field names are truncated to this length in messages.
const NAME_SHOWN: usize = 64;

/// The fields of a JSON object in a request's body, each as its raw text until it is taken out.
/// Remaining fields are wiped, because they may be secrets.
pub(crate) struct Fields {
    by_name: BTreeMap<String, Box<RawValue>>,
    /// A field that is there more than once.
    twice: Option<String>,
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fields").finish_non_exhaustive()
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        std::mem::take(&mut self.by_name).into_values().map(wiping).for_each(drop);
    }
}

/// As derived for a map, which would silently keep the last field of each name.
impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfObject;
        impl<'de> Visitor<'de> for OfObject {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Fields, A::Error> {
                let mut fields = Fields { by_name: BTreeMap::new(), twice: None };
                while let Some((name, value)) = object.next_entry::<String, Box<RawValue>>()? {
                    if fields.by_name.contains_key(&name) {
                        fields.twice = Some(name.clone());
                    }
                    fields.by_name.insert(name, value).map(wiping);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(OfObject)
    }
}

/// The text of a value, wiped when dropped.
fn wiping(value: Box<RawValue>) -> Zeroizing<String> {
    Zeroizing::new(String::from(Box::<str>::from(value)))
}

/// The body of a request.
pub(super) struct Body<B>(pub(super) B);

impl<S: Send + Sync, B: FromBody> FromRequest<S> for Body<B> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !is_json(&request) {
            return Err(not_json());
        }
        let body = arrived(request.into_body()).await?;
        B::read(Fields::parse(&body)?).map(Self)
    }
}

/// For requests that need no body: an empty one counts as absent, whatever its content type.
impl<S: Send + Sync, B: FromBody> OptionalFromRequest<S> for Body<B> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Option<Self>, ApiError> {
        let is_json = is_json(&request);
        let body = arrived(request.into_body()).await?;
        match body.trim_ascii() {
            b"" => Ok(None),
            // Clients send `null` for a missing object.
            b"null" if is_json => Ok(None),
            _ if is_json => B::read(Fields::parse(&body)?).map(Self).map(Some),
            _ => Err(not_json()),
        }
    }
}

fn not_json() -> ApiError {
    let message = "send the body as JSON, with the header Content-Type: application/json";
    ApiError::new(Code::UNSUPPORTED_MEDIA_TYPE, message)
}

fn too_large() -> ApiError {
    ApiError::new(Code::PAYLOAD_TOO_LARGE, format!("the body is larger than {} MiB", BODY_LIMIT >> 20))
}

/// Reads a body. One that is still to come waits in a place of its own; one whose announced size is
/// too large is refused before it comes.
async fn arrived(body: axum::body::Body) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    if body.size_hint().lower() > BODY_LIMIT as u64 {
        return Err(too_large());
    }
    let mut read = pin!(read(body));
    match soon(read.as_mut()).await {
        Some(body) => body,
        None => memory::arrive(read).await,
    }
}

/// Reads a body up to the limit, if there is room for it.
async fn read(mut body: axum::body::Body) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    // Allocate the announced size, so that growing leaves no copies of secrets behind.
    let announced = body.size_hint().exact().map(|size| usize::try_from(size).unwrap_or(BODY_LIMIT));
    let mut text = buffer(announced.unwrap_or(FREE)).await?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad_request("the body could not be read to its end; send it again"))?;
        let Ok(data) = frame.into_data() else { continue };
        let size = text.len() + data.len();
        if size > BODY_LIMIT {
            return Err(too_large());
        }
        if size > text.capacity() {
            let mut larger = buffer(BODY_LIMIT).await?;
            larger.extend_from_slice(&text);
            text = larger;
        }
        text.extend_from_slice(&data);
    }
    Ok(text)
}

/// Room for a body of that size. Twice, because its parsed copy exists beside it for a while.
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
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        use serde_json::error::Category;
        if body.trim_ascii().is_empty() {
            return Err(ApiError::bad_request("the body is empty; send a JSON object"));
        }
        let fields = serde_json::from_slice(body).map_err(|error| match error.classify() {
            Category::Data => ApiError::bad_request("the body must be a JSON object"),
            _ => {
                let (line, column) = (error.line(), error.column());
                ApiError::bad_request(format!("the body is not valid JSON, from line {line}, column {column} on"))
            }
        });
        fields.and_then(Self::once)
    }

    /// Refuses a field that is there twice: a proxy that checks requests may read the other one.
    fn once(self) -> Result<Self, ApiError> {
        match &self.twice {
            None => Ok(self),
            Some(name) => {
                Err(ApiError::bad_request(format!("the field `{}` is there twice; send it once", shown(name))))
            }
        }
    }

    /// Takes a field out as raw text.
    pub(super) fn raw(&mut self, name: &str) -> Option<Zeroizing<String>> {
        self.by_name.remove(name).map(wiping)
    }

    /// Takes a value out; `is` describes it in messages. `None` when it is missing or `null`.
    fn value<T: DeserializeOwned>(&mut self, name: &'static str, is: &str) -> Result<Option<T>, ApiError> {
        self.raw(name).map_or(Ok(None), |json| read_as(name, is, &json))
    }

    /// Takes a text out and parses it.
    fn parsed<T: FromStr>(
        &mut self,
        name: &'static str,
        wrong: impl Fn(T::Err) -> String,
    ) -> Result<Option<T>, ApiError> {
        let parse = |text: String| text.parse().map_err(|error| ApiError::invalid(wrong(error)));
        self.value(name, TEXT)?.map(parse).transpose()
    }

    /// Drops server-managed fields, which clients may send back.
    pub(super) fn ignore(&mut self, names: impl IntoIterator<Item = &'static str>) {
        for name in names {
            self.by_name.remove(name);
        }
    }

    /// Ends reading. A remaining field is an error: the server would not act on it, and ignoring it
    /// would suggest that it did.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        let Some(name) = self.by_name.keys().next() else { return Ok(()) };
        Err(ApiError::invalid(format!("there is no field `{}`; check its spelling", shown(name))))
    }
}

/// A name from outside, for a message.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(NAME_SHOWN).collect()
}

fn read_as<T: DeserializeOwned>(name: &str, is: &str, json: &str) -> Result<T, ApiError> {
    serde_json::from_str(json).map_err(|_| ApiError::invalid(format!("{name} must be {is}")))
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
        let seconds = |json: &str| <Option<u64> as Field>::take(&mut fields(&format!("{{\"ttl\": {json}}}")), "ttl");
        assert_eq!(seconds("300").unwrap(), Some(300));
        assert_eq!(seconds("0").unwrap(), Some(0));
        assert_eq!(seconds("null").unwrap(), None);
        for bad in ["true", "false", "1.5", "300.0", "\"300\"", "-1", "1e3", "99999999999999999999", "[]", "{}"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn null_is_nothing_and_another_type_is_refused_without_its_value() {
        let text = |json: &str, name| <Option<String> as Field>::take(&mut fields(json), name);
        assert_eq!(text(r#"{"a": null}"#, "a").unwrap(), None);
        assert_eq!(text("{}", "a").unwrap(), None);
        let error = text(r#"{"password": 8462531}"#, "password").unwrap_err();
        assert!(!format!("{error:?}").contains("8462531"));
    }

    #[test]
    fn a_field_that_is_left_over_is_named() {
        assert!(fields("{}").finish().is_ok());
        assert!(format!("{:?}", fields(r#"{"secret_reff": null}"#).finish()).contains("`secret_reff`"));
    }

    #[test]
    fn a_field_that_is_there_twice_is_named_and_its_values_are_not() {
        for body in [r#"{"domain": "hunter2", "x": 1, "domain": "hunter2"}"#, r#"{"domain": 1, "\u0064omain": null}"#] {
            let error = Fields::parse(body.as_bytes()).unwrap_err();
            let shown = format!("{error:?}");
            assert!(shown.contains("`domain` is there twice") && !shown.contains("hunter2"), "{shown}");
            assert_eq!(error.into_response().status(), 400);
        }
        let twice = r#"{"settings": {"token": "hunter2", "token": "hunter3"}}"#;
        let error = format!("{:?}", <Option<Settings> as Field>::take(&mut fields(twice), "settings").unwrap_err());
        assert!(error.contains("`token` is there twice") && !error.contains("hunter"), "{error}");
        // What is opaque to the server is nothing to it.
        assert!(fields(r#"{"cookies": [{"a": 1, "a": 2}]}"#).raw("cookies").is_some());
    }

    #[test]
    fn a_field_that_is_not_there_is_kept_and_null_clears_it() {
        let alias = |json: &str| <Change<String> as Field>::take(&mut fields(json), "user_alias").unwrap();
        assert_eq!(alias("{}"), None);
        assert_eq!(alias(r#"{"user_alias": null}"#), Some(None));
        assert_eq!(alias(r#"{"user_alias": "Main"}"#), Some(Some("Main".to_owned())));
        assert!(<Change<String> as Field>::take(&mut fields(r#"{"user_alias": 7}"#), "user_alias").is_err());
    }

    #[tokio::test]
    async fn a_body_of_a_size_that_nobody_has_said_is_read_whole_up_to_the_limit() {
        let memory = std::sync::Arc::<memory::Memory>::default();
        for (parts, fits) in [(1, true), (5, true), (256, true), (257, false)] {
            let part = |number: u8| Ok::<_, std::convert::Infallible>(vec![number; 8 << 10]);
            let stream = futures::stream::iter((0..parts).map(move |number: u16| part((number % 251) as u8)));
            let read = memory.scope(read(axum::body::Body::from_stream(stream))).await;
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
