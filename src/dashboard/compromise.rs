//! Handles a compromised key. The form revokes the key, creates a replacement if the owner requests
//! one, and lists the purchases that were made with the key.

use std::error::Error;

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    account_keys::{cap, count_toward_cap, live_keys},
    failures::unanswered,
    key_clients::client_tables,
    key_form::form_token,
    key_in_path::KeyInPath,
    new_key,
    pages::{
        compromised::{CompromisedDonePage, CompromisedPage, NotReplaced},
        frame::Nav,
        key_shown::NewKey,
    },
    purchases::{self, Since},
    search::Search,
    session::Visitor,
    submission::Submission,
    views::{key_head, key_url},
};
use crate::{
    domain::{
        dashboard::DashboardRight,
        key_settings::KeySettings,
        lifecycle::{Expiry, KeyStatus},
        session_token::SessionToken,
        text::Reason,
        timestamp::Timestamp,
    },
    state::AppState,
    store::{ApiKey, Refusal, StoreError},
    web::{
        days::parse_moment,
        failure::Failure,
        format,
        forms::Form,
        links::Link,
        respond::{show, show_with},
    },
};

const REASON: &str = "compromised";

/// Maximum number of successive rotations to follow to the newest key.
const MOST_ROTATIONS: usize = 100;

/// `GET /dashboard/keys/{key_id}/compromised`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %key_id))]
pub async fn ask(
    State(state): State<AppState>,
    visitor: Visitor,
    KeyInPath(key_id): KeyInPath,
) -> Result<Response, Failure> {
    let key = state.store().find_api_key(visitor.tenant(), visitor.account(), key_id).await?;
    let obstacle = obstacle(&state, &visitor, &key).await?;
    let replace = key.status == KeyStatus::Live && obstacle.is_none();
    let form = Form::filled(replace.then(|| ("replace", "on".to_owned())));
    show(&page(&state, &visitor, &key, &form, obstacle).await?)
}

/// `POST /dashboard/keys/{key_id}/compromised`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %key_id))]
pub async fn revoke(
    State(state): State<AppState>,
    KeyInPath(key_id): KeyInPath,
    Submission { visitor, mut form }: Submission,
) -> Result<Response, Failure> {
    let key = state.store().find_api_key(visitor.tenant(), visitor.account(), key_id).await?;
    let single_use = form.single_use()?;
    let since = form.optional("since", parse_moment);
    if !form.is_right() {
        let obstacle = obstacle(&state, &visitor, &key).await?;
        let page = page(&state, &visitor, &key, &form, obstacle).await?;
        return show_with(StatusCode::BAD_REQUEST, &page);
    }
    match revoke_and_replace(&state, &visitor, &key, &form, &single_use, since).await {
        Ok(done) => show(&done),
        Err(error @ StoreError::Unavailable(_)) => {
            form.refused(
                "The service is temporarily unavailable. The key may or may not have been revoked. \
                 Submit this form again in a moment. It revokes the key and creates at most one new \
                 key.",
            );
            unanswered(error, &page(&state, &visitor, &key, &form, None).await?)
        }
        Err(error) => Err(error.into()),
    }
}

async fn revoke_and_replace(
    state: &AppState,
    visitor: &Visitor,
    key: &ApiKey,
    form: &Form,
    single_use: &SessionToken,
    since: Option<Timestamp>,
) -> Result<CompromisedDonePage, StoreError> {
    // The revocation comes first, on every submission. It does not change a key that is already
    // revoked or expired.
    let reason = Reason::parse(REASON).expect("the constant is a valid reason");
    visitor.handle(state).revoke_compromised_api_key(key.id, &reason).await?;
    let since_text = form.text("since");
    // The purchases are read before the new key is created. Once the new key exists, no failure may
    // prevent the page that shows it.
    let purchases = if visitor.may(DashboardRight::Audit) {
        let since = Since { moment: since, text: since_text };
        let search = Search::of(&Form::default());
        Some(purchases::table(state, visitor, key, since, &search, None).await?)
    } else {
        None
    };
    let replacement = if form.has("replace") {
        replace(state, visitor, key, single_use).await?
    } else {
        Replacement::default()
    };
    Ok(CompromisedDonePage {
        frame: visitor.frame("Key revoked", Nav::Keys),
        key: key_head(key),
        new_key: replacement.new_key,
        not_replaced: replacement.missing,
        since: since.map(|at| format::moment(at, None)),
        reload_url: match purchases {
            Some(_) => purchases::page_url(key.id, since_text),
            None => key_url(key.id),
        },
        purchases,
        purchases_url: purchases::page_url(key.id, since_text),
        csv_url: purchases::csv_url(key.id, since_text),
    })
}

/// The replacement of a revoked key.
#[derive(Default)]
struct Replacement {
    new_key: Option<NewKey>,
    /// The reason why there is no new key, although the owner requested one.
    missing: Option<NotReplaced>,
}

impl Replacement {
    fn missing(why: impl Into<NotReplaced>) -> Self {
        Self { new_key: None, missing: Some(why.into()) }
    }
}

/// Creates a replacement for a key that is already revoked. The page that confirms the revocation
/// shows most failures. Only a spent form, an ended session and an unavailable database are errors.
///
/// The new key is enabled even if the old key was disabled, because the owner requested it for use
/// and nobody else has it. The form announces this.
async fn replace(
    state: &AppState,
    visitor: &Visitor,
    old: &ApiKey,
    form: &SessionToken,
) -> Result<Replacement, StoreError> {
    if visitor.is_suspended() {
        return Ok(Replacement::missing(Obstacle::Suspended));
    }
    if !visitor.plan().owner_creates_keys {
        return Ok(Replacement::missing(Obstacle::CreatedElsewhere));
    }
    let successor = successor(state, visitor, old).await?;
    if let Some(successor) = successor.as_ref().filter(|key| is_in_use(key)) {
        return Ok(Replacement::missing(Obstacle::successor(successor)));
    }
    let new = match like(old, successor.as_ref(), visitor.now()) {
        Ok(new) => new,
        Err(error) => return Ok(Replacement::missing(error)),
    };
    match new_key::make(state, visitor, form, &new).await {
        Ok((text, key)) => Ok(Replacement {
            new_key: Some(new_key::shown(state, visitor, &text, &key)),
            missing: None,
        }),
        Err(StoreError::Refused(Refusal::KeyLimitReached { max_keys })) => {
            Ok(Replacement::missing(Obstacle::Full { max_keys: usize::from(max_keys) }))
        }
        Err(StoreError::Refused(Refusal::AgainstPlan(_))) => Ok(Replacement::missing(
            "the settings of this key are no longer allowed for your account. Create a key with \
             other settings."
                .to_owned(),
        )),
        Err(
            error @ (StoreError::Refused(Refusal::FormSpent | Refusal::SessionOver)
            | StoreError::Unavailable(_)),
        ) => Err(error),
        Err(error) => {
            let error = &error as &dyn Error;
            tracing::error!(
                error,
                "revoked a compromised key, but failed to create its replacement"
            );
            Ok(Replacement::missing(
                "an internal error occurred. Check your list of keys. If it has no new key, create \
                 one."
                    .to_owned(),
            ))
        }
    }
}

/// The reason why a key cannot be replaced.
enum Obstacle {
    Suspended,
    /// The account's plan does not let its owner create keys.
    CreatedElsewhere,
    /// The key was rotated, and its newest successor is live.
    Successor {
        link: Link,
        enabled: bool,
    },
    /// Other keys have reached the cap, and revoking this key does not lower their number.
    Full {
        max_keys: usize,
    },
}

impl Obstacle {
    fn successor(key: &ApiKey) -> Self {
        let link = Link { label: key.hint.clone(), url: key_url(key.id) };
        Self::Successor { link, enabled: key.settings.enabled }
    }
}

impl From<Obstacle> for NotReplaced {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Suspended => "the account is suspended.".to_owned().into(),
            Obstacle::CreatedElsewhere => {
                "your platform creates the keys of your account. Ask it for a new one."
                    .to_owned()
                    .into()
            }
            Obstacle::Full { max_keys } => format!(
                "the account has reached its key limit ({max_keys}). Revoke a key, then create a \
                 new one."
            )
            .into(),
            Obstacle::Successor { link, enabled } => {
                let reason = if enabled {
                    "this key was already rotated. Its replacement still works:"
                } else {
                    "this key was already rotated. You can enable its replacement:"
                };
                Self { reason: reason.to_owned(), successor: Some(link) }
            }
        }
    }
}

impl From<String> for NotReplaced {
    fn from(reason: String) -> Self {
        Self { reason, successor: None }
    }
}

/// Returns the obstacle that is known before the revocation. Without an obstacle, the form offers a
/// replacement.
async fn obstacle(
    state: &AppState,
    visitor: &Visitor,
    key: &ApiKey,
) -> Result<Option<Obstacle>, StoreError> {
    if visitor.is_suspended() {
        return Ok(Some(Obstacle::Suspended));
    }
    if !visitor.plan().owner_creates_keys {
        return Ok(Some(Obstacle::CreatedElsewhere));
    }
    let successor = successor(state, visitor, key).await?;
    if let Some(successor) = successor.filter(is_in_use) {
        return Ok(Some(Obstacle::successor(&successor)));
    }
    let max_keys = cap(visitor);
    // A key that counts toward the cap no longer counts after its revocation.
    let full = !is_in_use(key) && count_toward_cap(&live_keys(state, visitor).await?) >= max_keys;
    Ok(full.then_some(Obstacle::Full { max_keys }))
}

/// Returns the newest successor of a rotated key. It may be revoked or expired.
async fn successor(
    state: &AppState,
    visitor: &Visitor,
    key: &ApiKey,
) -> Result<Option<ApiKey>, StoreError> {
    let mut successor = None;
    let mut next = key.rotated_to;
    for _ in 0..MOST_ROTATIONS {
        let Some(key_id) = next else { break };
        let key = state.store().find_api_key(visitor.tenant(), visitor.account(), key_id).await?;
        next = key.rotated_to;
        successor = Some(key);
    }
    Ok(successor)
}

/// Whether a key is live and was not rotated, so that it counts toward the cap.
fn is_in_use(key: &ApiKey) -> bool {
    key.status == KeyStatus::Live && key.rotated_to.is_none()
}

/// Returns the settings of the replacement, which equal the settings of the old key, except that
/// the replacement is enabled. If the expiry has passed, the replacement gets the same lifetime. A
/// rotated key expires at the end of its grace period, so the original expiry comes from its
/// successor.
fn like(old: &ApiKey, successor: Option<&ApiKey>, now: Timestamp) -> Result<KeySettings, String> {
    let lived = successor.unwrap_or(old);
    let expiry = match lived.settings.expires_at {
        None => None,
        Some(end) if end > now => Some(Expiry::at(end, now)),
        Some(end) => {
            let micros = end.unix_micros() - lived.created_at.unix_micros();
            Some(Expiry::after_seconds(micros / 1_000_000, now))
        }
    };
    let expiry = expiry.transpose().map_err(|error| error.to_string())?;
    let expires_at = expiry.map(Expiry::timestamp);
    Ok(KeySettings { expires_at, enabled: true, ..old.settings.clone() })
}

async fn page(
    state: &AppState,
    visitor: &Visitor,
    key: &ApiKey,
    form: &Form,
    obstacle: Option<Obstacle>,
) -> Result<CompromisedPage, Failure> {
    Ok(CompromisedPage {
        frame: visitor.form_frame("Compromised API key", Nav::Keys, form),
        key: key_head(key),
        form: form_token(form)?,
        since: form.field("since"),
        replace: form.has("replace"),
        live: key.status == KeyStatus::Live,
        disabled: !key.settings.enabled,
        clients: client_tables(state, visitor, key).await,
        not_replaced: obstacle.map(Into::into),
    })
}
