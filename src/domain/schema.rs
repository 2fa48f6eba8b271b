//! Building blocks for the schemas in the OpenAPI document.
//!
//! The schema of a type is in the same file as the type and its parser. The schema and the parser
//! use the same constants.

use utoipa::{
    ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Schema,
        schema::{KnownFormat, SchemaFormat, Type},
    },
};

/// Schemas by name, in the order of the document.
pub(crate) type Schemas = Vec<(String, RefOr<Schema>)>;

/// Returns the name of a type and its schema.
pub(crate) fn entry<T: ToSchema>() -> (String, RefOr<Schema>) {
    (T::name().into_owned(), T::schema())
}

/// Returns the schema of a string.
pub(crate) fn string(description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(description))
}

/// Returns the schema of a string with a format name.
pub(crate) fn formatted(format: &str, description: &str) -> ObjectBuilder {
    string(description).format(Some(SchemaFormat::Custom(format.to_owned())))
}

/// Returns the schema of a 32-bit integer.
pub(crate) fn int32() -> ObjectBuilder {
    integer(KnownFormat::Int32)
}

/// Returns the schema of a 64-bit integer.
pub(crate) fn int64() -> ObjectBuilder {
    integer(KnownFormat::Int64)
}

/// Returns the schema of a string from a closed set. `doc` is a doc comment, one element for each
/// line.
pub(crate) fn one_of(doc: &[&str], texts: &[&'static str]) -> ObjectBuilder {
    let description = lines(doc);
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description((!description.is_empty()).then_some(description))
        .enum_values(Some(texts.iter().copied()))
}

/// Returns the schema of a text that people read, with a maximum length.
pub(crate) fn text(doc: &[&str], max_chars: usize, examples: &[&str]) -> ObjectBuilder {
    string(&lines(doc))
        .min_length(Some(1))
        .max_length(Some(max_chars))
        .examples(examples.iter().copied())
}

fn integer(format: KnownFormat) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).format(Some(SchemaFormat::KnownFormat(format)))
}

/// Joins the lines of a doc comment into a description.
fn lines(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n")
}

/// Gives a type its own schema. Other schemas refer to this schema by its name.
macro_rules! named {
    ($type:ty, $name:expr, $schema:expr) => {
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $schema.into()
            }
        }

        impl utoipa::ToSchema for $type {
            fn name() -> std::borrow::Cow<'static, str> {
                std::borrow::Cow::Borrowed($name)
            }
        }
    };
}
pub(crate) use named;

/// Gives a type the schema of another type. Use it if clients need not distinguish the two types.
macro_rules! same_as {
    ($type:ty, $other:ty) => {
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                <$other as utoipa::PartialSchema>::schema()
            }
        }

        impl utoipa::ToSchema for $type {
            fn name() -> std::borrow::Cow<'static, str> {
                <$other as utoipa::ToSchema>::name()
            }
        }
    };
}
pub(crate) use same_as;
