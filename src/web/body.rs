//! Reads request bodies, for the pages and for the API.

use std::{future::poll_fn, pin::pin};

use axum::{
    RequestExt as _,
    body::{Bytes, HttpBody as _},
    extract::Request,
};
use http_body_util::{BodyExt as _, LengthLimitError};

/// The reason why a body could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyError {
    /// The body is larger than its route accepts.
    TooLarge,
    /// The connection failed before the end of the body.
    Broken,
}

/// The whole body of a request.
pub struct WholeBody {
    pub bytes: Bytes,
    /// Whether the reader had to wait for a part of the body. If so, anything that was checked
    /// before may have changed.
    pub waited: bool,
}

/// Reads the whole body, up to the size that its route accepts. If the request declares a larger
/// body, reads nothing. Then a client that waits for `100 Continue` need not send the body, and a
/// slow client gets the response immediately.
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
    async fn reader_waits_only_for_a_body_that_has_not_arrived() {
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
