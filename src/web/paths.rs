//! Path parameters.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use super::failure::Failure;
use crate::domain::id::KeyId;

/// The parameters of the path. What cannot be read names nothing.
pub struct InPath<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(parameters)| Self(parameters)).map_err(|_| Failure::NotFound)
    }
}

/// The key in the path. What is no key's id names no key.
pub struct KeyInPath(pub KeyId);

impl<S: Send + Sync> FromRequestParts<S> for KeyInPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let InPath(text) = InPath::<String>::from_request_parts(parts, state).await?;
        text.parse().map(Self).map_err(|_| Failure::NotFound)
    }
}
