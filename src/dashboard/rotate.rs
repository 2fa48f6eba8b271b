//! Rotates a key: creates a new key with the same settings, while the old key keeps working for a
//! grace period.

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    failures::unanswered,
    key_detail,
    key_form::form_token,
    key_in_path::KeyInPath,
    new_key,
    pages::{
        frame::Nav,
        key_actions::{RotatePage, grace_choices},
        key_shown::{KeyShownPage, RotatedKey},
    },
    session::Visitor,
    submission::Submission,
    views::key_head,
};
use crate::{
    domain::lifecycle::{KeyStatus, end_of_grace},
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

/// The grace periods that the form offers, in seconds.
const GRACES: [i64; 4] = [0, 3_600, 86_400, 604_800];

/// The grace period in seconds that the form preselects: one day.
const OFFERED_GRACE: &str = "86400";

/// `GET /dashboard/keys/{key_id}/rotate`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %key_id))]
pub async fn ask(
    State(state): State<AppState>,
    visitor: Visitor,
    KeyInPath(key_id): KeyInPath,
) -> Result<Response, Failure> {
    visitor.refuse_if_suspended()?;
    let key = state.store().find_api_key(visitor.tenant(), visitor.account(), key_id).await?;
    let refusal = match key.status {
        KeyStatus::Live if key.rotated_to.is_none() => {
            let form = Form::filled([("grace", OFFERED_GRACE.to_owned())]);
            return show(&page(&visitor, &key, &form)?);
        }
        KeyStatus::Live => Refusal::KeyAlreadyRotated,
        KeyStatus::Revoked | KeyStatus::Expired => Refusal::KeyNotLive,
    };
    key_detail::refused(&state, &visitor, key_id, refusal.into()).await
}

/// `POST /dashboard/keys/{key_id}/rotate`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %key_id))]
pub async fn rotate(
    State(state): State<AppState>,
    KeyInPath(key_id): KeyInPath,
    Submission { visitor, mut form }: Submission,
) -> Result<Response, Failure> {
    visitor.refuse_if_suspended()?;
    let single_use = form.single_use()?;
    let (tenant, account) = (visitor.tenant(), visitor.account());
    let old = state.store().find_api_key(tenant, account, key_id).await?;
    let Some(grace) = form.read("grace", parse_grace) else {
        return show_with(StatusCode::BAD_REQUEST, &page(&visitor, &old, &form)?);
    };
    let text = entropy::new_key(&tenant.policy.prefix)?;
    let claim = FormClaim { session: visitor.session().id, form: &single_use };
    match visitor.handle(&state).rotate_api_key_by_form(&claim, key_id, &text, grace).await {
        Ok(key) => {
            // The handler computes the end of the grace period instead of reading it from the
            // database, because no failure may prevent the page that shows the new key.
            let end = end_of_grace(key.created_at, grace, old.settings.expires_at);
            show(&KeyShownPage {
                frame: visitor.frame("Your new API key", Nav::Keys),
                new_key: new_key::shown(&state, &visitor, &text, &key),
                rotated: Some(RotatedKey {
                    head: key_head(&old),
                    works_until: (grace > 0).then(|| format::moment(end, Some(key.created_at))),
                }),
                disabled: !key.settings.enabled,
            })
        }
        Err(StoreError::Refused(Refusal::KeyLimitReached { max_keys })) => {
            form.wrong(
                "grace",
                format!(
                    "the account has reached its limit of rotated keys in a grace period \
                     ({max_keys}). Choose “None”, or revoke one of these keys"
                ),
            );
            show_with(StatusCode::CONFLICT, &page(&visitor, &old, &form)?)
        }
        Err(error @ StoreError::Unavailable(_)) => {
            form.refused(
                "The service is temporarily unavailable. The key may or may not have been rotated. \
                 Submit this form again in a moment. It creates at most one key.",
            );
            unanswered(error, &page(&visitor, &old, &form)?)
        }
        Err(error) => key_detail::refused(&state, &visitor, key_id, error).await,
    }
}

fn parse_grace(text: &str) -> Result<i64, &'static str> {
    let grace = text.parse().ok().filter(|grace| GRACES.contains(grace));
    grace.ok_or("choose a grace period")
}

fn page(visitor: &Visitor, key: &ApiKey, form: &Form) -> Result<RotatePage, Failure> {
    Ok(RotatePage {
        frame: visitor.form_frame("Rotate API key", Nav::Keys, form),
        key: key_head(key),
        form: form_token(form)?,
        grace: grace_choices(form.text("grace")),
        grace_error: form.error("grace"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_offered_grace_periods_are_accepted() {
        for choice in grace_choices("") {
            let grace = parse_grace(&choice.value).expect("an offered grace period");
            assert_eq!(grace.to_string(), choice.value);
        }
        for text in ["", "1", "-1", "604801", "0.0", " 0"] {
            assert!(parse_grace(text).is_err(), "{text:?}");
        }
    }
}
