//! The pages for sign-in and sign-out.

use askama::Template;

use super::frame::Frame;
use crate::web::{fields::Field, format::TimeView, links::Link};

/// `GET /dashboard/{tenant}/login`: which account?
#[derive(Template)]
#[template(path = "dashboard/sign_in.html")]
pub struct SignInPage {
    pub frame: Frame,
    /// Where the address is sent: this page's own path.
    pub action: String,
    /// The field `address`.
    pub address: Field,
    /// An account is made at the first sign-in.
    pub creates: bool,
}

/// The answer to the address: the message to sign.
#[derive(Template)]
#[template(path = "dashboard/signature.html")]
pub struct SignaturePage {
    pub frame: Frame,
    /// Where the signature is sent: `…/login/verify`.
    pub action: String,
    /// Back to the address: `…/login`.
    pub back_url: String,
    pub address: String,
    pub nonce: String,
    /// The message as it is to be signed, byte for byte.
    pub message: String,
    /// When the message can no longer be used.
    pub expires: TimeView,
    /// The field `signature`.
    pub signature: Field,
}

/// `GET /dashboard/enter`: asks before a link is used. In a browser that is in another account: go
/// on as the other, or stay?
#[derive(Template)]
#[template(path = "dashboard/enter.html")]
pub struct EnterPage {
    /// That of the link's tenant, without a session.
    pub frame: Frame,
    /// The CSRF token of the session that the browser is in; `None`: it is in none.
    pub csrf: Option<String>,
    /// The other account that the browser is in; `None`: it is in none, or in the link's.
    pub present: Option<AccountName>,
    /// Whose the link is.
    pub wanted: AccountName,
    /// The token of the link.
    pub token: String,
}

/// An account, and where it is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountName {
    /// The whole id.
    pub full: String,
    /// Shortened in the middle.
    pub short: String,
    /// The platform, such as `TronAgg (test)`.
    pub platform: String,
}

/// `GET /dashboard/signed-out`, and what a request without a session is told.
#[derive(Template)]
#[template(path = "dashboard/signed_out.html")]
pub struct SignedOutPage {
    pub frame: Frame,
    /// The platform, or its page for signing in, where they are known.
    pub links: Vec<Link>,
}
