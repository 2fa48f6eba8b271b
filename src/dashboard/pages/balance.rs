//! The page that shows the balance and the statement.

use askama::Template;

use super::frame::Frame;
use crate::{
    domain::ledger_entry::EntryKind,
    web::{
        fields::{Choice, Field},
        format::TimeView,
        links::Link,
    },
};

/// `GET /dashboard/balance`
#[derive(Template)]
#[template(path = "dashboard/balance.html")]
pub struct BalancePage {
    pub frame: Frame,
    /// The balance, including the held amount. Every amount on the page includes the currency.
    pub balance: String,
    pub held: String,
    pub available: String,
    /// Whether the account has open holds. If so, the page links to them.
    pub has_holds: bool,
    pub filters: StatementFilters,
    pub entries: Vec<EntryRow>,
    /// Whether the oldest entry is first.
    pub oldest_first: bool,
    /// The URL of the page with the next entries. `None` on the last page.
    pub next_url: Option<String>,
    /// The URL of the CSV file with the entries that the filters select.
    pub csv_url: String,
}

/// The filters of the statement.
pub struct StatementFilters {
    /// The first day, as `YYYY-MM-DD`, or empty.
    pub from: Field,
    /// The last day, inclusive, as `YYYY-MM-DD`, or empty.
    pub to: Field,
    /// The value of the first choice is empty and selects all keys. The other values are key ids.
    pub key: Vec<Choice>,
    pub key_error: Option<String>,
    /// The choices that [`kind_choices`] returns.
    pub kind: Vec<Choice>,
    pub kind_error: Option<String>,
    /// The search text for references and ids.
    pub search: String,
    /// Maximum length of the search text, in characters.
    pub search_length: usize,
    pub order: Vec<Choice>,
    /// Whether a filter, a search text or an order is set. If so, the page offers to clear them.
    pub active: bool,
}

/// Returns the choices of the field `kind`: all kinds, and each kind alone.
pub fn kind_choices(chosen: &str) -> Vec<Choice> {
    let choice = |kind: EntryKind| {
        let label = match kind {
            EntryKind::Purchase => "Purchases",
            EntryKind::Credit => "Top-ups",
            EntryKind::Refund => "Refunds",
        };
        Choice::new(kind.as_str(), label, chosen)
    };
    let everything = Choice::new("", "All kinds", chosen);
    std::iter::once(everything).chain(EntryKind::ALL.iter().copied().map(choice)).collect()
}

/// Returns the label of an entry of this kind.
pub fn kind_word(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Purchase => "Purchase",
        EntryKind::Credit => "Top-up",
        EntryKind::Refund => "Refund",
    }
}

pub struct EntryRow {
    pub at: TimeView,
    /// The label that [`kind_word`] returns.
    pub kind: &'static str,
    /// The amount with its sign, such as `+5 TRX` or `−1.5 TRX`, from
    /// [`crate::web::format::signed_amount`].
    pub amount: String,
    /// Whether the entry increases the balance.
    pub incoming: bool,
    pub balance_after: String,
    /// The key with which the purchase was made. `None` if the entry belongs to no key.
    pub key: Option<Link>,
    pub reference: Option<String>,
    /// The id of the purchase, the credit or the refund.
    pub cause_id: String,
}
