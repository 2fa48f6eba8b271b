//! The search form above a list, and the links between its pages.

use askama::{Template, filters::HtmlSafe};

use crate::web::fields::Choice;

/// A form that searches and sorts a list.
#[derive(Template)]
#[template(path = "dashboard/parts/search.html")]
pub struct SearchForm {
    pub action: &'static str,
    /// The label of the search field.
    pub label: &'static str,
    pub text: String,
    /// Maximum length of the search text, in characters.
    pub search_length: usize,
    /// The orders of the list. Empty if the list has only one order.
    pub sorts: Vec<Choice>,
    /// The names and values of the URL parameters that a search keeps.
    pub kept: Vec<(&'static str, String)>,
    /// Whether a search or another order is applied.
    pub active: bool,
    /// The URL of the whole list in its default order.
    pub clear_url: String,
}

impl HtmlSafe for SearchForm {}
