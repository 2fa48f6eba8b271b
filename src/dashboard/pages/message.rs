//! A page with one message: what went wrong, and where to go next.

use askama::Template;

use super::frame::Frame;
use crate::web::links::Link;

/// A dead link, a page that is not there, a form that was sent twice, and the like.
#[derive(Template)]
#[template(path = "dashboard/message.html")]
pub struct MessagePage {
    pub frame: Frame,
    pub heading: String,
    /// A paragraph each.
    pub text: Vec<String>,
    /// Where to go on.
    pub link: Option<Link>,
    /// For support, where there is one.
    pub request_id: Option<String>,
}
