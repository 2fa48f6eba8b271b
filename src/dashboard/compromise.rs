//! A key that somebody else has seen: it is revoked at once and replaced, and what it has bought is
//! listed.

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    days::parse_moment,
    failure::Failure,
    format,
    forms::{Form, Submission},
    new_key,
    pages::{
        compromised::{CompromisedDonePage, CompromisedPage},
        frame::Nav,
        key_shown::NewKey,
    },
    purchases,
    respond::{show, show_with},
    session::{KeyInPath, Visitor},
    views::key_head,
};
use crate::{
    domain::{
        lifecycle::{Expiry, KeyStatus},
        text::{Name, Reason},
        timestamp::Timestamp,
    },
    entropy,
    http::AppState,
    store::{ApiKey, NewApiKey, Refusal, StoreError},
};

const REASON: &str = "compromised";

/// `GET /dashboard/keys/{key_id}/compromised`
pub async fn ask(
    State(state): State<AppState>,
    visitor: Visitor,
    KeyInPath(key_id): KeyInPath,
) -> Result<Response, Failure> {
    let key = state.store().find_api_key(visitor.tenant(), visitor.account(), key_id).await?;
    let replace = key.status == KeyStatus::Live && key.rotated_to.is_none();
    let ticked = replace.then(|| ("replace", "on".to_owned()));
    show(&page(&visitor, &key, &Form::filled(ticked))?)
}

/// `POST /dashboard/keys/{key_id}/compromised`
pub async fn revoke(
    State(state): State<AppState>,
    KeyInPath(key_id): KeyInPath,
    Submission { visitor, mut form }: Submission,
) -> Result<Response, Failure> {
    let (tenant, account) = (visitor.tenant(), visitor.account());
    let key = state.store().find_api_key(tenant, account, key_id).await?;
    let single_use = form.single_use()?;
    let since = form.optional("since", parse_moment);
    if !form.is_right() {
        return show_with(StatusCode::BAD_REQUEST, &page(&visitor, &key, &form)?);
    }
    // First of all, and as often as it is sent: it is harmless to a key that is dead.
    let reason = Reason::parse(REASON).expect("a word of few letters");
    state.store().revoke_api_key(tenant, account, key_id, Some(&reason), visitor.origin()).await?;
    let since_text = form.text("since");
    // Before there is a new key: nothing may come between it and its only showing.
    let purchases = purchases::table(&state, &visitor, &key, since, since_text, None).await?;
    let replacement = if form.has("replace") {
        if !state.store().claim_form(visitor.session(), &single_use).await? {
            return Err(Failure::SentBefore);
        }
        replace(&state, &visitor, &key).await
    } else {
        Replacement::default()
    };
    show(&CompromisedDonePage {
        frame: visitor.frame("Key revoked", Nav::Keys),
        key: key_head(&key),
        new_key: replacement.new_key,
        not_replaced: replacement.missing,
        since: since.map(|at| format::moment(at, None)),
        purchases,
        purchases_url: purchases::page_url(key_id, since_text),
        csv_url: purchases::csv_url(key_id, since_text),
    })
}

/// The key in the place of one that is revoked.
#[derive(Default)]
struct Replacement {
    new_key: Option<NewKey>,
    /// Why there is none, though it was asked for.
    missing: Option<String>,
}

impl Replacement {
    fn missing(why: impl Into<String>) -> Self {
        Self { new_key: None, missing: Some(why.into()) }
    }
}

/// The old key is revoked by now: whatever happens here, that is to be told.
async fn replace(state: &AppState, visitor: &Visitor, old: &ApiKey) -> Replacement {
    if visitor.is_suspended() {
        return Replacement::missing("The account is suspended: no key can be created now.");
    }
    if old.rotated_to.is_some() {
        return Replacement::missing(
            "The key was rotated before: the key that replaced it then goes on working.",
        );
    }
    let new = match like(old, visitor.now()) {
        Ok(new) => new,
        Err(error) => return Replacement::missing(error),
    };
    match new_key::make(state, visitor, &new).await {
        Ok((text, key)) => Replacement {
            new_key: Some(new_key::shown(state, visitor, &text, &key)),
            missing: None,
        },
        Err(StoreError::Refused(Refusal::KeyLimitReached { max_keys })) => {
            Replacement::missing(format!(
                "You have all the keys that you may have: {max_keys}. Revoke one, and create \
                 another."
            ))
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "a compromised key was revoked, but not replaced");
            Replacement::missing("Something went wrong here. Create a new key by hand.")
        }
    }
}

/// A key with the same settings; of one that expired it has the length of life.
fn like(old: &ApiKey, now: Timestamp) -> Result<NewApiKey, String> {
    let expiry = match old.expires_at {
        None => None,
        Some(end) if end > now => Some(Expiry::at(end, now)),
        Some(end) => {
            let micros = end.unix_micros() - old.created_at.unix_micros();
            Some(Expiry::after_seconds(micros / 1_000_000, now))
        }
    };
    Ok(NewApiKey {
        // What is stored was checked.
        name: Name::parse(&old.name).map_err(|error| error.to_string())?,
        scopes: old.scopes.clone(),
        expiry: expiry.transpose().map_err(|error| error.to_string())?,
        metadata: old.metadata.clone(),
        spend_limit: old.spend_limit,
    })
}

fn page(visitor: &Visitor, key: &ApiKey, form: &Form) -> Result<CompromisedPage, Failure> {
    Ok(CompromisedPage {
        frame: visitor.form_frame("Compromised API key", Nav::Keys, form),
        key: key_head(key),
        form: entropy::new_session_token()?.expose().to_owned(),
        since: form.field("since"),
        replace: form.has("replace"),
        live: key.status == KeyStatus::Live,
    })
}
