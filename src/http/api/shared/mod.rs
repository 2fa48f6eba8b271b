//! Code that several resources share: bodies, parameters, pages, problems and replays.

pub mod admin;
pub mod allowed_ips;
pub mod amounts;
pub mod api_key;
pub mod buyer;
pub mod fields;
#[cfg(test)]
mod fields_tests;
pub mod headers;
pub mod hold;
pub mod in_flight;
pub mod page;
pub mod params;
pub mod problems;
pub mod purchase;
pub mod rate_limit_state;
pub mod rate_limits;
pub mod replay;
pub mod schemas;
pub mod strict_json;
