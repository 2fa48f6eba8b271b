//! The start page of the service.

use askama::Template;

use super::frame::Frame;

/// `GET /`: describes the service and links to its documentation.
#[derive(Template)]
#[template(path = "dashboard/start.html")]
pub struct StartPage {
    pub frame: Frame,
    /// The version of the service.
    pub version: &'static str,
    /// Whether the service serves its documentation.
    pub docs: bool,
    /// Whether the readiness check succeeds.
    pub ready: bool,
}
