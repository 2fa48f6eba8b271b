//! Changes the name, the scopes, the expiry or the spend limit of a key. The key itself stays the
//! same.

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    failures::unanswered,
    key_claims::seen,
    key_clients::networks,
    key_detail,
    key_fields::{self, KeyInput, filled, settings_in_words},
    key_form::{Place, key_form_page},
    key_in_path::KeyInPath,
    pages::key_form::KeyFormPage,
    session::Visitor,
    submission::Submission,
    views::{key_head, key_url},
};
use crate::{
    domain::{key_settings::KeyChange, lifecycle::KeyStatus},
    state::AppState,
    store::{ApiKey, Refusal, StoreError},
    web::{
        failure::Failure,
        format,
        forms::Form,
        links::link,
        respond::{see_other, show, show_with},
    },
};

/// `GET /dashboard/keys/{key_id}/edit`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %key_id))]
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
    show(&page(&state, &visitor, &key, &filled(&key.settings, visitor.currency())).await)
}

/// `POST /dashboard/keys/{key_id}/edit`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %key_id))]
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
        let now = settings_in_words(&key.settings, visitor.currency());
        form.refused(format!(
            "This key changed while you were editing it. Current settings: {now}. Save again to \
             overwrite them."
        ));
        return show_with(StatusCode::CONFLICT, &page(&state, &visitor, &key, &form).await);
    }
    let Some(input) = input else {
        return show_with(StatusCode::BAD_REQUEST, &page(&state, &visitor, &key, &form).await);
    };
    let change = KeyChange::from(input);
    match visitor.handle(&state).change_api_key(key_id, &change).await {
        Ok(changed) => {
            let saved = seen(&visitor, &changed);
            let to = link(&key_url(key_id), &[("done", "changed"), ("seen", &saved)]);
            return Ok(see_other(&to));
        }
        Err(StoreError::Refused(Refusal::ExpiryPassed)) => {
            form.wrong("expires", "the expiry is in the past");
        }
        Err(StoreError::Refused(Refusal::AgainstPlan(violations))) => {
            key_fields::against_plan(&mut form, &violations);
        }
        Err(StoreError::Refused(Refusal::KeyAlreadyRotated)) => form.wrong(
            "expires",
            "this key was already rotated. You can choose an earlier expiry, but not a later one",
        ),
        Err(error @ StoreError::Unavailable(_)) => {
            form.refused(
                "The service is temporarily unavailable. Your changes may or may not have been \
                 saved. Save them again in a moment.",
            );
            return unanswered(error, &page(&state, &visitor, &key, &form).await);
        }
        Err(error) => return key_detail::refused(&state, &visitor, key_id, error).await,
    }
    show_with(StatusCode::BAD_REQUEST, &page(&state, &visitor, &key, &form).await)
}

async fn page(state: &AppState, visitor: &Visitor, key: &ApiKey, form: &Form) -> KeyFormPage {
    let url = key_url(key.id);
    let keep = match key.settings.expires_at {
        Some(at) => format!("Keep current ({})", format::moment(at, None).words),
        None => "Keep current (never)".to_owned(),
    };
    let place = Place {
        key: Some(key_head(key)),
        action: format!("{url}/edit"),
        cancel_url: url,
        single_use: None,
        seen: Some(seen(visitor, key)),
        keep: Some(keep),
        used_networks: networks(state, visitor, key).await,
    };
    key_form_page(visitor, form, "Edit API key", None, place)
}
