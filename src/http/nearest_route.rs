//! The response for a path that does not exist. It names the route that the path resembles.

use std::sync::LazyLock;

use axum::{
    extract::State,
    http::{Method, Uri},
};
use utoipa::openapi::PathItem;

use super::openapi;
use crate::{
    auth::{Problem, ProblemCode},
    domain::misspelling,
    state::AppState,
};

/// Maximum length of a path that is compared with the routes, in bytes.
const MAX_PATH_BYTES: usize = 256;

/// The edit distance of a superfluous or missing first segment.
const FIRST_SEGMENT: usize = 1;

/// The routes that are compared with unknown paths.
static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(all_routes);

/// A route that a client may have meant.
#[derive(PartialEq, Debug)]
struct Route {
    method: &'static str,
    path: String,
    segments: Vec<String>,
    /// Whether the route belongs to the documentation, which can be turned off.
    of_docs: bool,
}

/// Returns the response for a path that does not exist.
///
/// It does not repeat the path, because a client may have put a key there by mistake.
pub async fn no_such_path(State(state): State<AppState>, method: Method, uri: Uri) -> Problem {
    let meant = match nearest(&method, uri.path(), state.docs()) {
        Some(Route { method, path, .. }) => format!(" Did you mean {method} {path}?"),
        None => String::new(),
    };
    let list = if state.docs() { " The OpenAPI document lists all paths." } else { "" };
    Problem::new(ProblemCode::NotFound, format!("The service has no such path.{meant}{list}"))
}

/// Returns the route with the smallest edit distance to the path. Among equally near routes,
/// prefers one with the method of the request.
fn nearest(method: &Method, path: &str, docs: bool) -> Option<&'static Route> {
    if path.len() > MAX_PATH_BYTES {
        return None;
    }
    let given: Vec<&str> = segments(path).collect();
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    ROUTES
        .iter()
        .filter(|route| docs || !route.of_docs)
        .filter_map(|route| Some((route.edits(&given)?, route)))
        .min_by_key(|(edits, route)| (*edits, route.method != method))
        .map(|(_, route)| route)
}

/// Splits a path into segments. Ignores a trailing slash. Keeps an empty segment inside the path,
/// because an id may be missing there.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.strip_suffix('/').unwrap_or(path).split('/')
}

impl Route {
    fn new(method: &'static str, path: &str, of_docs: bool) -> Self {
        let segments = segments(path).map(str::to_owned).collect();
        Self { method, path: path.to_owned(), segments, of_docs }
    }

    /// Returns the edit distance between the path and this route, or `None` if the path does not
    /// resemble the route. The client may have omitted the first segment, `v1`, or added a segment
    /// before it, such as `api`.
    fn edits(&self, given: &[&str]) -> Option<usize> {
        let shifted = |segments, given| edits(segments, given).map(|edits| edits + FIRST_SEGMENT);
        let whole = edits(&self.segments, given);
        let without_first = shifted(self.segments.get(1..)?, given);
        let with_one_before = shifted(&self.segments[..], given.get(1..)?);
        [whole, without_first, with_one_before].into_iter().flatten().min()
    }
}

/// Returns the sum of the edit distances of all segments. A parameter of the route matches any
/// segment.
fn edits(segments: &[String], given: &[&str]) -> Option<usize> {
    if segments.len() != given.len() || given.is_empty() {
        return None;
    }
    let of_segment = |(segment, given): (&String, &&str)| match segment {
        parameter if parameter.starts_with('{') => Some(0),
        literal => misspelling::edits(given, literal),
    };
    segments.iter().zip(given).map(of_segment).sum()
}

/// Returns the routes of the OpenAPI document, and the pages that a person may look for.
fn all_routes() -> Vec<Route> {
    let document = openapi::document();
    let mut routes = Vec::new();
    for (path, item) in &document.paths.paths {
        routes.extend(methods(item).map(|method| Route::new(method, path, false)));
    }
    let pages = [("/dashboard", false), ("/docs", true), ("/openapi.json", true)];
    routes.extend(pages.map(|(path, of_docs)| Route::new("GET", path, of_docs)));
    routes
}

fn methods(item: &PathItem) -> impl Iterator<Item = &'static str> {
    [
        ("GET", &item.get),
        ("PUT", &item.put),
        ("POST", &item.post),
        ("PATCH", &item.patch),
        ("DELETE", &item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| operation.is_some().then_some(method))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the nearest route with its method.
    fn route(method: Method, path: &str) -> Option<String> {
        nearest(&method, path, true).map(|route| format!("{} {}", route.method, route.path))
    }

    #[test]
    fn misspelled_path_gets_the_nearest_route() {
        for (path, expected) in [
            ("/v1/mee", "GET /v1/me"),
            ("/v1/me/", "GET /v1/me"),
            ("/v2/me", "GET /v1/me"),
            ("/me", "GET /v1/me"),
            ("//v1/me", "GET /v1/me"),
            ("/api/v1/me", "GET /v1/me"),
            ("/v1/purchase", "GET /v1/purchases"),
            ("/v1/purchase/pur_01h455vb4pex5vsknk084sn02q", "GET /v1/purchases/{id}"),
            ("/v1/account/42/ledger.cvs", "GET /v1/accounts/{account}/ledger.csv"),
            ("/v1/audit_events", "GET /v1/audit-events"),
            ("/ready", "GET /readyz"),
            ("/dashbord", "GET /dashboard"),
            ("/doc", "GET /docs"),
            ("/openapi.jsn", "GET /openapi.json"),
        ] {
            assert_eq!(route(Method::GET, path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn path_with_a_missing_id_gets_the_route_with_the_id() {
        let path = "/v1/accounts/42/keys//revoke";
        let expected = "POST /v1/accounts/{account}/keys/{key_id}/revoke";
        assert_eq!(route(Method::POST, path).as_deref(), Some(expected));
    }

    #[test]
    fn requested_method_decides_among_equally_near_routes() {
        for (method, expected) in [
            (Method::GET, "GET /v1/accounts/{account}"),
            (Method::HEAD, "GET /v1/accounts/{account}"),
            (Method::PUT, "PUT /v1/accounts/{account}"),
            (Method::PATCH, "PATCH /v1/accounts/{account}"),
        ] {
            assert_eq!(route(method, "/v1/account/42").as_deref(), Some(expected));
        }
        let other = route(Method::DELETE, "/v1/purchase").expect("a route with another method");
        assert!(other.ends_with(" /v1/purchases"), "{other}");
    }

    #[test]
    fn unrelated_path_has_no_nearest_route() {
        for path in ["/v1", "/v1/", "/nothing/here", "/v1/orders", "/v1/accounts/42/x/y"] {
            assert_eq!(route(Method::GET, path), None, "{path}");
        }
    }

    #[test]
    fn path_longer_than_256_bytes_is_not_compared() {
        let path = |id: usize| format!("/v1/purchase/{}", "x".repeat(id));
        let longest = MAX_PATH_BYTES - path(0).len();
        let expected = Some("GET /v1/purchases/{id}".to_owned());
        assert_eq!(route(Method::GET, &path(longest)), expected);
        assert_eq!(route(Method::GET, &path(longest + 1)), None);
    }

    #[test]
    fn documentation_routes_are_not_suggested_while_the_documentation_is_off() {
        assert!(nearest(&Method::GET, "/doc", true).is_some());
        assert_eq!(nearest(&Method::GET, "/doc", false), None);
    }
}
