//! The HTTP interface, built on axum.
//!
//! [`transport`] contains the listener and the code that serves every request. [`api`] contains the
//! resources, grouped by the credential that they require. [`routes`] lists all routes, and
//! [`router`](self::router()) adds all layers. [`csv_download`] sends the files of the API and of
//! the dashboard.

mod api;
mod book;
mod csv_download;
mod docs;
mod nearest_route;
mod openapi;
mod problem;
mod router;
mod routes;
mod start;
mod transport;

pub use book::BOOK_PATH;
pub use csv_download::{Credential, CsvDownload, CsvLines, LINES_AT_ONCE};
pub use docs::docs;
pub use openapi::document as openapi_document;
pub use router::{operations_router, router, waiting_router};
pub use start::start;
pub use transport::{
    connections::{Connections, RESERVE},
    forwarded::TrustedProxies,
    limits::ServerLimits,
    refusal_log::RefusalLog,
    server::serve,
};
