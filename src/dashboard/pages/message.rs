//! A page with one message: what went wrong, and where to go next.

use askama::Template;

use super::frame::Frame;
use crate::web::links::Link;

/// The page for a failure, such as an expired link or a page that does not exist.
#[derive(Template)]
#[template(path = "dashboard/message.html")]
pub struct MessagePage {
    pub frame: Frame,
    pub heading: String,
    /// The paragraphs.
    pub text: Vec<String>,
    /// The button below the text.
    pub link: Option<Link>,
    /// The request id for support.
    pub request_id: Option<String>,
}
