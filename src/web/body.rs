//! Reads the bodies of requests, of the API too.

use std::{future::poll_fn, pin::pin};

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

/// The whole body of a request.
pub struct WholeBody {
    pub bytes: Bytes,
    /// Whether a part of it was still to arrive when the reading began. Anything that was checked
    /// before may have changed since.
    pub waited: bool,
}

/// Reads the whole body, if it is not larger than its route accepts. If the request declares a
/// larger one, nothing is read: a client that waits for `100 Continue` need not send it, and one
/// that sends it slowly gets the answer immediately.
pub async fn read_whole(request: Request) -> Result<WholeBody, BodyError> {
    let declared = request.body().size_hint().lower();
    let body = request.into_limited_body();
    if body.size_hint().upper().is_some_and(|largest| largest < declared) {
        return Err(BodyError::TooLarge);
    }
    let mut reading = pin!(body.collect());
    let mut waited = false;
    let collected = poll_fn(|context| {
        let collected = reading.as_mut().poll(context);
        waited |= collected.is_pending();
        collected
    });
    let collected = collected.await.map_err(|error| {
        let is_too_large = error.into_inner().is::<LengthLimitError>();
        if is_too_large { BodyError::TooLarge } else { BodyError::Broken }
    })?;
    Ok(WholeBody { bytes: collected.to_bytes(), waited })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn body_is_waited_for_only_if_a_part_of_it_is_still_to_arrive() {
        let late = stream::once(async {
            tokio::task::yield_now().await;
            Ok::<_, Infallible>("ab")
        });
        for (body, waited) in
            [(Body::empty(), false), (Body::from("ab"), false), (Body::from_stream(late), true)]
        {
            let whole = read_whole(Request::new(body)).await.expect("a body");
            assert_eq!(whole.waited, waited, "{:?}", whole.bytes);
        }
    }
}
