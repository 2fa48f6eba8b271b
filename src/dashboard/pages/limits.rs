//! The rate limits of a key: the table on the key's page, and the form that lowers them.

use askama::{Template, filters::HtmlSafe};

use super::{frame::Frame, key_views::KeyHead};
use crate::web::{fields::Field, format::TimeView};

/// The rate limits that apply to the calls of a key.
#[derive(Template)]
#[template(path = "dashboard/parts/limit_table.html")]
pub struct LimitTable {
    pub rows: Vec<LimitRow>,
}

impl HtmlSafe for LimitTable {}

/// A rate limit of a key or of its account.
pub struct LimitRow {
    /// The name in the responses of the API, such as `account:default`.
    pub label: String,
    pub name: String,
    /// Whether the limit counts the calls of all keys of the account.
    pub of_account: bool,
    /// The number of calls and the window, such as "1,000 calls per minute".
    pub rate: String,
    /// The scope whose calls the limit counts. `None` if it counts all calls.
    pub scope: Option<String>,
    /// The number of calls that the window still allows.
    pub remaining: String,
    /// The end of the window. `None` if no window has begun.
    pub resets: Option<TimeView>,
}

/// `/dashboard/keys/{key_id}/limits`
#[derive(Template)]
#[template(path = "dashboard/key_limits.html")]
pub struct KeyLimitsPage {
    pub frame: Frame,
    pub key: KeyHead,
    /// The digest of the numbers that the form showed.
    pub seen: String,
    /// A field for each limit of the key. Empty if the key has no limit.
    pub fields: Vec<LimitField>,
}

/// The field for the owner's number of calls.
pub struct LimitField {
    /// The name and the id of the field.
    pub id: String,
    /// The name of the limit.
    pub name: String,
    /// The platform's number of calls, such as "1,000 calls".
    pub calls: String,
    /// The window, such as "per minute".
    pub window: String,
    /// The scope whose calls the limit counts. `None` if it counts all calls.
    pub scope: Option<String>,
    pub input: Field,
}
