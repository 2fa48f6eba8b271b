//! Checks `SUMMARY.md`, which is the book's table of contents.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use tollgate::auth::ProblemCode;

use super::{
    files::{BOOK_SOURCES, assert_none, files_below, read, resolve},
    markdown::Document,
};

/// Returns one sentence for each page that the table of contents does not list, for each entry
/// without a page, and for each page with two entries.
fn missing_or_unknown_pages(summary: &Document, pages: &BTreeSet<PathBuf>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut listed = BTreeSet::new();
    for link in summary.links() {
        let path = resolve(&summary.path, &link.text).unwrap_or_default();
        if !pages.contains(&path) {
            faults.push(summary.fault(link.line, &format!("`{}` is not a page", link.text)));
        } else if !listed.insert(path) {
            faults.push(summary.fault(link.line, &format!("`{}` is listed twice", link.text)));
        }
    }
    for page in pages.difference(&listed) {
        faults.push(format!("{}:1: SUMMARY.md does not list the page", page.display()));
    }
    faults
}

fn summary_path() -> PathBuf {
    Path::new(BOOK_SOURCES).join("SUMMARY.md")
}

#[test]
fn table_of_contents_lists_exactly_the_pages_that_exist() {
    let mut pages: BTreeSet<PathBuf> =
        files_below(Path::new(BOOK_SOURCES), "md").into_iter().collect();
    pages.remove(&summary_path());
    assert_none(&missing_or_unknown_pages(&read(summary_path()), &pages));
}

#[test]
fn table_of_contents_lists_problem_codes_in_their_order() {
    let summary = read(summary_path());
    let links = summary.links();
    let listed = links.iter().filter_map(|link| {
        link.text.strip_prefix("reference/errors/").and_then(|file| file.strip_suffix(".md"))
    });
    let codes = ProblemCode::ALL.iter().map(|code| code.as_str());
    assert_eq!(
        listed.collect::<Vec<_>>(),
        codes.collect::<Vec<_>>(),
        "{} does not list the codes in the order of ProblemCode::ALL",
        summary.path.display()
    );
}

#[test]
fn check_reports_missing_unknown_and_repeated_pages() {
    let text = "- [A](a.md)\n- [B](b.md)\n- [A](a.md)\n";
    let summary = Document::parse("docs/src/SUMMARY.md", text);
    let pages: BTreeSet<PathBuf> = ["docs/src/a.md", "docs/src/c.md"].map(PathBuf::from).into();
    let faults = [
        "docs/src/SUMMARY.md:2: `b.md` is not a page",
        "docs/src/SUMMARY.md:3: `a.md` is listed twice",
        "docs/src/c.md:1: SUMMARY.md does not list the page",
    ];
    assert_eq!(missing_or_unknown_pages(&summary, &pages), faults);
}
