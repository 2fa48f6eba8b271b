//! A new key: the form, and the one page that shows its text.

use askama::Template;
use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};

use super::{
    key_fields::{Expires, KeyInput, last_day},
    keys::{cap, count_toward_cap, live_keys},
    pages::{
        frame::Nav,
        key_form::{KeyFields, KeyFormPage, expiry_choices, period_choices},
        key_shown::{KeyShownPage, NewKey},
        key_views::KeyHead,
        keys::{KeyLimitPage, LiveKey},
    },
    session::Visitor,
    submission::Submission,
    views::key_head,
};
use crate::{
    auth::Problem,
    domain::{api_key::KeyText, scope::ScopeSet, session_token::SessionToken, text::Metadata},
    entropy,
    state::AppState,
    store::{ApiKey, FormClaim, NewApiKey, Refusal, StoreError},
    web::{
        failure::Failure,
        fields::Field,
        format,
        forms::Form,
        respond::{show, show_with},
    },
};

/// What is offered first: long enough to be of use, short enough to be looked after.
const OFFERED_LIFE: &str = "90";

/// `GET /dashboard/keys/new`
pub async fn ask(State(state): State<AppState>, visitor: Visitor) -> Result<Response, Failure> {
    visitor.refuse_if_suspended()?;
    let live = live_keys(&state, &visitor).await?;
    if count_toward_cap(&live) >= cap(&visitor) {
        return show(&limit_page(&visitor, live));
    }
    let (access, scopes) = access_fields(&visitor.tenant().policy.default_scopes);
    let form = Form::filled([
        ("access", access.to_owned()),
        ("scopes", scopes),
        ("expires", OFFERED_LIFE.to_owned()),
        ("limit_period", "month".to_owned()),
    ]);
    show(&create_page(&visitor, &form, Some(count_toward_cap(&live)))?)
}

/// `POST /dashboard/keys/new`
pub async fn create(
    State(state): State<AppState>,
    Submission { visitor, mut form }: Submission,
) -> Result<Response, Failure> {
    visitor.refuse_if_suspended()?;
    let single_use = form.single_use()?;
    let Some(input) = KeyInput::read(&mut form, visitor.now(), visitor.tenant(), false) else {
        return again(&state, &visitor, &form, StatusCode::BAD_REQUEST).await;
    };
    let new = NewApiKey {
        name: input.name,
        scopes: input.scopes,
        expiry: match input.expires {
            Expires::At(expiry) => Some(expiry),
            Expires::Never | Expires::Keep => None,
        },
        metadata: Metadata::default(),
        spend_limit: input.spend_limit,
    };
    match make(&state, &visitor, &single_use, &new).await {
        Ok((text, key)) => show(&KeyShownPage {
            frame: visitor.frame("Your new API key", Nav::Keys),
            new_key: shown(&state, &visitor, &text, &key),
            rotated: None,
            disabled: false,
        }),
        Err(StoreError::Refused(Refusal::KeyLimitReached { max_keys })) => {
            form.refused(format!(
                "You have all the keys that you may have: {max_keys}. Revoke one to make room."
            ));
            again(&state, &visitor, &form, StatusCode::CONFLICT).await
        }
        Err(StoreError::Refused(Refusal::ExpiryPassed)) => {
            form.wrong("expires", "the expiry lies in the past");
            again(&state, &visitor, &form, StatusCode::BAD_REQUEST).await
        }
        Err(error @ StoreError::Unavailable(_)) => {
            form.refused(
                "We cannot answer right now, and do not know whether the key is made. Send this \
                 form again in a moment: it makes one key at most.",
            );
            unanswered(error, &create_page(&visitor, &form, None)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes a key for the account, unless this form made one. Its text is to be shown, and is then gone.
pub async fn make(
    state: &AppState,
    visitor: &Visitor,
    form: &SessionToken,
    new: &NewApiKey,
) -> Result<(KeyText, ApiKey), StoreError> {
    let text = entropy::new_key(&visitor.tenant().policy.prefix)?;
    let claim = FormClaim { session: visitor.session(), form };
    let key = state.store().create_api_key_by_form(&claim, &text, new, visitor.origin()).await?;
    Ok((text, key))
}

/// The token of a form that makes a key: that with which it was sent, if it was. It is used up only
/// by a key that was made, so whatever became of a form, it can be sent again.
pub fn form_token(form: &Form) -> Result<String, Failure> {
    let token = form.single_use().or_else(|_| entropy::new_session_token())?;
    Ok(token.expose().to_owned())
}

/// A form once more, with what was typed, because the database did not answer to it: 503.
pub fn unanswered(error: StoreError, page: &impl Template) -> Result<Response, Failure> {
    let problem = Problem::from(error);
    let mut response = show_with(problem.status(), page)?;
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    // For the log.
    response.extensions_mut().insert(problem);
    Ok(response)
}

/// A new key with its text, as a page shows it.
pub fn shown(state: &AppState, visitor: &Visitor, text: &KeyText, key: &ApiKey) -> NewKey {
    let slug = visitor.tenant().slug.as_str();
    NewKey {
        head: key_head(key),
        text: text.expose().to_owned(),
        env_name: env_name(slug),
        example_url: format!("{}/v1/me", state.public_url()),
    }
}

/// The slug in capitals: what a shell takes for the name of a variable.
fn env_name(slug: &str) -> String {
    format!("{}_API_KEY", slug.to_ascii_uppercase().replace('-', "_"))
}

async fn again(
    state: &AppState,
    visitor: &Visitor,
    form: &Form,
    status: StatusCode,
) -> Result<Response, Failure> {
    // Without the number the form is as good.
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
    };
    Ok(key_form_page(visitor, form, "New API key", live_count, place))
}

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

/// The keys that take the places: the one that was not used for longest comes first.
fn limit_page(visitor: &Visitor, mut live: Vec<ApiKey>) -> KeyLimitPage {
    live.retain(|key| key.rotated_to.is_none());
    live.sort_by_key(|key| (key.last_used_at, key.created_at));
    let key = |key: &ApiKey| LiveKey {
        head: key_head(key),
        last_used: key.last_used_at.map(|at| format::moment(at, Some(visitor.now()))),
    };
    KeyLimitPage {
        frame: visitor.frame("New API key", Nav::Keys),
        live_count: live.len(),
        max_keys: cap(visitor),
        keys: live.iter().map(key).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_makes_the_name_of_a_variable() {
        assert_eq!(env_name("tronagg"), "TRONAGG_API_KEY");
        assert_eq!(env_name("trade-tally2"), "TRADE_TALLY2_API_KEY");
    }

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
