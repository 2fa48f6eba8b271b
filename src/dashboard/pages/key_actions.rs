//! The forms that revoke or rotate a key.

use askama::Template;

use super::{frame::Frame, key_views::KeyHead};
use crate::web::{
    fields::{Choice, Field},
    format::TimeView,
};

/// `GET /dashboard/keys/{key_id}/revoke`: asks for confirmation.
#[derive(Template)]
#[template(path = "dashboard/key_revoke.html")]
pub struct RevokePage {
    pub frame: Frame,
    pub key: KeyHead,
    /// The time of the last use. `None` if the key was never used.
    pub last_used: Option<TimeView>,
    /// The reason for the revocation, as the owner typed it, and the error in it.
    pub reason: Field,
}

/// `GET /dashboard/keys/{key_id}/rotate`
#[derive(Template)]
#[template(path = "dashboard/key_rotate.html")]
pub struct RotatePage {
    pub frame: Frame,
    pub key: KeyHead,
    /// The form's single-use token. A repeated submission does not create a second key.
    pub form: String,
    /// The choices that [`grace_choices`] returns.
    pub grace: Vec<Choice>,
    pub grace_error: Option<String>,
}

/// Returns the choices of the field `grace`, in seconds.
pub fn grace_choices(chosen: &str) -> Vec<Choice> {
    vec![
        Choice::new("0", "None (the old key stops immediately)", chosen),
        Choice::new("3600", "1 hour", chosen),
        Choice::new("86400", "24 hours", chosen),
        Choice::new("604800", "7 days", chosen),
    ]
}
