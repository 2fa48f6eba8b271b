//! The body of a request, which the connection can read to its end after the answer is known.
//!
//! A server that answers before it has read the body, and then closes the connection, resets it:
//! the client may lose the answer, and a proxy takes the node for failed.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

/// Maximum number of bytes that are read and discarded to keep a connection.
const DISCARDED_BYTES: u64 = 1024 * 1024;

/// How long bytes are read and discarded to keep a connection.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// A request's body with two owners: the handler, which reads what it needs, and the connection,
/// which discards the rest.
#[derive(Clone)]
pub struct RequestBody(Arc<Shared>);

struct Shared {
    incoming: Mutex<Incoming>,
    /// Whether it was read. The first read sends `100 Continue`, if the client waits for that.
    started: AtomicBool,
    /// Whether it was read to its end.
    ended: AtomicBool,
    /// Whether it broke off, or is malformed.
    broken: AtomicBool,
}

impl RequestBody {
    pub fn new(incoming: Incoming) -> Self {
        Self(Arc::new(Shared {
            incoming: Mutex::new(incoming),
            started: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        }))
    }

    /// Reads and discards what the handler has left of the body. Returns whether the connection can
    /// be used for another request.
    pub async fn discard(mut self, headers: ExpectsContinue) -> bool {
        if self.0.broken.load(Ordering::Relaxed) {
            return false;
        }
        if self.0.ended.load(Ordering::Relaxed) || self.is_end_stream() {
            return true;
        }
        // This client sends the body only if it is asked to. It may also send it unasked.
        if headers.0 && !self.0.started.load(Ordering::Relaxed) {
            return false;
        }
        let mut left = DISCARDED_BYTES;
        if self.size_hint().lower() > left {
            return false;
        }
        let discard = async {
            while let Some(frame) = self.frame().await {
                let Ok(frame) = frame else { return false };
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                let Some(still_left) = left.checked_sub(bytes) else { return false };
                left = still_left;
            }
            true
        };
        tokio::time::timeout(DISCARD_TIMEOUT, discard).await.unwrap_or(false)
    }

    fn lock(&self) -> MutexGuard<'_, Incoming> {
        self.0.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.0.started.store(true, Ordering::Relaxed);
        let frame = ready!(Pin::new(&mut *self.lock()).poll_frame(context));
        match &frame {
            Some(Ok(_)) => {}
            Some(Err(_)) => self.0.broken.store(true, Ordering::Relaxed),
            None => self.0.ended.store(true, Ordering::Relaxed),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().size_hint()
    }
}

/// Whether a client waits for `100 Continue` before it sends the body.
#[derive(Clone, Copy)]
pub struct ExpectsContinue(bool);

impl ExpectsContinue {
    pub fn of(headers: &HeaderMap) -> Self {
        let expect = headers.get(header::EXPECT);
        Self(expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")))
    }
}
