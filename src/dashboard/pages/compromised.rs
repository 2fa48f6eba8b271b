//! The pages for a compromised key: the form that revokes and replaces it, and the purchases that
//! were made with it.

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
    /// The box `replace` is ticked.
    pub replace: bool,
    /// The key lives: it is revoked by this. A dead one can only be looked at.
    pub live: bool,
    /// The key is disabled: a new one is not, which is said.
    pub disabled: bool,
    /// Why no new key can be had; then there is no box for it.
    pub not_replaced: Option<NotReplaced>,
}

/// Why there is no new key.
pub struct NotReplaced {
    /// The rest of the sentence "There is no new key: …".
    pub reason: String,
    /// The key that replaced the old one before, at the end of that sentence.
    pub successor: Option<Link>,
}

/// The answer to that form: what was done, the new key, what the old one has bought.
#[derive(Template)]
#[template(path = "dashboard/compromised_done.html")]
pub struct CompromisedDonePage {
    pub frame: Frame,
    /// The key that is revoked now.
    pub key: KeyHead,
    /// Shown this once; `None`: there is no new key.
    pub new_key: Option<NewKey>,
    /// Why there is no new key, though one was wanted.
    pub not_replaced: Option<NotReplaced>,
    /// The moment since which purchases are listed; `None`: all.
    pub since: Option<TimeView>,
    /// `None`: the session may not see purchases.
    pub purchases: Option<PurchaseTable>,
    /// A page that can be opened again.
    pub reload_url: String,
    /// The list as a page that can be reloaded.
    pub purchases_url: String,
    pub csv_url: String,
}
