//! Rules for the book in `docs/` and the other Markdown files. Links, commands, settings and paths
//! refer to something that exists. The table of contents is complete, and every problem code has a
//! page. The built pages contain no inline scripts and no inline styles.
//!
//! Each rule is a function of documents, so that a test can show that the rule fails for a small
//! document in memory. Each fault begins with the file and the line. No test needs mdBook.

mod built;
mod commands;
mod error_examples;
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
