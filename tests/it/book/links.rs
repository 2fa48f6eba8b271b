//! Checks that every link to a file of the repository points to an existing file and heading.

use std::{collections::BTreeSet, ffi::OsStr, path::Path};

use super::{
    files::{BOOK_SOURCES, assert_none, is_external, read, readme_and_book, resolve, root},
    markdown::Document,
};

/// The target of a path in the repository.
enum Target {
    Missing,
    /// A Markdown file with these ids.
    Document(BTreeSet<String>),
    Other,
}

fn look_up(path: &Path) -> Target {
    if !root().join(path).exists() {
        Target::Missing
    } else if path.extension().is_some_and(|extension| extension == "md") {
        Target::Document(read(path).ids())
    } else {
        Target::Other
    }
}

/// Returns one sentence for each broken link of the document.
fn broken_links(document: &Document, look_up: impl Fn(&Path) -> Target) -> Vec<String> {
    let links = document.links();
    let internal = links.iter().filter(|link| !is_external(&link.text));
    let faults = internal.filter_map(|link| {
        let what = broken(document, &link.text, &look_up)?;
        Some(document.fault(link.line, &format!("the link `{}` {what}", link.text)))
    });
    faults.collect()
}

fn broken(
    document: &Document,
    link: &str,
    look_up: &impl Fn(&Path) -> Target,
) -> Option<&'static str> {
    let (file, fragment) = match link.split_once('#') {
        Some((file, fragment)) => (file, Some(fragment)),
        None => (link, None),
    };
    let path = match file {
        "" if fragment.is_none() => return Some("has no target"),
        "" => document.path.clone(),
        file => match resolve(&document.path, file) {
            Some(path) => path,
            None => return Some("points outside the repository"),
        },
    };
    if document.path.starts_with(BOOK_SOURCES) {
        let is_in_book = path.starts_with(BOOK_SOURCES)
            && matches!(path.extension().and_then(OsStr::to_str), Some("md" | "png" | "svg"));
        if !is_in_book {
            return Some("points outside the book, which contains only pages and images");
        }
    }
    match (look_up(&path), fragment) {
        (Target::Missing, _) => Some("points to a file that does not exist"),
        (Target::Document(ids), Some(id)) if !ids.contains(id) => {
            Some("points to a heading that does not exist")
        }
        (Target::Other, Some(_)) => Some("names a heading of a file that contains none"),
        _ => None,
    }
}

#[test]
fn every_link_points_to_an_existing_file_and_heading() {
    let others = ["CHANGELOG.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(read);
    let documents = readme_and_book().into_iter().chain(others);
    let faults = documents.flat_map(|document| broken_links(&document, look_up));
    assert_none(&faults.collect::<Vec<_>>());
}

#[test]
fn check_reports_a_broken_link_with_its_line() {
    let look_up = |path: &Path| match path.to_str() {
        Some("docs/src/a.md") => Target::Document(["there".to_owned()].into()),
        Some("docs/src/how-to/b.png" | "src/lib.rs") => Target::Other,
        _ => Target::Missing,
    };
    let text = "[a](../a.md) [a](../a.md#there) [b](b.png) [c](https://c.example/#d) [d](/docs)\n\
        [1](../a.md#gone)\n\
        [2](a.md)\n\
        [3](b.png#there)\n\
        [4](../../../src/lib.rs)\n\
        [5](../../../../e.md)\n\
        [6]()\n";
    let document = Document::parse("docs/src/how-to/page.md", text);
    let faults = broken_links(&document, look_up);
    let lines = faults.iter().map(|fault| fault.split(": ").next().unwrap_or_default());
    let expected: Vec<String> =
        (2..=7).map(|line| format!("docs/src/how-to/page.md:{line}")).collect();
    assert_eq!(lines.collect::<Vec<_>>(), expected);
}
