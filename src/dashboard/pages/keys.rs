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
    /// How many keys count toward the cap.
    pub live_count: usize,
    /// The cap.
    pub max_keys: usize,
    /// Newest first.
    pub keys: Vec<KeyRow>,
    /// Revoked and expired keys are in the list too.
    pub shows_all: bool,
    /// `None`: the list is short.
    pub search: Option<SearchForm>,
    /// The account has keys, but none matches the search.
    pub nothing_found: bool,
    pub previous_url: Option<String>,
    pub next_url: Option<String>,
    /// The address that a first request can be sent to: `https://keys.example.com/v1/me`.
    pub example_url: String,
    /// The environment variable for the key, such as `TRONAGG_API_KEY`.
    pub env_name: String,
}

impl KeysPage {
    /// No key can be made before another is revoked.
    pub fn full(&self) -> bool {
        self.live_count >= self.max_keys
    }
}

/// One key of the list.
pub struct KeyRow {
    pub head: KeyHead,
    pub access: Access,
    pub state: KeyState,
    /// The day.
    pub created: TimeView,
    /// `None`: never.
    pub last_used: Option<TimeView>,
    /// The moment: a key whose last day is 31 December ends at midnight, which a day alone would
    /// call 1 January. With relative words in the last week; `None`: never.
    pub expires: Option<TimeView>,
    /// It lives, and dies within a week: a warning.
    pub expires_soon: bool,
    /// `None`: what the keys did cannot be told now.
    pub figures: Option<KeyFigures>,
    /// It can be revoked.
    pub live: bool,
}

/// What a key did in the last 24 hours: the present one, and the 23 before it.
pub struct KeyFigures {
    /// Such as `1,204`.
    pub calls: String,
    /// Such as `3`; `None`: no call was refused.
    pub refused: Option<String>,
    /// With the currency: `1.5 TRX`. `None`: the session may not see purchases.
    pub spent: Option<String>,
    /// There were more purchases than were counted: "at least" stands before the amount.
    pub truncated: bool,
    /// Calls by hour.
    pub activity: Sparkline,
}

/// `GET /dashboard/keys/new`, where no key can be made: what to do instead.
#[derive(Template)]
#[template(path = "dashboard/key_limit.html")]
pub struct KeyLimitPage {
    pub frame: Frame,
    pub live_count: usize,
    pub max_keys: usize,
    /// The keys that count toward the cap; the one that was not used for longest comes first.
    pub keys: Vec<LiveKey>,
}

/// A key that takes a place.
pub struct LiveKey {
    pub head: KeyHead,
    /// `None`: never.
    pub last_used: Option<TimeView>,
}
