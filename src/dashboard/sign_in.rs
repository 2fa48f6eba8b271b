//! Sign-in with a wallet: a signature proves that the visitor owns the account.
//!
//! A page sets a cookie and asks for an address. The response is a message with a nonce, which is
//! bound to the cookie, the address and the host. A valid signature of the message opens the
//! session. Every attempt spends its nonce, and after an invalid signature the page shows a new
//! message.

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts as _, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};

use super::{
    cookies::{Cookie, LastSignIn},
    pages::{
        frame::Frame,
        sign_in::{SignInPage, SignaturePage},
    },
    platform::Platform,
    session::{Newcomer, form_errors},
};
use crate::{
    domain::{
        account::{AccountFormat, ExternalId, ExternalIdError},
        audit::Origin,
        dashboard::{SignInMessage, WalletSignIn},
        session_token::SessionToken,
        timestamp::Timestamp,
        tron_message,
    },
    entropy,
    state::AppState,
    store::{NewSignIn, SignInAttempt, SignInOutcome, StoreError},
    web::{
        cookies::with_cookies,
        failure::Failure,
        fields::Field,
        format,
        forms::{Form, read_body},
        guard::{csrf_token, is_csrf_token},
        respond::{see_other, show_with},
    },
};

/// The pages of the sign-in, and the message to sign.
impl Platform {
    fn frame(&self, title: &str, browser: &SessionToken, form: &Form) -> Frame {
        Frame { csrf: csrf_token(browser), errors: form_errors(form), ..self.frame_when_out(title) }
    }

    fn address_page(&self, browser: &SessionToken, form: &Form) -> SignInPage {
        SignInPage {
            frame: self.frame("Sign in", browser, form),
            action: self.login_url(),
            address: form.field("address"),
            creates: self.settings.wallet_sign_in == WalletSignIn::Create,
        }
    }

    /// Responds (429) with the page that asks for the address. Its error says how long to wait.
    fn too_many(
        &self,
        browser: &SessionToken,
        address: &ExternalId,
        retry_after_seconds: i64,
    ) -> Result<Response, Failure> {
        let mut form = Form::filled([("address", address.as_str().to_owned())]);
        let wait = wait_words(retry_after_seconds);
        form.wrong("address", format!("too many recent sign-in attempts. Try again {wait}"));
        let page = self.address_page(browser, &form);
        let mut response = show_with(StatusCode::TOO_MANY_REQUESTS, &page)?;
        let retry_after = HeaderValue::from(retry_after_seconds);
        response.headers_mut().insert(header::RETRY_AFTER, retry_after);
        Ok(response)
    }

    /// Returns the message to sign for an address.
    fn message(
        &self,
        state: &AppState,
        address: &ExternalId,
        nonce: &SessionToken,
        issued_at: Timestamp,
    ) -> String {
        SignInMessage {
            public_url: state.public_url(),
            platform: self.settings.shown_name(&self.tenant),
            address: address.as_str(),
            nonce: nonce.expose(),
            issued_at,
        }
        .to_string()
    }
}

/// A form that a sign-in page submitted, and the cookie of that page.
pub struct SignInForm {
    platform: Platform,
    browser: SessionToken,
    form: Form,
}

impl FromRequest<AppState> for SignInForm {
    type Rejection = Failure;

    async fn from_request(request: Request<Body>, state: &AppState) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        let platform = Platform::from_request_parts(&mut parts, state).await?;
        let browser = browser(&parts.headers, state).ok_or(Failure::StaleForm)?;
        let form = read_body(Request::from_parts(parts, body), state.limits().body_timeout).await?;
        if is_csrf_token(form.text("csrf"), &browser) {
            Ok(Self { platform, browser, form })
        } else {
            Err(Failure::StaleForm)
        }
    }
}

fn browser(headers: &HeaderMap, state: &AppState) -> Option<SessionToken> {
    Cookie::SignIn.read(headers, state.public_url().is_secure())
}

fn parse_address(text: &str) -> Result<ExternalId, ExternalIdError> {
    ExternalId::parse(text.trim(), AccountFormat::Tron)
}

/// `GET /dashboard/{tenant}/login` and `GET /dashboard/{tenant}/test/login`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %platform.tenant.slug))]
pub async fn ask(
    State(state): State<AppState>,
    platform: Platform,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let browser = match browser(&headers, &state) {
        Some(browser) => browser,
        None => entropy::new_session_token()?,
    };
    let response = show_with(StatusCode::OK, &platform.address_page(&browser, &Form::default()))?;
    // If the browser already has the cookie, the response renews it for another ten minutes.
    let cookie = Cookie::SignIn.set(&browser, state.public_url().is_secure());
    Ok(with_cookies(response, [cookie]))
}

/// `POST …/login`: reads the address and responds with the message.
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %platform.tenant.slug))]
pub async fn start(
    State(state): State<AppState>,
    Newcomer(origin): Newcomer,
    SignInForm { platform, browser, mut form }: SignInForm,
) -> Result<Response, Failure> {
    match form.read("address", parse_address) {
        Some(address) => {
            let asked = Asked { state: &state, platform: &platform, browser: &browser };
            let form = Form::default();
            let response = asked.show_message(StatusCode::OK, &address, &form, &origin).await?;
            let cookie = Cookie::SignIn.set(&browser, state.public_url().is_secure());
            Ok(with_cookies(response, [cookie]))
        }
        None => show_with(StatusCode::BAD_REQUEST, &platform.address_page(&browser, &form)),
    }
}

/// `POST …/login/verify`: reads the signature. Opens the session, or responds with another message.
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %platform.tenant.slug))]
pub async fn verify(
    State(state): State<AppState>,
    Newcomer(origin): Newcomer,
    SignInForm { platform, browser, mut form }: SignInForm,
) -> Result<Response, Failure> {
    let Some(address) = form.read("address", parse_address) else {
        return show_with(StatusCode::BAD_REQUEST, &platform.address_page(&browser, &form));
    };
    let session = entropy::new_session_token()?;
    let asked = Asked { state: &state, platform: &platform, browser: &browser };
    match asked.finish(&address, &form, &session, &origin).await? {
        SignInOutcome::Open(_) => {
            let secure = state.public_url().is_secure();
            let cookies = [
                Cookie::Session.set(&session, secure),
                Cookie::SignIn.clear(secure),
                LastSignIn::at(&platform.tenant).set(secure),
            ];
            return Ok(with_cookies(see_other("/dashboard/keys"), cookies));
        }
        SignInOutcome::NoAccount => {
            let name = platform.settings.shown_name(&platform.tenant);
            form.wrong("address", format!("no account at {name} has this address"));
            return show_with(StatusCode::BAD_REQUEST, &platform.address_page(&browser, &form));
        }
        SignInOutcome::Spent => {
            form.wrong(
                "signature",
                "this message was already used or has expired. Sign the new one",
            );
        }
        SignInOutcome::WrongSignature(error) => form.wrong("signature", error.to_string()),
    }
    asked.show_message(StatusCode::BAD_REQUEST, &address, &form, &origin).await
}

/// The browser that asks for a sign-in, and the platform.
struct Asked<'a> {
    state: &'a AppState,
    platform: &'a Platform,
    browser: &'a SessionToken,
}

impl Asked<'_> {
    async fn finish(
        &self,
        address: &ExternalId,
        form: &Form,
        session: &SessionToken,
        origin: &Origin,
    ) -> Result<SignInOutcome, StoreError> {
        let Ok(nonce) = SessionToken::parse(form.text("nonce")) else {
            return Ok(SignInOutcome::Spent);
        };
        let attempt = self.attempt(address, &nonce);
        let signature = form.text("signature").trim();
        let check = |issued_at| {
            let message = self.platform.message(self.state, address, &nonce, issued_at);
            tron_message::verify(address.as_str(), &message, signature)
        };
        let tenant = &self.platform.tenant;
        self.state.store().finish_sign_in(tenant, &attempt, session, origin, check).await
    }

    /// Responds with a new message and the error in the last signature. After too many attempts,
    /// responds with the time to wait instead.
    async fn show_message(
        &self,
        status: StatusCode,
        address: &ExternalId,
        form: &Form,
        origin: &Origin,
    ) -> Result<Response, Failure> {
        let platform = self.platform;
        let nonce = entropy::new_session_token()?;
        let attempt = self.attempt(address, &nonce);
        let started = self.state.store().start_sign_in(&platform.tenant, &attempt, origin).await?;
        let (issued_at, expires_at) = match started {
            NewSignIn::Made { issued_at, expires_at } => (issued_at, expires_at),
            NewSignIn::TooMany { retry_after_seconds } => {
                return platform.too_many(self.browser, address, retry_after_seconds);
            }
        };
        let login_url = platform.login_url();
        let page = SignaturePage {
            frame: platform.frame("Sign the message", self.browser, form),
            action: format!("{login_url}/verify"),
            back_url: login_url,
            address: address.as_str().to_owned(),
            nonce: nonce.expose().to_owned(),
            message: platform.message(self.state, address, &nonce, issued_at),
            expires: format::moment(expires_at, Some(issued_at)),
            // The last signature is not valid for the new message.
            signature: Field { value: String::new(), error: form.error("signature") },
        };
        show_with(status, &page)
    }

    fn attempt<'b>(
        &'b self,
        address: &'b ExternalId,
        nonce: &'b SessionToken,
    ) -> SignInAttempt<'b> {
        SignInAttempt {
            address,
            nonce,
            browser: self.browser,
            host: self.state.public_url().host(),
        }
    }
}

/// Describes how long to wait: `in a moment`, `in a minute`, `in 4 minutes`.
fn wait_words(seconds: i64) -> String {
    match seconds {
        ..=10 => "in a moment".to_owned(),
        11..=60 => "in a minute".to_owned(),
        _ => format!("in {} minutes", (seconds + 59) / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_to_wait_is_written_in_words() {
        for (seconds, words) in [
            (1, "in a moment"),
            (11, "in a minute"),
            (60, "in a minute"),
            (61, "in 2 minutes"),
            (300, "in 5 minutes"),
        ] {
            assert_eq!(wait_words(seconds), words, "{seconds}");
        }
    }
}
