//! The page with the list of an account's keys.

use askama::Template;

use super::{
    frame::Frame,
    key_views::{Access, KeyHead, KeyState},
    search::SearchForm,
};
use crate::web::{chart::Sparkline, format::TimeView};

/// `GET /dashboard/keys`
#[derive(Template)]
#[template(path = "dashboard/keys.html")]
pub struct KeysPage {
    pub frame: Frame,
    /// The number of keys that count toward the cap.
    pub live_count: usize,
    /// The maximum number of keys that count toward the cap.
    pub max_keys: usize,
    /// Whether the plan lets the owner create keys.
    pub may_create: bool,
    /// The keys, newest first.
    pub keys: Vec<KeyRow>,
    /// Whether the list includes revoked and expired keys.
    pub shows_all: bool,
    /// The search form. `None` if the list is short.
    pub search: Option<SearchForm>,
    /// Whether the account has keys, but none matches the search.
    pub nothing_found: bool,
    /// Whether the list omits older keys, because the account has more than 2,000 keys.
    pub shows_newest: bool,
    /// Whether the list contains rotated keys, which do not count toward the cap.
    pub rotated_out: bool,
    pub previous_url: Option<String>,
    pub next_url: Option<String>,
    /// The URL of the example request: `https://keys.example.com/v1/me`.
    pub example_url: String,
    /// The environment variable for the key, such as `TRONAGG_API_KEY`.
    pub env_name: String,
}

impl KeysPage {
    /// Whether the account has reached the cap.
    pub fn full(&self) -> bool {
        self.live_count >= self.max_keys
    }
}

/// A row of the list.
pub struct KeyRow {
    pub head: KeyHead,
    pub access: Access,
    pub state: KeyState,
    /// The day on which the key was created.
    pub created: TimeView,
    /// The time of the last use. `None` if the key was never used.
    pub last_used: Option<TimeView>,
    /// The moment of the expiry. A date alone would be misleading, because a key whose last day is
    /// 31 December expires at the beginning of 1 January. In the last week before the expiry, the
    /// relative time is added. `None` if the key never expires.
    pub expires: Option<TimeView>,
    /// Whether the key is live and expires within a week.
    pub expires_soon: bool,
    /// The activity of the key. `None` if the activity of the keys is unavailable.
    pub figures: Option<KeyFigures>,
    /// Whether the key can be revoked.
    pub live: bool,
}

/// The activity of a key in the last 24 hours: the current hour, and the 23 hours before it.
pub struct KeyFigures {
    /// The number of calls, such as `1,204 calls`.
    pub calls: String,
    /// The number of refused calls, such as `3`. `None` if no call was refused.
    pub refused: Option<String>,
    /// The spent amount with its currency, such as `1.5 TRX`. `None` if the session may not see
    /// purchases.
    pub spent: Option<String>,
    /// Whether the amount omits some purchases, so that the page shows "at least" before it.
    pub truncated: bool,
    /// The chart of calls by hour.
    pub activity: Sparkline,
}

/// `GET /dashboard/keys/new`, if the account has reached the cap.
#[derive(Template)]
#[template(path = "dashboard/key_limit.html")]
pub struct KeyLimitPage {
    pub frame: Frame,
    pub live_count: usize,
    pub max_keys: usize,
    /// The keys that count toward the cap, least recently used first.
    pub keys: Vec<LiveKey>,
}

/// A key that counts toward the cap.
pub struct LiveKey {
    pub head: KeyHead,
    /// The time of the last use. `None` if the key was never used.
    pub last_used: Option<TimeView>,
}
