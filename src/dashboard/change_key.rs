//! Changing a key: its name, what it may do, its end, its limit. The key itself stays.

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    failures::unanswered,
    key_claims::seen,
    key_detail,
    key_fields::{Expires, KeyInput},
    key_form::{Place, access_fields, key_form_page},
    pages::{key_form::KeyFormPage, key_views::Access},
    session::Visitor,
    submission::Submission,
    views::{key_head, key_url, limit_words},
};
use crate::{
    domain::{amount::Currency, lifecycle::KeyStatus},
    state::AppState,
    store::{ApiKey, KeyChange, Refusal, StoreError},
    web::{
        failure::Failure,
        format,
        forms::Form,
        links::link,
        paths::KeyInPath,
        respond::{see_other, show, show_with},
    },
};

/// `GET /dashboard/keys/{key_id}/edit`
pub async fn ask(
    State(state): State<AppState>,
    visitor: Visitor,
    KeyInPath(key_id): KeyInPath,
) -> Result<Response, Failure> {
    visitor.refuse_if_suspended()?;
    let key = state.store().find_api_key(visitor.tenant(), visitor.account(), key_id).await?;
    if key.status != KeyStatus::Live {
        let dead = Refusal::KeyNotLive.into();
        return key_detail::refused(&state, &visitor, key_id, dead).await;
    }
    show(&page(&visitor, &key, &filled(&key, visitor.currency())))
}

/// `POST /dashboard/keys/{key_id}/edit`
pub async fn change(
    State(state): State<AppState>,
    KeyInPath(key_id): KeyInPath,
    Submission { visitor, mut form }: Submission,
) -> Result<Response, Failure> {
    visitor.refuse_if_suspended()?;
    let (tenant, account) = (visitor.tenant(), visitor.account());
    let key = state.store().find_api_key(tenant, account, key_id).await?;
    if key.status != KeyStatus::Live {
        let dead = Refusal::KeyNotLive.into();
        return key_detail::refused(&state, &visitor, key_id, dead).await;
    }
    let input = KeyInput::read(&mut form, visitor.now(), tenant, true);
    if form.text("seen") != seen(&visitor, &key) {
        let now = settings(&key, visitor.currency());
        form.refused(format!(
            "This key was changed meanwhile. Its settings now: {now}. Save again to overwrite them."
        ));
        return show_with(StatusCode::CONFLICT, &page(&visitor, &key, &form));
    }
    let Some(input) = input else {
        return show_with(StatusCode::BAD_REQUEST, &page(&visitor, &key, &form));
    };
    let change = to_change(input);
    match state.store().change_api_key(tenant, account, key_id, &change, visitor.origin()).await {
        Ok(changed) => {
            let saved = seen(&visitor, &changed);
            let to = link(&key_url(key_id), &[("done", "changed"), ("seen", &saved)]);
            return Ok(see_other(&to));
        }
        Err(StoreError::Refused(Refusal::ExpiryPassed)) => {
            form.wrong("expires", "the expiry lies in the past");
        }
        Err(StoreError::Refused(Refusal::KeyAlreadyRotated)) => form.wrong(
            "expires",
            "the key was rotated out: its end can be brought forward, not put off",
        ),
        Err(error @ StoreError::Unavailable(_)) => {
            form.refused(
                "We cannot answer right now, and do not know whether your changes are saved. Save \
                 them again in a moment.",
            );
            return unanswered(error, &page(&visitor, &key, &form));
        }
        Err(error) => return key_detail::refused(&state, &visitor, key_id, error).await,
    }
    show_with(StatusCode::BAD_REQUEST, &page(&visitor, &key, &form))
}

fn to_change(input: KeyInput) -> KeyChange {
    KeyChange {
        name: Some(input.name),
        scopes: Some(input.scopes),
        expiry: match input.expires {
            Expires::Keep => None,
            Expires::Never => Some(None),
            Expires::At(expiry) => Some(Some(expiry)),
        },
        enabled: None,
        metadata: None,
        spend_limit: Some(input.spend_limit),
    }
}

/// All that the form sets, in words.
fn settings(key: &ApiKey, currency: &Currency) -> String {
    let access = Access::of(key.scopes.to_strings());
    let scopes = access.scopes.iter().map(String::as_str);
    let access = std::iter::once(access.label).chain(scopes).collect::<Vec<_>>().join(" ");
    let expires =
        key.expires_at.map_or_else(|| "never".to_owned(), |at| format::moment(at, None).words);
    let limit = key.spend_limit;
    let limit = limit.map_or_else(|| "none".to_owned(), |limit| limit_words(limit, currency));
    format!("name “{}”; access: {access}; expires: {expires}; spend limit: {limit}", key.name)
}

/// The form with what the key has.
fn filled(key: &ApiKey, currency: &Currency) -> Form {
    let (access, scopes) = access_fields(&key.scopes);
    let limit = key.spend_limit;
    let amount = limit.map(|limit| currency.format(limit.amount.minor_units()).to_string());
    let period = limit.map_or("month", |limit| limit.period.as_str());
    Form::filled([
        ("name", key.name.to_string()),
        ("access", access.to_owned()),
        ("scopes", scopes),
        ("expires", "keep".to_owned()),
        ("limit_amount", amount.unwrap_or_default()),
        ("limit_period", period.to_owned()),
    ])
}

fn page(visitor: &Visitor, key: &ApiKey, form: &Form) -> KeyFormPage {
    let url = key_url(key.id);
    let keep = match key.expires_at {
        Some(at) => format!("Keep: {}", format::moment(at, None).words),
        None => "Keep: never".to_owned(),
    };
    let place = Place {
        key: Some(key_head(key)),
        action: format!("{url}/edit"),
        cancel_url: url,
        single_use: None,
        seen: Some(seen(visitor, key)),
        keep: Some(keep),
    };
    key_form_page(visitor, form, "Change API key", None, place)
}
