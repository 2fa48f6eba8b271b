//! The form with which an account's owner lowers the rate limits of a key. The platform's settings
//! decide whether owners may do this. No number of the owner can raise a limit.

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    failures::unanswered,
    key_claims::seen_limits,
    key_detail,
    key_fields::limit_field,
    key_in_path::KeyInPath,
    pages::{
        frame::Nav,
        limits::{KeyLimitsPage, LimitField},
    },
    session::Visitor,
    submission::Submission,
    views::{calls_words, key_head, key_url, window_words},
};
use crate::{
    domain::{
        id::KeyId,
        key_settings::KeyChange,
        lifecycle::KeyStatus,
        rate_limit::{CallLimit, OwnerLimits, RateLimit},
    },
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

/// `GET /dashboard/keys/{key_id}/limits`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %key_id))]
pub async fn ask(
    State(state): State<AppState>,
    visitor: Visitor,
    KeyInPath(key_id): KeyInPath,
) -> Result<Response, Failure> {
    let key = find(&state, &visitor, key_id).await?;
    if key.status != KeyStatus::Live {
        let dead = Refusal::KeyNotLive.into();
        return key_detail::refused(&state, &visitor, key_id, dead).await;
    }
    let limits = platform_limits(&state, &visitor, &key).await?;
    show(&page(&visitor, &key, &limits, &filled(&key, &limits)))
}

/// `POST /dashboard/keys/{key_id}/limits`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %key_id))]
pub async fn lower(
    State(state): State<AppState>,
    KeyInPath(key_id): KeyInPath,
    Submission { visitor, mut form }: Submission,
) -> Result<Response, Failure> {
    let key = find(&state, &visitor, key_id).await?;
    if key.status != KeyStatus::Live {
        let dead = Refusal::KeyNotLive.into();
        return key_detail::refused(&state, &visitor, key_id, dead).await;
    }
    let limits = platform_limits(&state, &visitor, &key).await?;
    let owner_limits = read(&mut form, &limits);
    if form.text("seen") != seen_limits(&visitor, &key) {
        let now = in_words(&key, &limits);
        form.refused(format!(
            "The limits of this key changed while you were editing them. Current lower limits: \
             {now}. Save again to overwrite them."
        ));
        return show_with(StatusCode::CONFLICT, &page(&visitor, &key, &limits, &form));
    }
    let Some(owner_limits) = owner_limits else {
        return show_with(StatusCode::BAD_REQUEST, &page(&visitor, &key, &limits, &form));
    };
    let change = KeyChange { owner_limits: Some(owner_limits), ..KeyChange::default() };
    match visitor.handle(&state).change_api_key(key_id, &change).await {
        Ok(changed) => {
            let saved = seen_limits(&visitor, &changed);
            Ok(see_other(&link(&key_url(key_id), &[("done", "limits"), ("seen", &saved)])))
        }
        Err(error @ StoreError::Unavailable(_)) => {
            form.refused(
                "The service is temporarily unavailable. The limits may or may not have been \
                 saved. Save them again in a moment.",
            );
            unanswered(error, &page(&visitor, &key, &limits, &form))
        }
        Err(error) => key_detail::refused(&state, &visitor, key_id, error).await,
    }
}

/// Finds the key. Fails if the owner may not lower rate limits.
async fn find(state: &AppState, visitor: &Visitor, key_id: KeyId) -> Result<ApiKey, Failure> {
    let key = state.store().find_api_key(visitor.tenant(), visitor.account(), key_id).await?;
    if !visitor.may_lower_limits() {
        return Err(Failure::LimitsFixed);
    }
    visitor.refuse_if_suspended()?;
    Ok(key)
}

/// Reads the limits of the key without the owner's lower numbers.
async fn platform_limits(
    state: &AppState,
    visitor: &Visitor,
    key: &ApiKey,
) -> Result<Vec<RateLimit>, Failure> {
    let defaults = state.store().tenant_limits(visitor.tenant()).await?.keys;
    Ok(key.settings.rate_limits.clone().unwrap_or_default().or_defaults(&defaults))
}

/// Returns the owner's number for a limit. `None` if it does not lower the limit.
fn lowered(key: &ApiKey, limit: &RateLimit) -> Option<CallLimit> {
    key.settings.owner_limits.get(&limit.name).filter(|calls| *calls < limit.calls)
}

/// Returns a form with the owner's numbers.
fn filled(key: &ApiKey, limits: &[RateLimit]) -> Form {
    let numbers = limits.iter().filter_map(|limit| {
        let calls = lowered(key, limit)?;
        Some((limit_field(&limit.name), calls.get().to_string()))
    });
    let numbers: Vec<(String, String)> = numbers.collect();
    Form::filled(numbers.iter().map(|(name, calls)| (name.as_str(), calls.clone())))
}

/// Describes the owner's numbers, such as "default: 10, orders: 5".
fn in_words(key: &ApiKey, limits: &[RateLimit]) -> String {
    let words = limits.iter().filter_map(|limit| {
        let calls = lowered(key, limit)?;
        Some(format!("{}: {}", limit.name, format::count(i64::from(calls.get()))))
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

/// Reads the owner's numbers, or returns `None` and adds the errors to the form. An empty field
/// removes the owner's number.
fn read(form: &mut Form, limits: &[RateLimit]) -> Option<OwnerLimits> {
    let mut owner_limits = OwnerLimits::default();
    for limit in limits {
        let parse = |text: &str| parse_calls(text.trim(), limit);
        let calls = form.optional(&limit_field(&limit.name), parse);
        owner_limits.set(limit.name.clone(), calls);
    }
    form.is_right().then_some(owner_limits)
}

fn parse_calls(text: &str, limit: &RateLimit) -> Result<CallLimit, String> {
    let max = i64::from(limit.calls.get());
    let not_a_number = || format!("must be a whole number from 1 to {}", format::count(max));
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(not_a_number());
    }
    // A number that does not fit is larger than every limit.
    let number = text.parse::<i64>().unwrap_or(i64::MAX);
    if number > max {
        let (calls, window) = (calls_words(limit.calls), window_words(limit.window));
        return Err(format!("must not exceed your platform's limit of {calls} {window}"));
    }
    CallLimit::try_from(number).map_err(|_| not_a_number())
}

fn page(visitor: &Visitor, key: &ApiKey, limits: &[RateLimit], form: &Form) -> KeyLimitsPage {
    let field = |limit: &RateLimit| {
        let id = limit_field(&limit.name);
        LimitField {
            name: limit.name.to_string(),
            calls: calls_words(limit.calls),
            window: window_words(limit.window),
            scope: limit.scope.as_ref().map(ToString::to_string),
            input: form.field(&id),
            id,
        }
    };
    KeyLimitsPage {
        frame: visitor.form_frame("Lower rate limits", Nav::Keys, form),
        key: key_head(key),
        seen: seen_limits(visitor, key),
        fields: limits.iter().map(field).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Vec<RateLimit> {
        ["default=1000/60s", "orders=1/7s@orders:write"]
            .map(|text| text.parse().expect("a rate limit"))
            .to_vec()
    }

    #[test]
    fn owner_can_lower_each_limit_and_an_empty_field_keeps_the_platform_limit() {
        let mut form = Form::parse(b"calls-default=+250+&calls-orders=&calls-unknown=7");
        let owner_limits = read(&mut form, &limits()).expect("valid fields");
        assert_eq!(owner_limits.to_value(), serde_json::json!({"default": 250}));
        let mut form = Form::parse(b"calls-default=1000&calls-orders=1");
        let owner_limits = read(&mut form, &limits()).expect("valid fields");
        assert_eq!(owner_limits.to_value(), serde_json::json!({"default": 1000, "orders": 1}));
    }

    #[test]
    fn number_outside_the_platform_limit_has_an_error_at_its_field() {
        let too_large = "Must not exceed your platform's limit of 1,000 calls per minute.";
        let malformed = "Must be a whole number from 1 to 1,000.";
        for (text, message) in [
            ("1001", too_large),
            ("99999999999999999999", too_large),
            ("0", malformed),
            ("-1", malformed),
            ("1.5", malformed),
            ("1,000", malformed),
            ("ten", malformed),
        ] {
            let mut form = Form::parse(format!("calls-default={text}&calls-orders=1").as_bytes());
            assert_eq!(read(&mut form, &limits()), None, "{text}");
            assert_eq!(form.error("calls-default").as_deref(), Some(message), "{text}");
            assert_eq!(form.errors().len(), 1, "{text}");
        }
        let mut form = Form::parse(b"calls-orders=2");
        assert_eq!(read(&mut form, &limits()), None);
        let message = "Must not exceed your platform's limit of 1 call per 7 seconds.";
        assert_eq!(form.error("calls-orders").as_deref(), Some(message));
    }
}
