//! The pages for a compromised key: the form that revokes and replaces the key, and the list of its
//! purchases.

use askama::Template;

use super::{
    frame::Frame, key_clients::ClientTables, key_shown::NewKey, key_views::KeyHead,
    purchases::PurchaseTable,
};
use crate::web::{fields::Field, format::TimeView, links::Link};

/// `GET /dashboard/keys/{key_id}/compromised`
#[derive(Template)]
#[template(path = "dashboard/compromised.html")]
pub struct CompromisedPage {
    pub frame: Frame,
    pub key: KeyHead,
    /// The form's single-use token. A repeated submission does not create a second key.
    pub form: String,
    /// The first day of the listed purchases, as `YYYY-MM-DD`, or empty for all purchases.
    pub since: Field,
    /// Whether the checkbox `replace` is selected.
    pub replace: bool,
    /// Whether the key is live. If so, the form revokes the key.
    pub live: bool,
    /// Whether the key is disabled. If so, the form says that the new key will be enabled.
    pub disabled: bool,
    /// The clients that used the key. `None` if nothing is known, or if the session may not see them.
    pub clients: Option<ClientTables>,
    /// The reason why the key cannot be replaced. If set, the form does not offer a replacement.
    pub not_replaced: Option<NotReplaced>,
}

/// The reason why there is no new key.
pub struct NotReplaced {
    /// The text that follows "We cannot create a new key:" or "We did not create a new key:".
    pub reason: String,
    /// The key that already replaced the old key. Its link follows the reason.
    pub successor: Option<Link>,
}

/// The response to the form of a compromised key: the new key, and the purchases of the old key.
#[derive(Template)]
#[template(path = "dashboard/compromised_done.html")]
pub struct CompromisedDonePage {
    pub frame: Frame,
    /// The revoked key.
    pub key: KeyHead,
    /// The new key, which no later page shows.
    pub new_key: Option<NewKey>,
    /// The reason why there is no new key, although the owner requested one.
    pub not_replaced: Option<NotReplaced>,
    /// The time of the earliest purchase that the list can contain. `None` if the list contains all
    /// purchases.
    pub since: Option<TimeView>,
    /// The purchases of the old key. `None` if the session may not see purchases.
    pub purchases: Option<PurchaseTable>,
    /// The URL that a reload opens instead of submitting the form again.
    pub reload_url: String,
    /// The URL of the page with the purchases of the old key.
    pub purchases_url: String,
    pub csv_url: String,
}
