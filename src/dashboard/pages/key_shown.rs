//! The page that shows the text of a new key, once.

use askama::Template;

use super::{frame::Frame, key_views::KeyHead};
use crate::web::format::TimeView;

/// The answer to a form that created or rotated a key.
#[derive(Template)]
#[template(path = "dashboard/key_shown.html")]
pub struct KeyShownPage {
    pub frame: Frame,
    pub new_key: NewKey,
    /// The key that this one replaces; `None`: it was created.
    pub rotated: Option<RotatedKey>,
    /// The new key is disabled, as the one is that it replaces.
    pub disabled: bool,
}

/// A key and its text.
pub struct NewKey {
    pub head: KeyHead,
    /// The whole text of the key.
    pub text: String,
    /// The name of the line in `.env`: the slug in capitals and `_API_KEY`, such as
    /// `TRONAGG_API_KEY`.
    pub env_name: String,
    /// A URL that takes the key, for the example with curl: `https://keys.example.com/v1/me`.
    pub example_url: String,
}

/// The key that was rotated out.
pub struct RotatedKey {
    pub head: KeyHead,
    /// When it dies; `None`: it is dead already. A disabled one does not work until then either.
    pub works_until: Option<TimeView>,
}
