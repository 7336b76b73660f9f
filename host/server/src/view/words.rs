//! Lists of words in the document.

/// Defines a type whose schema is one of these words.
macro_rules! words {
    ($(#[doc = $about:literal])* $visible:vis struct $name:ident: $words:expr;) => {
        $(#[doc = $about])*
        $visible struct $name;

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                let text = utoipa::openapi::schema::ObjectBuilder::new().schema_type(utoipa::openapi::schema::Type::String);
                let text = text.description(Some(concat!($($about),*).trim())).enum_values(Some($words));
                utoipa::openapi::Schema::from(text.build()).into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}
pub(crate) use words;
