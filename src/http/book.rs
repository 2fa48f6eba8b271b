//! The book at [`BOOK_PATH`]. The binary contains its built pages.

use std::fmt::Write as _;

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    middleware,
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use rust_embed::Embed;

use super::problem;
use crate::{
    auth::{Problem, ProblemCode},
    state::AppState,
    web::guard::set_page_headers,
};

#[derive(Embed)]
#[folder = "docs/book/"]
#[exclude = ".*"]
struct Files;

/// The path of the book. All paths below it are pages and files of the book.
pub const BOOK_PATH: &str = "/docs/book/";

/// The pages load only files of this origin. Their style sheets contain images as `data:` URLs.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// Number of bytes of a file's hash in its entity tag.
const TAG_BYTES: usize = 16;

/// Returns the router of [`BOOK_PATH`] and all paths below it.
pub fn book(state: &AppState) -> Router {
    let secure = state.public_url().is_secure();
    Router::new()
        .route(BOOK_PATH.trim_end_matches('/'), get(add_slash))
        .route(BOOK_PATH, get(get_file))
        .route(&format!("{BOOK_PATH}{{*file}}"), get(get_file))
        .method_not_allowed_fallback(problem::no_such_method)
        .route_layer(middleware::map_response_with_state(secure, set_headers))
}

async fn set_headers(State(secure): State<bool>, mut response: Response) -> Response {
    set_page_headers(response.headers_mut(), CONTENT_SECURITY_POLICY, secure);
    response
}

async fn add_slash() -> Redirect {
    Redirect::permanent(BOOK_PATH)
}

/// Serves a file of the book. A new version of the service may change the file, so browsers ask
/// each time whether their copy is current.
#[tracing::instrument(level = "debug", skip_all)]
async fn get_file(uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let path = uri.path().strip_prefix(BOOK_PATH).unwrap_or_default();
    let index = if path.is_empty() || path.ends_with('/') { "index.html" } else { "" };
    let name = format!("{path}{index}");
    let (file, media_type) = Files::get(&name).zip(media_type(&name)).ok_or_else(no_such_page)?;
    let tag = entity_tag(&file.metadata.sha256_hash());
    let is_current = has_tag(&headers, &tag);
    let tag = HeaderValue::try_from(tag).expect("hexadecimal digits in quotes are visible ASCII");
    let kept = [(header::ETAG, tag), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    Ok(if is_current {
        (StatusCode::NOT_MODIFIED, kept).into_response()
    } else {
        let media_type = (header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        (kept, [media_type], file.data).into_response()
    })
}

fn no_such_page() -> Problem {
    Problem::new(
        ProblemCode::NotFound,
        format!("The documentation has no such page. Its table of contents is at {BOOK_PATH}."),
    )
}

fn entity_tag(hash: &[u8; 32]) -> String {
    let digits = hash[..TAG_BYTES].iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    });
    format!("\"{digits}\"")
}

/// Whether `If-None-Match` lists the tag, or is `*`. The comparison is weak (RFC 9110, 13.1.2).
fn has_tag(headers: &HeaderMap, tag: &str) -> bool {
    let lists = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|list| list.to_str().ok());
    lists
        .flat_map(|list| list.split(',').map(str::trim))
        .any(|listed| listed == "*" || listed.strip_prefix("W/").unwrap_or(listed) == tag)
}

/// Returns the media type of a file by its name, or `None` if the book does not serve such files.
fn media_type(name: &str) -> Option<&'static str> {
    let (_, extension) = name.rsplit_once('.')?;
    Some(match extension {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Maximum size of all files together, because every binary contains them.
    const MAX_BYTES: usize = 4 * 1024 * 1024;

    #[test]
    fn files_of_the_book_are_at_most_4_mib_and_have_media_types() {
        let mut bytes = 0;
        for name in Files::iter() {
            let file = Files::get(&name).expect("every listed name has a file");
            bytes += file.data.len();
            assert!(media_type(&name).is_some(), "{name}");
        }
        assert!((1..=MAX_BYTES).contains(&bytes), "{bytes}");
        assert!(Files::get("index.html").is_some());
    }

    #[test]
    fn browser_copy_is_current_only_if_its_tag_matches_the_file() {
        let tag = entity_tag(&[0xab; 32]);
        assert_eq!(tag, "\"abababababababababababababababab\"");
        let is_current = |lists: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for list in lists {
                headers.append(header::IF_NONE_MATCH, HeaderValue::from_static(list));
            }
            has_tag(&headers, &tag)
        };
        for lists in [
            &["\"abababababababababababababababab\""][..],
            &["W/\"abababababababababababababababab\""],
            &["\"other\", \"abababababababababababababababab\""],
            &["\"other\"", "\"abababababababababababababababab\""],
            &["*"],
        ] {
            assert!(is_current(lists), "{lists:?}");
        }
        for lists in [&[][..], &[""], &["\"other\""], &["abababababababababababababababab"]] {
            assert!(!is_current(lists), "{lists:?}");
        }
    }
}
