//! Finds and reads the documents that the rules check.

use std::path::{Path, PathBuf};

use super::markdown::Document;

pub const BOOK_SOURCES: &str = "docs/src";

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: impl AsRef<Path>) -> Document {
    let path = path.as_ref();
    let text = std::fs::read_to_string(root().join(path));
    Document::parse(path, &text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// Reads README and all pages of the book.
pub fn readme_and_book() -> Vec<Document> {
    let pages = files_below(Path::new(BOOK_SOURCES), "md");
    [PathBuf::from("README.md")].into_iter().chain(pages).map(read).collect()
}

/// Lists all files with this extension in a folder and its subfolders. The paths are sorted, and
/// relative to the root of the repository.
pub fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(root().join(folder));
    for entry in entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let entry = entry.expect("an entry of a folder");
        let path = folder.join(entry.file_name());
        if entry.path().is_dir() {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|of_file| of_file == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Resolves a relative link in the file `from` to a path. Returns `None` if the path is outside the
/// repository.
pub fn resolve(from: &Path, link: &str) -> Option<PathBuf> {
    let mut path = from.parent()?.to_owned();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." if path.pop() => {}
            ".." => return None,
            name => path.push(name),
        }
    }
    Some(path)
}

/// Whether a link points to another site, or to a path of the server.
pub fn is_external(link: &str) -> bool {
    link.contains("://") || link.starts_with("mailto:") || link.starts_with('/')
}

#[track_caller]
pub fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
