//! Building blocks for the schemas in the OpenAPI document.
//!
//! The schema of a type is in the file of the type, next to its parser. Both read the same
//! constants.

use utoipa::{
    ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Schema,
        schema::{KnownFormat, SchemaFormat, Type},
    },
};

/// Schemas by name, as the document has them.
pub(crate) type Schemas = Vec<(String, RefOr<Schema>)>;

/// The schema of a type, by its name.
pub(crate) fn entry<T: ToSchema>() -> (String, RefOr<Schema>) {
    (T::name().into_owned(), T::schema())
}

/// A string.
pub(crate) fn string(description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(description))
}

/// A string in a format that has a name.
pub(crate) fn formatted(format: &str, description: &str) -> ObjectBuilder {
    string(description).format(Some(SchemaFormat::Custom(format.to_owned())))
}

/// A whole number of 32 bits.
pub(crate) fn int32() -> ObjectBuilder {
    integer(KnownFormat::Int32)
}

/// A whole number of 64 bits.
pub(crate) fn int64() -> ObjectBuilder {
    integer(KnownFormat::Int64)
}

/// A string out of a closed set; `doc` is a doc comment, line by line.
pub(crate) fn one_of(doc: &[&str], texts: &[&'static str]) -> ObjectBuilder {
    let description = lines(doc);
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description((!description.is_empty()).then_some(description))
        .enum_values(Some(texts.iter().copied()))
}

/// A text of bounded length that people read.
pub(crate) fn text(doc: &[&str], max_chars: usize, examples: &[&str]) -> ObjectBuilder {
    string(&lines(doc))
        .min_length(Some(1))
        .max_length(Some(max_chars))
        .examples(examples.iter().copied())
}

fn integer(format: KnownFormat) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).format(Some(SchemaFormat::KnownFormat(format)))
}

/// A doc comment as a description.
fn lines(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n")
}

/// Gives a type a schema of its own, to which others refer by its name.
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

/// Gives a type the schema of another: they are the same to a client.
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
