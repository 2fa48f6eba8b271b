//! The form that creates or changes a key, and the code that the forms of keys share.

use super::{
    account_keys::cap,
    pages::{
        frame::Nav,
        key_form::{KeyFields, KeyFormPage},
        key_views::KeyHead,
    },
    session::Visitor,
};
use crate::{
    entropy,
    web::{failure::Failure, forms::Form},
};

/// What differs between the form of a new key and that of one which is there.
pub struct Place {
    pub key: Option<KeyHead>,
    pub action: String,
    pub cancel_url: String,
    pub single_use: Option<String>,
    /// What the key was like when the form was made.
    pub seen: Option<String>,
    /// What the key's expiry is now, in words.
    pub keep: Option<String>,
}

/// The form of a key, with what was sent in it.
pub fn key_form_page(
    visitor: &Visitor,
    form: &Form,
    title: &str,
    live_count: Option<usize>,
    place: Place,
) -> KeyFormPage {
    let fields = KeyFields::new(form, visitor.now(), place.keep.as_deref());
    KeyFormPage {
        frame: visitor.form_frame(title, Nav::Keys, form),
        key: place.key,
        action: place.action,
        cancel_url: place.cancel_url,
        form: place.single_use,
        seen: place.seen,
        fields,
        currency: visitor.currency().code().to_owned(),
        live_count,
        max_keys: cap(visitor),
    }
}

/// The token of a form that makes a key: that with which it was sent, if it was. It is used up only
/// by a key that was made, so whatever became of a form, it can be sent again.
pub fn form_token(form: &Form) -> Result<String, Failure> {
    let token = form.single_use().or_else(|_| entropy::new_session_token())?;
    Ok(token.expose().to_owned())
}
