//! Pagination of lists: the parameters `?limit=` and `?cursor=`, and the page in the response.
//!
//! A cursor has the position of the last item of a page, and a digest that binds it to its list:
//! which list, of which owner, with which filters. The digest needs no secret: with a forged
//! cursor, a client only reaches a position in a list that it may read anyway.

use std::{borrow::Cow, fmt::Display};

use axum::Json;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{
        ArrayBuilder, ObjectBuilder, Ref, RefOr, Required, Schema, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::SchemaType,
    },
};

use super::params::QueryParams;
use crate::{
    auth::Problem,
    domain::schema::{Schemas, entry, int32},
};

/// Maximum number of items on a page.
const MAX_LIMIT: i64 = 100;

/// Items on a page if the client does not say how many.
const DEFAULT_LIMIT: i64 = 20;

const DIGEST_LENGTH: usize = 8;

/// A page of a list. The schema has the name of what is listed: `AccountList`.
#[derive(Serialize)]
pub struct List<T> {
    data: Vec<T>,
    next_cursor: Option<String>,
}

impl<T: ToSchema> PartialSchema for List<T> {
    fn schema() -> RefOr<Schema> {
        let items = ArrayBuilder::new().items(Ref::from_schema_name(T::name()));
        let next_cursor = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .description(Some("The `cursor` of the next page; `null`: this is the last page."));
        ObjectBuilder::new()
            .description(Some("A page of a list."))
            .property("data", items)
            .required("data")
            .property("next_cursor", next_cursor)
            .required("next_cursor")
            .into()
    }
}

impl<T: ToSchema> ToSchema for List<T> {
    fn name() -> Cow<'static, str> {
        Cow::Owned(format!("{}List", T::name()))
    }

    fn schemas(all: &mut Schemas) {
        all.push(entry::<T>());
        T::schemas(all);
    }
}

/// Which page is asked for. `N` is how many bytes a position has.
pub struct Page<const N: usize> {
    limit: i64,
    /// The position after which the page begins.
    pub after: Option<[u8; N]>,
    list: String,
}

impl<const N: usize> IntoParams for Page<N> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let limit =
            int32().minimum(Some(1)).maximum(Some(MAX_LIMIT)).default(Some(DEFAULT_LIMIT.into()));
        let cursor = ObjectBuilder::new().schema_type(Type::String);
        [
            ("limit", "Maximum number of items on the page.", limit),
            ("cursor", "The `next_cursor` of the previous page. Absent: the first page.", cursor),
        ]
        .map(|(name, description, schema)| {
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Query)
                .description(Some(description))
                .required(Required::False)
                .schema(Some(schema))
                .build()
        })
        .into()
    }
}

impl<const N: usize> Page<N> {
    /// `list` says which list it is, of whom, and how it is filtered ([`filter_text`]).
    pub fn read(mut params: QueryParams, list: String) -> Result<Self, Problem> {
        let limit = params.optional("limit", |text| match text.parse() {
            Ok(limit @ 1..=MAX_LIMIT) => Ok(limit),
            _ => Err(format!("must be a whole number from 1 to {MAX_LIMIT}")),
        });
        let after = params.optional("cursor", |text| {
            decode(text, &list).ok_or("is not a cursor that this list gave out")
        });
        params.finish()?;
        Ok(Self { limit: limit.unwrap_or(DEFAULT_LIMIT), after, list })
    }

    /// One more than the page holds, to see whether there is another.
    pub fn fetch(&self) -> i64 {
        self.limit + 1
    }

    /// The page out of what was fetched.
    pub fn respond<I, T>(
        self,
        mut items: Vec<I>,
        position: impl Fn(&I) -> [u8; N],
        shape: impl FnMut(I) -> T,
    ) -> Json<List<T>> {
        let limit = usize::try_from(self.limit).expect("1 to 100");
        let more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| more);
        let next_cursor = last.map(|last| encode(position(last), &self.list));
        Json(List { data: items.into_iter().map(shape).collect(), next_cursor })
    }
}

/// A filter as the text of a list has it: `status=open`, or `status` if the filter is absent. The
/// texts of the API stay the same between versions; those of `Debug` may not.
pub fn filter_text(name: &str, value: Option<&impl Display>) -> String {
    value.map_or_else(|| name.to_owned(), |value| format!("{name}={value}"))
}

fn encode<const N: usize>(position: [u8; N], list: &str) -> String {
    URL_SAFE_NO_PAD.encode([&position[..], &digest(&position, list)].concat())
}

fn decode<const N: usize>(cursor: &str, list: &str) -> Option<[u8; N]> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (position, tie) = bytes.split_first_chunk::<N>()?;
    (tie == digest(position, list)).then_some(*position)
}

fn digest(position: &[u8], list: &str) -> [u8; DIGEST_LENGTH] {
    let mut hasher = Sha256::new();
    hasher.update(b"tollgate cursor\n");
    hasher.update(position);
    hasher.update(list.as_bytes());
    let digest = hasher.finalize();
    std::array::from_fn(|index| digest[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_filter_has_another_text_than_any_value() {
        assert_eq!(filter_text("status", Some(&"open")), "status=open");
        assert_eq!(filter_text("status", Some(&"")), "status=");
        assert_eq!(filter_text("status", None::<&String>), "status");
    }

    #[test]
    fn cursor_works_only_on_its_own_list_and_unaltered() {
        let cursor = encode([7; 16], "keys of a");
        assert_eq!(decode(&cursor, "keys of a"), Some([7; 16]));
        assert_eq!(decode::<16>(&cursor, "keys of b"), None);
        assert_eq!(decode::<8>(&cursor, "keys of a"), None);
        for index in 0..cursor.len() {
            let mut tampered = cursor.clone().into_bytes();
            tampered[index] = if tampered[index] == b'A' { b'B' } else { b'A' };
            let tampered = String::from_utf8(tampered).expect("ASCII");
            assert_eq!(decode::<16>(&tampered, "keys of a"), None, "{index}");
        }
        for text in ["", "A", "%", &"A".repeat(10_000)] {
            assert_eq!(decode::<16>(text, "keys of a"), None);
        }
    }
}
