//! The pages for a compromised key: the form that revokes and replaces the key, and the list of its
//! purchases.

use askama::Template;

use super::{frame::Frame, key_shown::NewKey, key_views::KeyHead, purchases::PurchaseTable};
use crate::web::{fields::Field, format::TimeView, links::Link};

/// `GET /dashboard/keys/{key_id}/compromised`
#[derive(Template)]
#[template(path = "dashboard/compromised.html")]
pub struct CompromisedPage {
    pub frame: Frame,
    pub key: KeyHead,
    /// The single-use token.
    pub form: String,
    /// The field `since`: `YYYY-MM-DD`, or empty.
    pub since: Field,
    /// Whether the checkbox `replace` is selected.
    pub replace: bool,
    /// Whether the key is live. If so, the form revokes the key.
    pub live: bool,
    /// Whether the key is disabled. If so, the form says that the new key will be enabled.
    pub disabled: bool,
    /// The reason why the key cannot be replaced. If set, the form does not offer a replacement.
    pub not_replaced: Option<NotReplaced>,
}

/// The reason why there is no new key.
pub struct NotReplaced {
    /// The end of the sentence "We cannot create a new key: …".
    pub reason: String,
    /// The key that already replaced the old key. Its link follows the sentence.
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
    /// The beginning of the list. `None` if the list contains all purchases.
    pub since: Option<TimeView>,
    /// The purchases of the old key. `None` if the session may not see purchases.
    pub purchases: Option<PurchaseTable>,
    /// The URL that a reload opens.
    pub reload_url: String,
    /// The URL of the list of purchases.
    pub purchases_url: String,
    pub csv_url: String,
}
