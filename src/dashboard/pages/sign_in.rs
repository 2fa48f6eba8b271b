//! The pages for sign-in and sign-out.

use askama::Template;

use super::frame::Frame;
use crate::web::{fields::Field, format::TimeView, links::Link};

/// `GET /dashboard/{tenant}/login`: asks for the address of the account.
#[derive(Template)]
#[template(path = "dashboard/sign_in.html")]
pub struct SignInPage {
    pub frame: Frame,
    /// The path that receives the address, which is also the path of this page.
    pub action: String,
    /// The address, as the visitor typed it, and the error in it.
    pub address: Field,
    /// Whether the first sign-in creates the account.
    pub creates: bool,
}

/// The page with the message to sign, which is the response to the address.
#[derive(Template)]
#[template(path = "dashboard/signature.html")]
pub struct SignaturePage {
    pub frame: Frame,
    /// The path that receives the signature: `…/login/verify`.
    pub action: String,
    /// The path of the page that asks for the address: `…/login`.
    pub back_url: String,
    pub address: String,
    pub nonce: String,
    /// The message to sign, byte for byte.
    pub message: String,
    /// The time at which the message expires.
    pub expires: TimeView,
    /// The signature, which is empty on every new page, and the error in the previous signature.
    pub signature: Field,
}

/// `GET /dashboard/enter`: asks for confirmation before it uses a link. If the browser is signed in
/// to another account, the page also offers to stay there.
#[derive(Template)]
#[template(path = "dashboard/enter.html")]
pub struct EnterPage {
    /// The frame of the link's tenant, without a session.
    pub frame: Frame,
    /// The CSRF token of the browser's session. `None` without a session.
    pub csrf: Option<String>,
    /// The other account that the browser is signed in to, if any.
    pub present: Option<AccountName>,
    /// The account of the link.
    pub wanted: AccountName,
    /// The token of the link.
    pub token: String,
}

/// An account and its platform, as the confirmation page shows them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountName {
    /// The account's external id in full.
    pub full: String,
    /// The external id, shortened in the middle.
    pub short: String,
    /// The name of the platform, such as `TronAgg (test)`.
    pub platform: String,
}

/// `GET /dashboard/signed-out`, and the response to a form without a session.
#[derive(Template)]
#[template(path = "dashboard/signed_out.html")]
pub struct SignedOutPage {
    pub frame: Frame,
    /// Links to the platform or to its sign-in page, if they are known.
    pub links: Vec<Link>,
}
