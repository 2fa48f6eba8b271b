//! The search form above a list, and the links between its pages.

use askama::{Template, filters::HtmlSafe};

use crate::web::fields::Choice;

/// A form that narrows a list to a text, and sorts it.
#[derive(Template)]
#[template(path = "dashboard/parts/search.html")]
pub struct SearchForm {
    pub action: &'static str,
    /// The label of the search field, which says what is searched.
    pub label: &'static str,
    pub text: String,
    /// The orders that the list offers. Empty: the list has one order.
    pub sorts: Vec<Choice>,
    /// Parameters that are sent unchanged.
    pub kept: Vec<(&'static str, String)>,
    /// A search or another order is applied.
    pub active: bool,
    /// The whole list in its usual order.
    pub clear_url: String,
}

impl HtmlSafe for SearchForm {}
