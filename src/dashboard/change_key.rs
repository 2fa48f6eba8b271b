//! Changing a key: its name, what it may do, its end, its limit. The key itself stays.

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    failure::Failure,
    format,
    forms::{Form, Submission},
    key_detail,
    key_fields::{Expires, KeyInput},
    keys::{count_toward_cap, live_keys},
    links::link,
    new_key::{Place, access_fields, key_form_page},
    respond::{see_other, show_with},
    session::{KeyInPath, Visitor},
    views::{key_head, key_url},
};
use crate::{
    domain::{amount::Currency, lifecycle::KeyStatus},
    http::AppState,
    store::{ApiKey, KeyChange, Refusal, StoreError},
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
    let form = filled(&key, visitor.currency());
    page(&state, &visitor, &key, &form, StatusCode::OK).await
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
    if let Some(input) = KeyInput::read(&mut form, visitor.now(), tenant, true) {
        let change = to_change(input);
        let origin = visitor.origin();
        match state.store().change_api_key(tenant, account, key_id, &change, origin).await {
            Ok(_) => return Ok(see_other(&link(&key_url(key_id), &[("done", "changed")]))),
            Err(StoreError::Refused(Refusal::ExpiryPassed)) => {
                form.wrong("expires", "the expiry lies in the past");
            }
            Err(StoreError::Refused(Refusal::KeyAlreadyRotated)) => form.wrong(
                "expires",
                "the key was rotated out: its end can be brought forward, not put off",
            ),
            Err(error) => return key_detail::refused(&state, &visitor, key_id, error).await,
        }
    }
    page(&state, &visitor, &key, &form, StatusCode::BAD_REQUEST).await
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

/// The form with what the key has.
fn filled(key: &ApiKey, currency: &Currency) -> Form {
    let (access, scopes) = access_fields(&key.scopes);
    let limit = key.spend_limit;
    let amount = limit.map(|limit| currency.format(limit.amount.minor_units()));
    let period = limit.map_or("month", |limit| limit.period.as_str());
    Form::filled([
        ("name", key.name.clone()),
        ("access", access.to_owned()),
        ("scopes", scopes),
        ("expires", "keep".to_owned()),
        ("limit_amount", amount.unwrap_or_default()),
        ("limit_period", period.to_owned()),
    ])
}

async fn page(
    state: &AppState,
    visitor: &Visitor,
    key: &ApiKey,
    form: &Form,
    status: StatusCode,
) -> Result<Response, Failure> {
    let live = live_keys(state, visitor).await?;
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
        keep: Some(keep),
    };
    let count = count_toward_cap(&live);
    show_with(status, &key_form_page(visitor, form, "Change API key", count, place))
}
