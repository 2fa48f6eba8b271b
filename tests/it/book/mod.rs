//! Rules for the book of `docs/` and the other Markdown files: links, the table of contents, one
//! page for each problem code, and commands, settings and paths that exist. The built pages need no
//! inline script and no inline style.
//!
//! Each rule is a function of documents, so that a test can show that it fails for a small document
//! in memory. A fault begins with the file and the line. No test needs mdBook.

mod built;
mod commands;
mod errors;
mod files;
mod generated;
mod html;
mod links;
mod markdown;
mod paths;
mod served;
mod summary;
mod variables;
