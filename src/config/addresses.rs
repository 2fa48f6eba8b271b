//! Settings of the address on which the service listens, and of its public URL.

use std::net::SocketAddr;

use clap::Args;

use super::{
    error::ConfigError,
    reader::{ADDRESS_FORMS, Reader, read_address},
};
use crate::domain::dashboard::WebOrigin;

/// The address and port on which the service listens by default.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

/// The address on which the service listens, and its public URL.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "HTTP")]
pub struct AddressArgs {
    /// Address and port of the HTTP interface [default: 127.0.0.1:8080]
    ///
    /// Tollgate serves plain HTTP/1.1. If clients connect from other machines, put a proxy that
    /// terminates TLS in front of Tollgate. With 0.0.0.0, Tollgate listens on all IPv4 addresses.
    #[arg(long, env = "TOLLGATE_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,

    /// Origin at which browsers reach the dashboard, such as https://keys.example.com [default:
    /// http:// and the address of TOLLGATE_LISTEN, or localhost if that is not a loopback address]
    /// [allowed: https:// and a host, or http:// and a loopback host, without a path]
    ///
    /// Dashboard links, the documentation_url of errors, and the URLs in the JSON of GET / begin
    /// with this origin. The dashboard accepts forms only from it.
    #[arg(long, env = "TOLLGATE_PUBLIC_URL", value_name = "ORIGIN")]
    pub public_url: Option<String>,
}

/// The listening address and the public URL, resolved from the settings.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub listen: SocketAddr,
    /// `None` means the URL of the address on which the service listens.
    pub public_url: Option<WebOrigin>,
}

impl AddressArgs {
    pub fn resolve(&self) -> Result<Addresses, ConfigError> {
        let mut reader = Reader::default();
        let resolved = self.read(&mut reader);
        reader.finish(resolved)
    }

    pub(super) fn read(&self, reader: &mut Reader) -> Option<Addresses> {
        let listen = self.listen.as_deref();
        let listen = reader
            .value("TOLLGATE_LISTEN", listen, ADDRESS_FORMS, read_address)
            .unwrap_or_else(|| read_address(DEFAULT_LISTEN));
        let public_url = reader.value(
            "TOLLGATE_PUBLIC_URL",
            self.public_url.as_deref(),
            "https:// and a host, or http:// and a loopback host, without a path",
            |text| WebOrigin::parse(text).ok().map(Some),
        );
        let public_url = public_url.unwrap_or(Some(None));
        Some(Addresses { listen: listen?, public_url: public_url? })
    }
}
