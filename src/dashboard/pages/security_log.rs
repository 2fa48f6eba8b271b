//! The page that shows the security log, and the table of audit events.

use askama::{Template, filters::HtmlSafe};

use super::{frame::Frame, search::SearchForm};
use crate::web::{format::TimeView, links::Link};

/// `GET /dashboard/log`
#[derive(Template)]
#[template(path = "dashboard/security_log.html")]
pub struct SecurityLogPage {
    pub frame: Frame,
    pub search: SearchForm,
    pub events: EventTable,
}

/// Audit events, newest first.
#[derive(Template)]
#[template(path = "dashboard/parts/event_table.html")]
pub struct EventTable {
    pub rows: Vec<EventRow>,
    /// Whether all events concern one key. If so, the table omits the column for the key.
    pub of_one_key: bool,
    /// The text that replaces the table if there are no events.
    pub empty: String,
    /// The URL of the page with older events. `None` on the last page.
    pub next_url: Option<String>,
}

impl HtmlSafe for EventTable {}

pub struct EventRow {
    pub at: TimeView,
    /// The label of the event, such as "Key revoked".
    pub what: String,
    /// Lines with details, such as "Reason: compromised".
    pub details: Vec<String>,
    /// The key that the event concerns. The label is its name or its shortened id.
    pub key: Option<Link>,
    /// "Account owner", or the platform's name.
    pub who: String,
    /// Whether the account's owner is the actor.
    pub own: bool,
    /// The address of the client. `None` if it is unknown or hidden.
    pub address: Option<String>,
}
