//! A request body whose rest the connection can read after the handler has responded.
//!
//! A server that closes a connection before it has read the body resets the connection. The client
//! may then lose the response, and a proxy may treat the node as failed.

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

/// Maximum number of body bytes to discard in order to keep a connection open.
const DISCARDED_BYTES: u64 = 1024 * 1024;

/// How long to discard body bytes in order to keep a connection open.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// A request's body with two owners: the handler, which reads what it needs, and the connection,
/// which discards the rest.
#[derive(Clone)]
pub struct RequestBody(Arc<Shared>);

struct Shared {
    incoming: Mutex<Incoming>,
    /// Whether the handler has begun to read. The first read sends `100 Continue` if the client
    /// waits for it.
    started: AtomicBool,
    /// Whether the handler has read the whole body.
    ended: AtomicBool,
    /// Whether the body ended early or is malformed.
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

    /// Reads and discards the rest of the body. Returns whether the connection can serve another
    /// request.
    pub async fn discard(mut self, headers: ExpectsContinue) -> bool {
        if self.0.broken.load(Ordering::Relaxed) {
            return false;
        }
        if self.0.ended.load(Ordering::Relaxed) || self.is_end_stream() {
            return true;
        }
        // The client got no `100 Continue`. It may send the body anyway, so the next bytes on the
        // connection may be a body or a request.
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
