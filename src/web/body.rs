//! Reads the bodies of requests, of the API too.

use axum::{
    RequestExt as _,
    body::{Bytes, HttpBody as _},
    extract::Request,
};
use http_body_util::{BodyExt as _, LengthLimitError};

/// Why a body was not read to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyError {
    /// It is larger than its route accepts.
    TooLarge,
    /// It broke off.
    Broken,
}

/// Reads the whole body, if it is not larger than its route accepts. If the request declares a
/// larger one, nothing is read: a client that waits for `100 Continue` need not send it, and one
/// that sends it slowly gets the answer immediately.
pub async fn read_whole(request: Request) -> Result<Bytes, BodyError> {
    let declared = request.body().size_hint().lower();
    let body = request.into_limited_body();
    if body.size_hint().upper().is_some_and(|largest| largest < declared) {
        return Err(BodyError::TooLarge);
    }
    let collected = body.collect().await.map_err(|error| {
        let is_too_large = error.into_inner().is::<LengthLimitError>();
        if is_too_large { BodyError::TooLarge } else { BodyError::Broken }
    })?;
    Ok(collected.to_bytes())
}
