//! The form of a key, to create one or to change one, and what the forms of keys share.

use super::{
    account_keys::cap,
    key_fields::last_day,
    pages::{
        frame::Nav,
        key_form::{KeyFields, KeyFormPage, expiry_choices, period_choices},
        key_views::KeyHead,
    },
    session::Visitor,
};
use crate::{
    domain::scope::ScopeSet,
    entropy,
    web::{failure::Failure, fields::Field, format, forms::Form},
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
    let now = visitor.now();
    let fields = KeyFields {
        name: form.field("name"),
        access: form.text("access").to_owned(),
        access_error: form.error("access"),
        scopes: Field {
            value: form.all("scopes").collect::<Vec<_>>().join(" "),
            error: form.error("scopes"),
        },
        expires: expiry_choices(form.text("expires"), now, place.keep.as_deref()),
        expires_error: form.error("expires"),
        expires_on: form.field("expires_on"),
        expires_min: format::day_input(now),
        expires_max: last_day(now),
        limit_amount: form.field("limit_amount"),
        limit_period: period_choices(form.text("limit_period")),
        limit_period_error: form.error("limit_period"),
    };
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

/// Scopes as the fields `access` and `scopes` have them.
pub fn access_fields(scopes: &ScopeSet) -> (&'static str, String) {
    match scopes.to_string().as_str() {
        "read" => ("read", String::new()),
        "write" => ("write", String::new()),
        scopes => ("custom", scopes.to_owned()),
    }
}

/// The token of a form that makes a key: that with which it was sent, if it was. It is used up only
/// by a key that was made, so whatever became of a form, it can be sent again.
pub fn form_token(form: &Form) -> Result<String, Failure> {
    let token = form.single_use().or_else(|_| entropy::new_session_token())?;
    Ok(token.expose().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_what_the_form_offers_where_they_can_be() {
        let fields = |scopes: &[&str]| {
            access_fields(&ScopeSet::parse(scopes.iter().copied()).expect("good scopes"))
        };
        assert_eq!(fields(&["read"]), ("read", String::new()));
        assert_eq!(fields(&["write"]), ("write", String::new()));
        assert_eq!(fields(&["read", "a:write"]), ("custom", "read a:write".to_owned()));
    }
}
