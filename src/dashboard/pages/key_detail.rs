//! The page of a key.

use askama::Template;

use super::{
    frame::Frame,
    holds::HoldTable,
    key_views::{Access, KeyHead, KeyState},
    purchases::PurchaseTable,
    security_log::EventTable,
};
use crate::web::{chart::Chart, format::TimeView, links::Link};

/// `GET /dashboard/keys/{key_id}`
#[derive(Template)]
#[template(path = "dashboard/key_detail.html")]
pub struct KeyDetailPage {
    pub frame: Frame,
    pub key: KeyView,
    /// Sums of the time that the charts show, such as "1,204 calls", "3 refused", "2.5 TRX spent".
    pub figures: Vec<Figure>,
    /// What was counted over which time: one or two charts.
    pub charts: Vec<Chart>,
    /// Open holds of the key. Without any, the page does not mention holds.
    pub holds: HoldTable,
    /// `None`: the session may not see purchases.
    pub purchases: Option<PurchaseTable>,
    /// All purchases, with a filter and as CSV.
    pub purchases_url: String,
    /// `None`: the session may not see the log.
    pub events: Option<EventTable>,
}

/// A number with its words.
pub struct Figure {
    pub value: String,
    pub label: String,
}

/// All of a key but its text.
pub struct KeyView {
    pub head: KeyHead,
    pub access: Access,
    pub state: KeyState,
    pub created: TimeView,
    /// `None`: never.
    pub last_used: Option<TimeView>,
    /// `None`: never.
    pub expires: Option<TimeView>,
    /// It lives, and dies within a week: a warning.
    pub expires_soon: bool,
    /// Other settings.
    pub facts: Vec<Fact>,
    pub revoked: Option<RevokedView>,
    /// The key that it replaced, named by its hint or id.
    pub rotated_from: Option<Link>,
    /// The key that replaced it.
    pub rotated_to: Option<Link>,
    /// Which actions are offered. A dead key has none but "compromised", to see what it bought.
    pub can_change: bool,
    pub can_disable: bool,
    pub can_enable: bool,
    pub can_rotate: bool,
    pub can_revoke: bool,
}

/// A setting as text.
pub struct Fact {
    pub label: &'static str,
    pub text: String,
}

/// When a key was revoked, and why.
pub struct RevokedView {
    pub at: TimeView,
    pub reason: Option<String>,
}
