//! Creates a key. The response to the form shows the key's plaintext once.

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    account_keys::{LastUses, cap, count_toward_cap, live_keys},
    failures::unanswered,
    key_fields::{self, KeyInput, access_fields},
    key_form::{Place, form_token, key_form_page},
    pages::{
        frame::Nav,
        key_form::KeyFormPage,
        key_shown::{KeyShownPage, NewKey},
        keys::{KeyLimitPage, LiveKey},
    },
    session::Visitor,
    submission::Submission,
    views::{env_name, example_url, key_head},
};
use crate::{
    domain::{api_key::KeyText, key_settings::KeySettings, session_token::SessionToken},
    entropy,
    state::AppState,
    store::{ApiKey, FormClaim, Refusal, StoreError},
    web::{
        failure::Failure,
        format,
        forms::Form,
        respond::{show, show_with},
    },
};

/// The lifetime in days that the form of a new key preselects.
const OFFERED_LIFE: &str = "90";

/// `GET /dashboard/keys/new`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account()))]
pub async fn ask(State(state): State<AppState>, visitor: Visitor) -> Result<Response, Failure> {
    visitor.refuse_if_suspended()?;
    visitor.refuse_if_keys_are_not_created_here()?;
    let live = live_keys(&state, &visitor).await?;
    if count_toward_cap(&live) >= cap(&visitor) {
        return show(&limit_page(&state, &visitor, live).await);
    }
    let (access, scopes) = access_fields(&visitor.plan().default_scopes);
    let form = Form::filled([
        ("access", access.to_owned()),
        ("scopes", scopes),
        ("expires", OFFERED_LIFE.to_owned()),
        ("limit_period", "month".to_owned()),
    ]);
    show(&create_page(&visitor, &form, Some(count_toward_cap(&live)))?)
}

/// `POST /dashboard/keys/new`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account()))]
pub async fn create(
    State(state): State<AppState>,
    Submission { visitor, mut form }: Submission,
) -> Result<Response, Failure> {
    visitor.refuse_if_suspended()?;
    visitor.refuse_if_keys_are_not_created_here()?;
    let single_use = form.single_use()?;
    let Some(input) = KeyInput::read(&mut form, visitor.now(), visitor.tenant(), false) else {
        return again(&state, &visitor, &form, StatusCode::BAD_REQUEST).await;
    };
    let settings = KeySettings::from(input);
    match make(&state, &visitor, &single_use, &settings).await {
        Ok((text, key)) => show(&KeyShownPage {
            frame: visitor.frame("Your new API key", Nav::Keys),
            new_key: shown(&state, &visitor, &text, &key),
            rotated: None,
            disabled: false,
        }),
        Err(StoreError::Refused(Refusal::KeyLimitReached { max_keys })) => {
            form.refused(format!(
                "The account has reached its key limit ({max_keys}). Revoke a key, then submit the \
                 form again."
            ));
            again(&state, &visitor, &form, StatusCode::CONFLICT).await
        }
        Err(StoreError::Refused(Refusal::AgainstPlan(violations))) => {
            key_fields::against_plan(&mut form, &violations);
            again(&state, &visitor, &form, StatusCode::BAD_REQUEST).await
        }
        Err(StoreError::Refused(Refusal::ExpiryPassed)) => {
            form.wrong("expires", "the expiry is in the past");
            again(&state, &visitor, &form, StatusCode::BAD_REQUEST).await
        }
        Err(error @ StoreError::Unavailable(_)) => {
            form.refused(
                "The service is temporarily unavailable. The key may or may not have been created. \
                 Submit this form again in a moment. It creates at most one key.",
            );
            unanswered(error, &create_page(&visitor, &form, None)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Creates a key, unless this form has already created one. The plaintext is not stored, so the
/// caller must show it.
pub async fn make(
    state: &AppState,
    visitor: &Visitor,
    form: &SessionToken,
    settings: &KeySettings,
) -> Result<(KeyText, ApiKey), StoreError> {
    let text = entropy::new_key(&visitor.tenant().policy.prefix)?;
    let claim = FormClaim { session: visitor.session().id, form };
    let key = visitor.handle(state).create_api_key_by_form(&claim, &text, settings).await?;
    Ok((text, key))
}

/// Returns the view of a new key with its plaintext.
pub fn shown(state: &AppState, visitor: &Visitor, text: &KeyText, key: &ApiKey) -> NewKey {
    NewKey {
        head: key_head(key),
        text: text.expose().to_owned(),
        env_name: env_name(visitor.tenant()),
        example_url: example_url(state),
    }
}

async fn again(
    state: &AppState,
    visitor: &Visitor,
    form: &Form,
    status: StatusCode,
) -> Result<Response, Failure> {
    // If the number of keys is unknown, the form omits it.
    let live = live_keys(state, visitor).await.ok();
    let live_count = live.map(|live| count_toward_cap(&live));
    show_with(status, &create_page(visitor, form, live_count)?)
}

fn create_page(
    visitor: &Visitor,
    form: &Form,
    live_count: Option<usize>,
) -> Result<KeyFormPage, Failure> {
    let place = Place {
        key: None,
        action: "/dashboard/keys/new".to_owned(),
        cancel_url: "/dashboard/keys".to_owned(),
        single_use: Some(form_token(form)?),
        seen: None,
        keep: None,
        used_networks: Vec::new(),
    };
    Ok(key_form_page(visitor, form, "Create API Key", live_count, place))
}

/// Returns the page with the keys that count toward the cap, least recently used first.
async fn limit_page(state: &AppState, visitor: &Visitor, mut live: Vec<ApiKey>) -> KeyLimitPage {
    live.retain(|key| key.rotated_to.is_none());
    let last_uses = LastUses::read(state, visitor, &live).await;
    live.sort_by_key(|key| (last_uses.of(key), key.created_at));
    let key = |key: &ApiKey| LiveKey {
        head: key_head(key),
        last_used: last_uses.of(key).map(|at| format::moment(at, Some(visitor.now()))),
    };
    KeyLimitPage {
        frame: visitor.frame("Create API Key", Nav::Keys),
        live_count: live.len(),
        max_keys: cap(visitor),
        keys: live.iter().map(key).collect(),
    }
}
