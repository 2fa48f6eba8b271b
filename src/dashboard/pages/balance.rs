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
    /// With the currency, as all amounts here.
    pub balance: String,
    pub held: String,
    pub available: String,
    /// Something is held: the page leads to the open holds.
    pub has_holds: bool,
    pub filters: StatementFilters,
    pub entries: Vec<EntryRow>,
    /// The oldest entry is first; otherwise the newest.
    pub oldest_first: bool,
    /// The entries that follow.
    pub next_url: Option<String>,
    /// The same entries as CSV.
    pub csv_url: String,
}

/// What the statement is narrowed to. The ids of the fields are their names.
pub struct StatementFilters {
    /// `YYYY-MM-DD`, or empty.
    pub from: Field,
    /// `YYYY-MM-DD`, that day included, or empty.
    pub to: Field,
    /// The first is `""`, "All keys"; then key ids with name and hint.
    pub key: Vec<Choice>,
    pub key_error: Option<String>,
    /// From [`kind_choices`].
    pub kind: Vec<Choice>,
    pub kind_error: Option<String>,
    /// The text that is searched for in references and ids.
    pub search: String,
    /// Maximum length of that text.
    pub search_length: usize,
    pub order: Vec<Choice>,
    /// Some filter is set.
    pub active: bool,
}

/// The choices of the field `kind`.
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

/// The word for a kind of entry.
pub fn kind_word(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Purchase => "Purchase",
        EntryKind::Credit => "Top-up",
        EntryKind::Refund => "Refund",
    }
}

pub struct EntryRow {
    pub at: TimeView,
    /// From [`kind_word`].
    pub kind: &'static str,
    /// Signed: `+5 TRX`, `−1.5 TRX`; [`crate::web::format::signed_amount`].
    pub amount: String,
    /// More in the account than before.
    pub incoming: bool,
    pub balance_after: String,
    /// The key that bought.
    pub key: Option<Link>,
    pub reference: Option<String>,
    /// The id of the purchase, the credit or the refund.
    pub cause_id: String,
}
