//! The page of the security log, and the table of audit events.

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
    /// The events are of one key, which is not named in each.
    pub of_one_key: bool,
    /// What is said where there are none.
    pub empty: String,
    /// Older ones.
    pub next_url: Option<String>,
}

impl HtmlSafe for EventTable {}

pub struct EventRow {
    pub at: TimeView,
    /// What was done, such as "Key revoked".
    pub what: String,
    /// More of it, a line each, such as "Reason: compromised".
    pub details: Vec<String>,
    /// The key that it was done to; its name or hint is the label.
    pub key: Option<Link>,
    /// "Account owner", or the platform's name.
    pub who: String,
    /// The account's owner did it: the address is shown, where it is known.
    pub own: bool,
    /// The address of the client; `None`: it is not known, or not shown.
    pub address: Option<String>,
}
