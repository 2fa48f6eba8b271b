//! The URL of a service that has no public URL.

use std::net::SocketAddr;

use anyhow::Context as _;

use crate::domain::dashboard::WebOrigin;

/// Returns the URL at which a browser on this machine reaches a service that listens on this
/// address.
pub fn local_url(address: SocketAddr) -> anyhow::Result<WebOrigin> {
    let (ip, port) = (address.ip().to_canonical(), address.port());
    let url = if ip.is_loopback() {
        format!("http://{}", SocketAddr::new(ip, port))
    } else {
        format!("http://localhost:{port}")
    };
    WebOrigin::parse(&url).with_context(|| format!("{url} cannot be the URL of the dashboard"))
}
