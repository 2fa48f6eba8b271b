//! The clients that used a key, on its page and on the page of a compromised key.

use askama::{Template, filters::HtmlSafe};

use crate::web::format::TimeView;

/// The client of the last accepted request, the networks, and the last refusals of a key.
#[derive(Template)]
#[template(path = "dashboard/parts/key_clients.html")]
pub struct ClientTables {
    /// `None` if the key was never accepted.
    pub last: Option<LastUseView>,
    pub networks: Vec<NetworkRow>,
    pub refusals: Vec<RefusalRow>,
}

impl HtmlSafe for ClientTables {}

/// The last accepted request.
pub struct LastUseView {
    pub at: TimeView,
    pub client: ClientView,
}

/// A client. Each part is `None` if it is unknown.
pub struct ClientView {
    pub address: Option<String>,
    pub user_agent: Option<String>,
    /// The pattern of the route.
    pub route: Option<String>,
}

/// A network from which the key was used.
pub struct NetworkRow {
    pub network: String,
    pub first: TimeView,
    pub last: TimeView,
}

/// Equal refusals of one client, one after another.
pub struct RefusalRow {
    pub last: TimeView,
    /// The reason, as a sentence without a period.
    pub reason: &'static str,
    /// The number of requests, such as "12".
    pub count: String,
    pub client: ClientView,
}
