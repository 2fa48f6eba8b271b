//! The key that the path of a page names.

use axum::{extract::FromRequestParts, http::request::Parts};

use crate::{
    domain::id::KeyId,
    web::{failure::Failure, paths::InPath},
};

/// The id of a key in the path. A malformed id gets the response for an unknown id.
pub struct KeyInPath(pub KeyId);

impl<S: Send + Sync> FromRequestParts<S> for KeyInPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let InPath(text) = InPath::<String>::from_request_parts(parts, state).await?;
        text.parse().map(Self).map_err(|_| Failure::NotFound)
    }
}
