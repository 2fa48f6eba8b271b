//! The page that shows the plaintext of a new key once.

use askama::Template;

use super::{frame::Frame, key_views::KeyHead};
use crate::web::format::TimeView;

/// The response to a form that created or rotated a key.
#[derive(Template)]
#[template(path = "dashboard/key_shown.html")]
pub struct KeyShownPage {
    pub frame: Frame,
    pub new_key: NewKey,
    /// The key that the new key replaces. `None` if the owner did not rotate a key.
    pub rotated: Option<RotatedKey>,
    /// Whether the new key is disabled, because the old key was disabled.
    pub disabled: bool,
}

/// A new key, its plaintext, and the examples that use it.
pub struct NewKey {
    pub head: KeyHead,
    /// The key's plaintext, which no later page shows.
    pub text: String,
    /// The environment variable for the key: the slug in capitals and `_API_KEY`, such as
    /// `TRONAGG_API_KEY`.
    pub env_name: String,
    /// The URL of the example request: `https://keys.example.com/v1/me`.
    pub example_url: String,
}

/// The old key of a rotation.
pub struct RotatedKey {
    pub head: KeyHead,
    /// The end of the grace period. `None` if the key no longer works.
    pub works_until: Option<TimeView>,
}
