//! The setting of trusted proxies, and the header `X-Forwarded-For`.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use tollgate::http::TrustedProxies;

fuzz_target!(|input: (&str, &[u8], &[u8])| {
    let (networks, first, second) = input;
    let _ = TrustedProxies::parse(networks);
    let proxies = TrustedProxies::parse("10.0.0.0/8,fd00::/8").expect("networks");
    let mut headers = HeaderMap::new();
    for line in [first, second] {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append("x-forwarded-for", value);
        }
    }
    let peer = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    let client = proxies.client(peer, &headers);
    assert_eq!(client, client.to_canonical());
    // The client is the last address, which the trusted proxy has appended.
    headers.append("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
    assert_eq!(proxies.client(peer, &headers), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
});
