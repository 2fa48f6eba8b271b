//! The page with the purchases of a key.

use askama::{Template, filters::HtmlSafe};

use super::{frame::Frame, key_views::KeyHead};
use crate::web::{fields::Field, format::TimeView};

/// `GET /dashboard/keys/{key_id}/purchases`
#[derive(Template)]
#[template(path = "dashboard/purchases.html")]
pub struct PurchasesPage {
    pub frame: Frame,
    pub key: KeyHead,
    /// The first day of the listed purchases, as `YYYY-MM-DD`, or empty for all purchases.
    pub since: Field,
    /// The search text for references, descriptions and ids.
    pub search: String,
    /// Maximum length of the search text, in characters.
    pub search_length: usize,
    pub table: PurchaseTable,
    /// The URL of the CSV file with all purchases since that day.
    pub csv_url: String,
}

/// Purchases, newest first.
#[derive(Template)]
#[template(path = "dashboard/parts/purchase_table.html")]
pub struct PurchaseTable {
    pub rows: Vec<PurchaseRow>,
    /// The text that replaces the table if there are no purchases.
    pub empty: String,
    /// The URL of the page with older purchases. `None` on the last page.
    pub next_url: Option<String>,
}

impl HtmlSafe for PurchaseTable {}

pub struct PurchaseRow {
    /// The id of the purchase: `pur_…`
    pub id: String,
    pub at: TimeView,
    /// The amount with its currency.
    pub amount: String,
    /// The refunded amount with the currency. `None` if there is no refund.
    pub refunded: Option<String>,
    pub reference: Option<String>,
    pub description: Option<String>,
    /// The account's balance after the purchase, with its currency.
    pub balance_after: String,
}
