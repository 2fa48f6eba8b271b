//! Checks that every path of the API in README and the book is in the OpenAPI document.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    files::{assert_none, readme_and_book},
    markdown::{Document, line_of},
};

const PREFIX: &str = "/v1/";
const METHODS: [&str; 5] = ["GET", "PUT", "POST", "PATCH", "DELETE"];

/// Lists the paths of the API with their methods.
type Paths = BTreeMap<String, BTreeSet<String>>;

fn paths_of_the_api() -> Paths {
    let document = serde_json::to_value(tollgate::http::openapi_document()).expect("JSON");
    let mut paths = Paths::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let methods = operations.as_object().expect("operations").keys();
        paths.insert(path.clone(), methods.map(|method| method.to_uppercase()).collect());
    }
    paths
}

/// Returns one sentence for each path that does not exist, in inline code or in a block of
/// commands.
fn unknown_paths(document: &Document, paths: &Paths) -> Vec<String> {
    let mut faults = Vec::new();
    for code in document.inline_code() {
        let what = code.text.match_indices(PREFIX).filter_map(|(at, _)| {
            let method = code.text[..at].split_whitespace().next_back();
            fault_in_path(method, &code.text[at..], paths)
        });
        faults.extend(what.map(|what| document.fault(code.line, &what)));
    }
    for block in document.blocks.iter().filter(|block| block.language == "sh") {
        for (at, _) in block.text.match_indices(PREFIX) {
            if let Some(what) = fault_in_path(None, &block.text[at..], paths) {
                let line = block.line + line_of(&block.text, at) - 1;
                faults.push(document.fault(line, &what));
            }
        }
    }
    faults
}

/// Finds the fault in the path at the start of `text`. `method` is the word before the path.
fn fault_in_path(method: Option<&str>, text: &str, paths: &Paths) -> Option<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "/_-.{}$…<>*".contains(c);
    let shown = &text[..text.find(|c: char| !is_part(c)).unwrap_or(text.len())];
    let shown = shown.trim_end_matches('.');
    if shown == PREFIX {
        return None;
    }
    let mut matching = paths.iter().filter(|(path, _)| is_like(shown, path)).peekable();
    if matching.peek().is_none() {
        return Some(format!("the API has no path `{shown}`"));
    }
    let method = method.filter(|method| METHODS.contains(method))?;
    let has_method = matching.any(|(_, methods)| methods.contains(method));
    (!has_method).then(|| format!("the API has no `{method} {shown}`"))
}

/// Whether the path in a document matches a path of the API. A parameter matches any text. If the
/// last part is `…`, `*` or a shell variable, it matches the rest of the path.
fn is_like(shown: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    let mut shown = shown.split('/').peekable();
    while let Some(part) = shown.next() {
        if shown.peek().is_none() && (matches!(part, "…" | "*" | "...") || part.starts_with('$'))
        {
            return true;
        }
        let is_equal = parts.next().is_some_and(|of_api| of_api == part || of_api.starts_with('{'));
        if !is_equal {
            return false;
        }
    }
    parts.next().is_none()
}

#[test]
fn every_api_path_in_readme_and_book_exists() {
    let paths = paths_of_the_api();
    let documents = readme_and_book().into_iter();
    let faults = documents.flat_map(|document| unknown_paths(&document, &paths));
    assert_none(&faults.collect::<Vec<_>>());
}

#[test]
fn check_reports_unknown_paths_and_methods() {
    let methods = |methods: &[&str]| -> BTreeSet<String> {
        methods.iter().map(|method| (*method).to_owned()).collect()
    };
    let paths = Paths::from([
        ("/v1/me".to_owned(), methods(&["GET"])),
        ("/v1/accounts/{account}/keys".to_owned(), methods(&["GET", "POST"])),
    ]);
    let text = "`/v1/` `/v1/…` `GET /v1/me` `POST /v1/accounts/{id}/keys?a=/b` `/v1/accounts/…`\n\
        `/v1/you` `POST /v1/me` `/v1/accounts/{id}`\n\
        \n\
        ```sh\n\
        curl \"$URL/v1/accounts/$ACCOUNT/keys\" $URL/v1/me?x=1\n\
        curl $URL/v1/accounts/$ACCOUNT/kyes\n\
        ```\n";
    let expected = [
        "a.md:2: the API has no path `/v1/you`",
        "a.md:2: the API has no `POST /v1/me`",
        "a.md:2: the API has no path `/v1/accounts/{id}`",
        "a.md:6: the API has no path `/v1/accounts/$ACCOUNT/kyes`",
    ];
    assert_eq!(unknown_paths(&Document::parse("a.md", text), &paths), expected);
}
