//! The form that creates or changes a key, and the code that the forms of keys share.

use super::{
    account_keys::cap,
    key_fields::{ADDED_NETWORK, NETWORKS, words},
    pages::{
        frame::Nav,
        key_clients::NetworkRow,
        key_form::{KeyFields, KeyFormPage, UsedNetwork},
        key_views::KeyHead,
    },
    session::Visitor,
};
use crate::{
    entropy,
    web::{failure::Failure, fields::Choice, forms::Form},
};

/// The differences between the form of a new key and the form of an existing key.
pub struct Place {
    pub key: Option<KeyHead>,
    pub action: String,
    pub cancel_url: String,
    pub single_use: Option<String>,
    /// The digest of the settings that the form shows.
    pub seen: Option<String>,
    /// The label of the choice that keeps the current expiry.
    pub keep: Option<String>,
    /// The networks from which the key was used.
    pub used_networks: Vec<NetworkRow>,
}

/// Returns the page with the form of a key and the input in its fields.
pub fn key_form_page(
    visitor: &Visitor,
    form: &Form,
    title: &str,
    live_count: Option<usize>,
    place: Place,
) -> KeyFormPage {
    let is_added = |network: &str| form.all(ADDED_NETWORK).any(|added| added == network);
    let own_address = visitor.address().map(|address| {
        let address = address.to_canonical().to_string();
        Choice { selected: is_added(&address), value: address.clone(), label: address }
    });
    let is_allowed = |network: &str| words(form.text(NETWORKS)).any(|allowed| allowed == network);
    let used = place.used_networks.into_iter().filter(|row| !is_allowed(&row.network));
    let used = used.map(|NetworkRow { network, last, .. }| UsedNetwork {
        selected: is_added(&network),
        network,
        last,
    });
    let used = used.collect();
    let fields = KeyFields::new(form, visitor.now(), place.keep.as_deref(), own_address, used);
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

/// Returns the single-use token of a form that creates a key: the submitted token, or a new one.
/// The store spends the token only when it creates a key, so the form can be submitted again after
/// a failure.
pub fn form_token(form: &Form) -> Result<String, Failure> {
    let token = form.single_use().or_else(|_| entropy::new_session_token())?;
    Ok(token.expose().to_owned())
}
