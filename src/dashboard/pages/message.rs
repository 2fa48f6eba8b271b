//! The page with one message, which describes a failure and the next step.

use askama::Template;

use super::frame::Frame;
use crate::web::links::Link;

/// The page for a failure, such as an expired link or a page that does not exist.
#[derive(Template)]
#[template(path = "dashboard/message.html")]
pub struct MessagePage {
    pub frame: Frame,
    pub heading: String,
    /// The paragraphs below the heading.
    pub text: Vec<String>,
    /// The button below the text.
    pub link: Option<Link>,
    /// The request's id, which the user can send to support. `None` unless the server caused the
    /// failure.
    pub request_id: Option<String>,
}
