use crate::http;

pub fn run() -> anyhow::Result<()> {
    println!("{}", http::openapi_document().to_pretty_json()?);
    Ok(())
}
