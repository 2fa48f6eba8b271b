//! Pagination of lists: the parameters `?limit=` and `?cursor=`, and the page in the response.
//!
//! A cursor contains the position of the last item of a page, and a digest of the list's kind,
//! owner and filters. The digest binds the cursor to its list. It needs no secret, because a forged
//! cursor only selects a position in a list that the client may read anyway.

use std::{borrow::Cow, fmt::Display, marker::PhantomData};

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::Value;
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

/// Default number of items on a page.
const DEFAULT_LIMIT: i64 = 20;

/// Maximum length of a page's body, in bytes. A page that has only one item may be longer.
const PAGE_BYTES: usize = 256 * 1024;

const DIGEST_LENGTH: usize = 8;

/// Items and the cursor of the next page, as serialized JSON. The schema is named after the items,
/// such as `AccountList`.
pub struct List<T> {
    body: Vec<u8>,
    of: PhantomData<T>,
}

impl<T> IntoResponse for List<T> {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.body).into_response()
    }
}

impl<T: ToSchema> PartialSchema for List<T> {
    fn schema() -> RefOr<Schema> {
        let items = ArrayBuilder::new().items(Ref::from_schema_name(T::name()));
        let next_cursor = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .description(Some(
                "The `cursor` of the next page, or `null` on the last page. Request pages until it \
                 is `null`. A page can contain fewer items than `limit` even if more follow.",
            ));
        ObjectBuilder::new()
            .description(Some(format!(
                "A page of `{}` objects, and the cursor of the next page.",
                T::name()
            )))
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

/// The page that the client requests. `N` is the size of a position in bytes.
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
        let limit_text = format!(
            "Maximum number of items on the page. If the body would be longer than {} KiB, the \
             page contains fewer items, even if more follow.",
            PAGE_BYTES / 1024
        );
        let cursor_text = "The `next_cursor` of the previous page. Defaults to the first page.";
        [("limit", limit_text, limit), ("cursor", cursor_text.to_owned(), cursor)]
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
    /// Reads the parameters `limit` and `cursor`. `list` identifies the list by its kind, its owner
    /// and its filters ([`filter_text`]).
    pub fn read(mut params: QueryParams, list: String) -> Result<Self, Problem> {
        let limit = params.optional("limit", |text| match text.parse() {
            Ok(limit @ 1..=MAX_LIMIT) => Ok(limit),
            _ => Err(format!("must be a whole number from 1 to {MAX_LIMIT}")),
        });
        let after = params.optional("cursor", |text| {
            decode(text, &list).ok_or("must be a next_cursor of this list with the same filters")
        });
        params.finish()?;
        Ok(Self { limit: limit.unwrap_or(DEFAULT_LIMIT), after, list })
    }

    /// Returns the number of items to fetch. It is one more than the page contains, to detect
    /// whether more follow.
    pub fn fetch(&self) -> i64 {
        self.limit + 1
    }

    /// Builds the page from the fetched items. The page ends before the item that would make its
    /// body longer than [`PAGE_BYTES`]. It always contains the first item, so that a client can get
    /// past a large item.
    pub fn respond<I, T: Serialize>(
        self,
        items: Vec<I>,
        position: impl Fn(&I) -> [u8; N],
        mut shape: impl FnMut(I) -> T,
    ) -> List<T> {
        let limit = usize::try_from(self.limit).expect("1 to 100");
        // All cursors of a list have the same length.
        let longest_end = end(Some(encode([0; N], &self.list))).len();
        let mut more = items.len() > limit;
        let mut last = None;
        let mut body = br#"{"data":["#.to_vec();
        for item in items.into_iter().take(limit) {
            let (item_position, length_before) = (position(&item), body.len());
            if last.is_some() {
                body.push(b',');
            }
            serde_json::to_writer(&mut body, &shape(item)).expect("every item of a list is JSON");
            if last.is_some() && body.len() + longest_end > PAGE_BYTES {
                body.truncate(length_before);
                more = true;
                break;
            }
            last = Some(item_position);
        }
        let next_cursor = last.filter(|_| more).map(|last| encode(last, &self.list));
        body.extend_from_slice(end(next_cursor).as_bytes());
        List { body, of: PhantomData }
    }
}

/// Returns the end of a page's body, after the last item.
fn end(next_cursor: Option<String>) -> String {
    format!("],\"next_cursor\":{}}}", Value::from(next_cursor))
}

/// Formats a filter for the text of a list: `status=open`, or `status` if the filter is absent.
/// Uses `Display`, because its output stays the same between versions, unlike the output of
/// `Debug`.
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
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const LIST: &str = "texts";

    /// Builds the body of a page of texts with these lengths. The position of a text is its index.
    fn page_body(limit: i64, lengths: &[usize]) -> Vec<u8> {
        let page = Page::<8> { limit, after: None, list: LIST.to_owned() };
        let items: Vec<(u64, usize)> = (0..).zip(lengths.iter().copied()).collect();
        page.respond(items, |(index, _)| index.to_be_bytes(), |(_, length)| "x".repeat(length)).body
    }

    /// Returns the lengths of the texts on a page, and the position in its cursor.
    fn read_page(body: &[u8]) -> (Vec<usize>, Option<u64>) {
        let page: Value = serde_json::from_slice(body).expect("JSON");
        let data = page["data"].as_array().expect("a list");
        let lengths = data.iter().map(|text| text.as_str().expect("a text").len()).collect();
        let cursor = page["next_cursor"].as_str();
        let position = cursor.map(|cursor| decode::<8>(cursor, LIST).expect("a cursor"));
        (lengths, position.map(u64::from_be_bytes))
    }

    /// Returns the length of a text that fills a whole page with a cursor.
    fn filling_length() -> usize {
        PAGE_BYTES - page_body(1, &[0, 0]).len()
    }

    #[test]
    fn page_contains_its_items_and_a_cursor_if_more_follow() {
        assert_eq!(page_body(2, &[]), br#"{"data":[],"next_cursor":null}"#);
        assert_eq!(page_body(2, &[1, 2]), br#"{"data":["x","xx"],"next_cursor":null}"#);
        let cursor = encode(1_u64.to_be_bytes(), LIST);
        let expected = json!({"data": ["x", "xx"], "next_cursor": cursor}).to_string();
        assert_eq!(page_body(2, &[1, 2, 3]), expected.as_bytes());
    }

    #[test]
    fn page_ends_before_the_item_that_would_exceed_its_maximum_size() {
        // A comma and two quotes surround the second text.
        let fitting = filling_length() - 1000 - 3;
        let body = page_body(100, &[1000, fitting, 0]);
        assert_eq!(body.len(), PAGE_BYTES);
        assert_eq!(read_page(&body), (vec![1000, fitting], Some(1)));

        // The third text would fit, but must not come before the second.
        let body = page_body(100, &[1000, fitting + 1, 0]);
        assert_eq!(read_page(&body), (vec![1000], Some(0)));
    }

    #[test]
    fn item_larger_than_a_page_is_alone_on_its_page() {
        let large = 2 * PAGE_BYTES;
        assert_eq!(read_page(&page_body(100, &[large, 1])), (vec![large], Some(0)));
        assert_eq!(read_page(&page_body(100, &[1, large, 1])), (vec![1], Some(0)));
        assert_eq!(read_page(&page_body(100, &[large])), (vec![large], None));
    }

    #[test]
    fn absent_filter_differs_from_every_value() {
        assert_eq!(filter_text("status", Some(&"open")), "status=open");
        assert_eq!(filter_text("status", Some(&"")), "status=");
        assert_eq!(filter_text("status", None::<&String>), "status");
    }

    #[test]
    fn cursor_works_only_unaltered_and_on_its_own_list() {
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

    proptest! {
        #[test]
        fn cursor_survives_a_round_trip_and_other_texts_are_refused(
            position: [u8; 16], text: String
        ) {
            prop_assert_eq!(decode(&encode(position, "keys of a"), "keys of a"), Some(position));
            prop_assert_eq!(decode::<16>(&text, "keys of a"), None);
        }
    }
}
