//! The built pages of `docs/book/` work under a strict Content-Security-Policy, and in any
//! directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    files::{assert_none, files_below, is_external, resolve, root},
    html::{Tag, tags},
};

const BOOK: &str = "docs/book";

fn read(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).expect("a file of UTF-8")
}

/// Reads the built pages. Returns the path and the content of each page.
fn pages() -> Vec<(PathBuf, String)> {
    let pages = files_below(Path::new(BOOK), "html").into_iter().map(|path| {
        let text = read(&path);
        (path, text)
    });
    pages.collect()
}

fn fault(path: &Path, line: usize, what: &str) -> String {
    format!("{}:{line}: {what}", path.display())
}

/// Returns one sentence for each part of a page that the Content-Security-Policy forbids.
fn forbidden(path: &Path, html: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for tag in tags(html) {
        let mut add = |what: &str| faults.push(fault(path, tag.line, what));
        match tag.name.as_str() {
            "script" if tag.attribute("src").is_none() => add("an inline script"),
            "script" if !html[tag.end..].starts_with("</script>") => add("a script with content"),
            "style" => add("an inline style"),
            "base" => add("a base for links"),
            _ => {}
        }
        for (name, value) in &tag.attributes {
            if name == "style" {
                add("an inline style");
            } else if name.starts_with("on") {
                add(&format!("a handler `{name}`"));
            }
            let is_script = value.trim_start().to_ascii_lowercase().starts_with("javascript:");
            if is_script || (loads(&tag, name) && is_foreign(value)) {
                add(&format!("`{name}` is `{value}`"));
            }
        }
    }
    faults
}

/// Whether a browser fetches the address in the attribute without a click.
fn loads(tag: &Tag, attribute: &str) -> bool {
    match attribute {
        "src" | "srcset" | "data" | "poster" | "action" | "formaction" => true,
        "href" => tag.name != "a",
        _ => false,
    }
}

fn is_foreign(address: &str) -> bool {
    !address.starts_with("data:") && address.contains("//")
}

/// Returns one sentence for each link to a page, a file or an id that is not in the book.
fn broken_links(
    path: &Path,
    html: &str,
    ids: &BTreeMap<PathBuf, BTreeSet<String>>,
    exists: impl Fn(&Path) -> bool,
) -> Vec<String> {
    let mut faults = Vec::new();
    for tag in tags(html) {
        let address = tag.attribute("href").or_else(|| tag.attribute("src"));
        let Some(address) = address.filter(|address| !is_external(address)) else { continue };
        let (file, id) = address.split_once('#').unwrap_or((address, ""));
        let target = if file.is_empty() { Some(path.to_owned()) } else { resolve(path, file) };
        let leads = target.is_some_and(|target| {
            target.starts_with(BOOK)
                && exists(&target)
                && (id.is_empty() || ids.get(&target).is_some_and(|ids| ids.contains(id)))
        });
        if !leads {
            faults.push(fault(path, tag.line, &format!("`{address}` does not exist")));
        }
    }
    faults
}

fn ids_of(html: &str) -> BTreeSet<String> {
    let ids = tags(html).into_iter().filter_map(|tag| tag.attribute("id").map(str::to_owned));
    ids.collect()
}

#[test]
fn built_pages_contain_no_inline_scripts_no_inline_styles_and_no_external_resources() {
    let pages = pages();
    assert!(!pages.is_empty(), "{BOOK} has no pages: run make docs");
    let faults = pages.iter().flat_map(|(path, html)| forbidden(path, html));
    assert_none(&faults.collect::<Vec<_>>());
}

#[test]
fn scripts_and_styles_of_the_book_use_no_eval_and_load_no_external_resources() {
    let mut faults = Vec::new();
    for (extension, words) in
        [("js", ["eval(", "new Function", "import("]), ("css", ["@import", "http:", "https:"])]
    {
        for path in files_below(Path::new(BOOK), extension) {
            // The search index contains the words of all pages.
            if path.ends_with("searchindex.js") {
                continue;
            }
            for (index, line) in read(&path).lines().enumerate() {
                for word in words.iter().filter(|word| line.contains(**word)) {
                    faults.push(fault(&path, index + 1, &format!("contains `{word}`")));
                }
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn links_of_built_pages_have_existing_targets_in_the_book() {
    let pages = pages();
    let ids: BTreeMap<PathBuf, BTreeSet<String>> =
        pages.iter().map(|(path, html)| (path.clone(), ids_of(html))).collect();
    let exists = |path: &Path| root().join(path).is_file();
    let faults = pages.iter().flat_map(|(path, html)| broken_links(path, html, &ids, exists));
    assert_none(&faults.collect::<Vec<_>>());
}

#[test]
fn built_page_has_one_main_heading_one_language_and_one_current_entry_in_the_table_of_contents() {
    let mut faults = Vec::new();
    for (path, html) in pages() {
        let tags = tags(&html);
        let mut expect_one = |what: &str, is_it: &dyn Fn(&Tag) -> bool| {
            let found = tags.iter().filter(|tag| is_it(tag)).count();
            if found != 1 {
                faults.push(fault(&path, 1, &format!("{found} instead of one {what}")));
            }
        };
        expect_one("main heading", &|tag| tag.name == "h1");
        expect_one("language", &|tag| tag.name == "html" && tag.attribute("lang").is_some());
        expect_one("current page", &|tag| tag.attribute("aria-current") == Some("page"));
    }
    assert_none(&faults);
}

#[test]
fn page_check_reports_inline_scripts_and_external_resources() {
    let html = "<!doctype html><!-- <script>x</script> --><a href='https://a.example'>a</a>\n\
        <script src=\"../theme/page.js\" defer></script><img src=\"data:image/png,x\" alt>\n\
        <script>x</script>\n\
        <script src=a.js>x</script>\n\
        <p style='color: red'>\n\
        <style>p {}</style>\n\
        <button onclick=\"x()\">\n\
        <img src=\"https://a.example/b.png\">\n\
        <link rel=stylesheet href=//a.example/b.css>\n\
        <a href=\"javascript:x()\">\n\
        <base href=\"/\">\n";
    let faults = forbidden(Path::new("a.html"), html);
    let lines = faults.iter().map(|fault| fault.split(": ").next().unwrap_or_default());
    let expected: Vec<String> = (3..=11).map(|line| format!("a.html:{line}")).collect();
    assert_eq!(lines.collect::<Vec<_>>(), expected);
}

#[test]
fn page_check_reports_broken_links() {
    let page = Path::new("docs/book/how-to/a.html");
    let html = "<a href=\"#here\" id=\"here\"><a href=\"../b.html#there\"><a href=\"/docs\">\n\
        <a href=\"#gone\">\n\
        <a href=\"b.html\">\n\
        <a href=\"../../openapi.json\">\n";
    let other: BTreeSet<String> = ["there".to_owned()].into();
    let ids: BTreeMap<_, _> =
        [(page.to_owned(), ids_of(html)), (PathBuf::from("docs/book/b.html"), other)].into();
    let exists = |path: &Path| path == page || path == Path::new("docs/book/b.html");
    let faults = broken_links(page, html, &ids, exists);
    let expected = [
        "docs/book/how-to/a.html:2: `#gone` does not exist",
        "docs/book/how-to/a.html:3: `b.html` does not exist",
        "docs/book/how-to/a.html:4: `../../openapi.json` does not exist",
    ];
    assert_eq!(faults, expected);
}
