//! The style sheet, the scripts and the icon, which the binary contains. The path of each file
//! contains the hash of its content, so that a browser requests it only once.

use std::{collections::BTreeMap, fmt::Write as _, sync::LazyLock};

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use rust_embed::Embed;

use crate::web::{failure::Failure, paths::InPath, respond::FOR_EVER};

#[derive(Embed)]
#[folder = "src/dashboard/assets/"]
struct Files;

/// Number of bytes of the hash in a path.
const HASH_BYTES: usize = 8;

static URLS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let url = |name: &str| {
        let file = Files::get(name).expect("every name is the name of a file");
        format!("/dashboard/assets/{}/{name}", shown_hash(&file.metadata.sha256_hash()))
    };
    Files::iter().map(|name| (name.to_string(), url(&name))).collect()
});

/// Returns the URL of a file.
///
/// # Panics
///
/// If the file does not exist. Callers pass literal names.
pub fn url(name: &str) -> String {
    URLS.get(name).cloned().expect("callers pass the name of a file")
}

fn shown_hash(hash: &[u8; 32]) -> String {
    hash[..HASH_BYTES].iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

/// Serves a file only under its current hash, because browsers cache the response permanently.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn get(InPath((hash, name)): InPath<(String, String)>) -> Result<Response, Failure> {
    let file = Files::get(&name).ok_or(Failure::NotFound)?;
    if shown_hash(&file.metadata.sha256_hash()) != hash {
        return Err(Failure::NotFound);
    }
    let media_type = match name.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => return Err(Failure::NotFound),
    };
    let media_type = (header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(([media_type, FOR_EVER], file.data).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_asset_of_the_pages_has_a_hashed_url() {
        for name in ["dashboard.css", "dashboard.js", "theme.js", "favicon.svg"] {
            let url = url(name);
            let (path, file) = url.rsplit_once('/').expect("a path");
            assert_eq!(file, name);
            let hash = path.strip_prefix("/dashboard/assets/").expect("the path of assets");
            assert_eq!(hash.len(), 2 * HASH_BYTES);
        }
    }
}
