//! The page of the balance and the statement.

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
    /// The balance with its currency, which all amounts of the page include.
    pub balance: String,
    pub held: String,
    pub available: String,
    /// Whether the account has open holds. If so, the page links to them.
    pub has_holds: bool,
    pub filters: StatementFilters,
    pub entries: Vec<EntryRow>,
    /// Whether the oldest entry is first.
    pub oldest_first: bool,
    /// The URL of the next entries.
    pub next_url: Option<String>,
    /// The URL of the CSV file.
    pub csv_url: String,
}

/// The filters of the statement. The name of a field is also its id.
pub struct StatementFilters {
    /// The first day, as `YYYY-MM-DD`, or empty.
    pub from: Field,
    /// The last day, inclusive, as `YYYY-MM-DD`, or empty.
    pub to: Field,
    /// The first choice is empty, for all keys. The others are ids of keys.
    pub key: Vec<Choice>,
    pub key_error: Option<String>,
    /// The choices that [`kind_choices`] returns.
    pub kind: Vec<Choice>,
    pub kind_error: Option<String>,
    /// The search text for references and ids.
    pub search: String,
    /// Maximum length of the search text.
    pub search_length: usize,
    pub order: Vec<Choice>,
    /// Whether a filter is set.
    pub active: bool,
}

/// Returns the choices of the field `kind`.
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

/// Returns the label of a kind of entry.
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
    /// The key that made the purchase.
    pub key: Option<Link>,
    pub reference: Option<String>,
    /// The id of the purchase, the credit or the refund.
    pub cause_id: String,
}
