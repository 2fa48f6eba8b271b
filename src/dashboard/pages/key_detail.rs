//! The page that shows one key.

use askama::Template;

use super::{
    frame::Frame,
    holds::HoldTable,
    key_clients::ClientTables,
    key_views::{Access, KeyHead, KeyState},
    limits::LimitTable,
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
    /// Totals for the last 24 hours, such as the number of calls.
    pub figures: Vec<Figure>,
    /// The charts of calls and spending.
    pub charts: Vec<Chart>,
    /// The rate limits. `None` if there are none, or if they cannot be read.
    pub limits: Option<LimitTable>,
    /// The clients that used the key. `None` if nothing is known, or if the session may not see them.
    pub clients: Option<ClientTables>,
    /// The open holds of the key. If there are none, the page does not mention holds.
    pub holds: HoldTable,
    /// The newest purchases. `None` if the session may not see purchases.
    pub purchases: Option<PurchaseTable>,
    /// The URL of the page with all purchases of the key.
    pub purchases_url: String,
    /// The newest audit events of the key. `None` if the session may not see the security log.
    pub events: Option<EventTable>,
}

/// A number with its label.
pub struct Figure {
    pub value: String,
    pub label: String,
}

/// A key without its plaintext.
pub struct KeyView {
    pub head: KeyHead,
    pub access: Access,
    pub state: KeyState,
    pub created: TimeView,
    /// The time of the last use. `None` if the key was never used.
    pub last_used: Option<TimeView>,
    /// The time of the expiry. `None` if the key never expires.
    pub expires: Option<TimeView>,
    /// Whether the key is live and expires within a week.
    pub expires_soon: bool,
    /// The settings that the page shows as texts, such as the spend limit.
    pub facts: Vec<Fact>,
    pub revoked: Option<RevokedView>,
    /// The key that this key replaced. The label is its hint.
    pub rotated_from: Option<Link>,
    /// The key that replaced this key.
    pub rotated_to: Option<Link>,
    /// The actions that the page offers. It offers none of them for a revoked or expired key.
    pub can_change: bool,
    pub can_lower_limits: bool,
    pub can_disable: bool,
    pub can_enable: bool,
    pub can_rotate: bool,
    pub can_revoke: bool,
}

/// A setting: its label, and its value in words.
pub struct Fact {
    pub label: &'static str,
    pub text: String,
}

/// The time of a revocation and its reason.
pub struct RevokedView {
    pub at: TimeView,
    pub reason: Option<String>,
}
