//! The start page of the service.

use askama::Template;

use super::frame::Frame;

/// `GET /`: what the service is, and where to go next.
#[derive(Template)]
#[template(path = "dashboard/start.html")]
pub struct StartPage {
    pub frame: Frame,
    /// The version of the service.
    pub version: &'static str,
    /// The service serves its documentation.
    pub docs: bool,
    /// The service can answer requests.
    pub ready: bool,
}
