use super::output::outln;
use crate::http;

pub fn run() -> anyhow::Result<()> {
    outln!("{}", http::openapi_document().to_pretty_json()?)
}
