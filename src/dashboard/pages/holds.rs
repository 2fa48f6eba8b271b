//! The page with the open holds of the account, and the page that confirms a void.

use askama::{Template, filters::HtmlSafe};

use super::{frame::Frame, search::SearchForm};
use crate::web::{format::TimeView, links::Link};

/// `GET /dashboard/holds`
#[derive(Template)]
#[template(path = "dashboard/holds.html")]
pub struct HoldsPage {
    pub frame: Frame,
    /// The search form. `None` if the list is short.
    pub search: Option<SearchForm>,
    pub table: HoldTable,
}

/// Open holds, each with a link to the page that confirms a void.
#[derive(Template)]
#[template(path = "dashboard/parts/hold_table.html")]
pub struct HoldTable {
    pub rows: Vec<HoldRow>,
    /// Whether one key placed all holds. If so, the table omits the column for the key.
    pub of_one_key: bool,
    /// The text that replaces the table if there are no holds.
    pub empty: String,
    pub previous_url: Option<String>,
    pub next_url: Option<String>,
}

impl HtmlSafe for HoldTable {}

/// `GET /dashboard/holds/{hold_id}/void`: asks for confirmation.
#[derive(Template)]
#[template(path = "dashboard/hold_void.html")]
pub struct VoidPage {
    pub frame: Frame,
    pub hold: HoldRow,
}

pub struct HoldRow {
    /// The id of the hold: `hld_…`
    pub id: String,
    pub placed: TimeView,
    pub expires: TimeView,
    /// The amount with its currency.
    pub amount: String,
    pub reference: Option<String>,
    /// The key that placed the hold.
    pub key: Link,
}
