//! Serves one connection: answers its requests, enforces its timeouts and closes it.
//!
//! hyper reads the requests and writes the responses. This module adds three things: it tracks
//! whether the connection is idle, it tracks when a response has been handed to the socket, and it
//! closes a connection without a reset while the client still sends.

use std::{
    convert::Infallible,
    io,
    net::IpAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, Response, header},
};
use hyper::{
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    server::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt as _;
use tracing::debug;

use super::{
    forwarded::TrustedProxies,
    limits::ServerLimits,
    request_body::{ExpectsContinue, RequestBody},
};
use crate::{auth::ClientAddress, web::in_flight::HeldUntilSent};

/// How long the server reads and discards bytes after it has closed its side of a connection. A
/// client that is still sending a body can then read the response.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait for the first request on a new connection that the server is about to close.
/// The request may be in transit, because a client does not expect the server to close a connection
/// immediately.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_millis(200);

/// Maximum size in bytes of a response frame that is passed to hyper.
const FRAME_BYTES: usize = 16 * 1024;

/// Marks a request on a connection beyond the limit, in the request's extensions. The service
/// answers only health checks on such a connection, and sends 503 to all other requests.
#[derive(Clone, Copy, Debug)]
pub struct InReserve;

/// The state of a connection. The connection's task, socket and responses share it with
/// [`Connections`](super::connections::Connections).
pub struct ConnectionState {
    /// The zero point of all times in [`Phase`].
    epoch: Instant,
    /// The packed [`Phase`].
    phase: AtomicU64,
    /// Whether a request waits for its response, or hyper has not yet taken the whole response.
    answering: AtomicBool,
    /// Whether hyper has taken a whole response, but has not yet handed it to the socket.
    response_taken: AtomicBool,
    /// Whether the body of a response failed after a part had been sent.
    broke_off: AtomicBool,
    close: Notify,
    /// The values that count requests as in flight after hyper has taken their responses. The
    /// connection drops them once it has handed the responses to the socket. There can be several,
    /// because hyper reads the next pipelined request before it has sent the response.
    taken: Mutex<Vec<HeldUntilSent>>,
    /// The socket, after hyper has dropped it.
    socket: Mutex<Option<Stream>>,
}

type Stream = Pin<Box<TimeoutStream<TcpStream>>>;

/// The phase of a connection. Times are in milliseconds since the epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Since this time, the connection has been waiting for its first request.
    New(u64),
    /// Since this time, the connection has been waiting for the rest of a request's headers.
    Head(u64),
    /// The connection is processing a request.
    Busy,
    /// The connection handed a response to the socket at this time, and has been waiting for the
    /// next request since.
    Idle(u64),
}

impl Phase {
    const fn pack(self) -> u64 {
        match self {
            Self::Head(since) => since << 2,
            Self::Busy => 1,
            Self::Idle(since) => since << 2 | 2,
            Self::New(since) => since << 2 | 3,
        }
    }

    const fn unpack(packed: u64) -> Self {
        match packed & 3 {
            0 => Self::Head(packed >> 2),
            1 => Self::Busy,
            2 => Self::Idle(packed >> 2),
            _ => Self::New(packed >> 2),
        }
    }
}

impl ConnectionState {
    /// Creates the state of a new connection, which waits for its first request.
    pub fn new(epoch: Instant) -> Self {
        let state = Self {
            epoch,
            phase: AtomicU64::new(0),
            answering: AtomicBool::new(false),
            response_taken: AtomicBool::new(false),
            broke_off: AtomicBool::new(false),
            close: Notify::new(),
            taken: Mutex::new(Vec::new()),
            socket: Mutex::new(None),
        };
        state.enter(Phase::New(state.now()));
        state
    }

    /// Returns the start of the idle phase, in milliseconds since the epoch. `None` if the
    /// connection is not idle.
    pub fn idle_since(&self) -> Option<u64> {
        match self.phase() {
            Phase::Idle(since) => Some(since),
            Phase::New(_) | Phase::Head(_) | Phase::Busy => None,
        }
    }

    /// Closes the connection after the request in flight, if there is one.
    pub fn close(&self) {
        self.close.notify_one();
    }

    fn taken(&self) -> MutexGuard<'_, Vec<HeldUntilSent>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn phase(&self) -> Phase {
        Phase::unpack(self.phase.load(Ordering::Relaxed))
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase.pack(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        let millis = self.epoch.elapsed().as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX) & (u64::MAX >> 2)
    }

    /// Returns the deadline of the current phase. `None` during a request, because requests have
    /// their own limits.
    fn deadline(&self, limits: &ServerLimits) -> Option<Instant> {
        let (since, allowed) = match self.phase() {
            Phase::New(since) | Phase::Head(since) => (since, limits.header_timeout),
            Phase::Busy => return None,
            Phase::Idle(since) => (since, limits.idle_timeout),
        };
        Some(self.epoch + Duration::from_millis(since) + allowed)
    }
}

/// The data that all requests of a connection share.
pub struct Requests {
    pub router: Router,
    pub peer: IpAddr,
    /// The trusted proxies, if the peer is one of them.
    pub proxies: Option<TrustedProxies>,
    /// Whether the connection is beyond the limit.
    pub in_reserve: bool,
}

/// Serves a connection until it ends.
pub async fn serve(
    stream: TcpStream,
    requests: Requests,
    limits: ServerLimits,
    state: &Arc<ConnectionState>,
) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let socket = Socket { stream: Some(Box::pin(stream)), state: Arc::clone(state) };
    let service = {
        let (state, requests) = (Arc::clone(state), Arc::new(requests));
        hyper::service::service_fn(move |request| {
            answer(request, Arc::clone(&requests), Arc::clone(&state))
        })
    };
    let can_linger = {
        let connection = http1::Builder::new()
            // Responses are small, so copying the body costs less than a vectored write.
            .writev(false)
            .max_headers(limits.max_headers)
            .max_buf_size(limits.header_bytes)
            .serve_connection(TokioIo::new(socket), service);
        run(pin!(connection), limits, state).await
    };
    let stream = state.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(stream) = &stream
        && state.broke_off.load(Ordering::Relaxed)
    {
        // Resets the connection, because an HTTP/1.0 client would take an orderly close for the end
        // of the response.
        let _ = stream.get_ref().set_zero_linger();
    }
    if let Some(stream) = stream.filter(|_| can_linger) {
        // A lingering connection counts as idle, so that it can make room for a new one.
        state.enter(Phase::Idle(state.now()));
        tokio::select! {
            () = linger(stream) => {}
            () = state.close.notified() => {}
        }
    }
}

/// Runs hyper's connection, enforces its deadlines, and closes it on request. Returns whether the
/// client may still be sending when the connection ends.
async fn run<C>(mut connection: Pin<&mut C>, limits: ServerLimits, state: &ConnectionState) -> bool
where
    C: GracefulConnection,
{
    // A phase that begins later cannot reach its deadline before the next check.
    let look_again = || Instant::now() + limits.header_timeout.min(limits.idle_timeout);
    let mut timer = pin!(sleep_until(look_again()));
    let mut close = pin!(state.close.notified());
    let mut was_busy = None;
    let mut close_at = None;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => return match ended {
                Ok(()) => was_busy.unwrap_or(true),
                Err(error) => {
                    debug!(%error, "a connection ended with an error");
                    if error.is_user() {
                        state.broke_off.store(true, Ordering::Relaxed);
                    }
                    // hyper itself answers parse errors with 400 or 431.
                    error.is_parse()
                }
            },
            () = timer.as_mut() => match state.deadline(&limits) {
                _ if close_at.take().is_some_and(|at| at <= Instant::now()) => {
                    was_busy = Some(state.phase() == Phase::Busy);
                    connection.as_mut().close_gracefully();
                    timer.as_mut().reset(look_again());
                }
                Some(deadline) if deadline <= Instant::now() => return false,
                deadline => {
                    let look = look_again();
                    timer.as_mut().reset(deadline.map_or(look, |deadline| deadline.min(look)));
                }
            },
            () = close.as_mut(), if was_busy.is_none() && close_at.is_none() => {
                if matches!(state.phase(), Phase::New(_)) {
                    let at = Instant::now() + FIRST_REQUEST_TIMEOUT;
                    close_at = Some(at);
                    timer.as_mut().reset(at);
                    continue;
                }
                was_busy = Some(state.phase() == Phase::Busy);
                connection.as_mut().close_gracefully();
            }
        }
    }
}

/// hyper's connection, without its type parameters.
trait GracefulConnection: Future<Output = hyper::Result<()>> {
    fn close_gracefully(self: Pin<&mut Self>);
}

impl<S, B> GracefulConnection for http1::Connection<TokioIo<Socket>, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn close_gracefully(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Answers one request. Afterwards discards the rest of the body, or closes the connection.
async fn answer(
    request: Request<Incoming>,
    requests: Arc<Requests>,
    state: Arc<ConnectionState>,
) -> Result<Response<ResponseBody>, Infallible> {
    state.answering.store(true, Ordering::Relaxed);
    state.enter(Phase::Busy);
    let (mut parts, incoming) = request.into_parts();
    let peer = requests.peer;
    let named = requests.proxies.as_ref().map(|proxies| proxies.client(peer, &parts.headers));
    parts.extensions.insert(ClientAddress(named.unwrap_or(peer)));
    if requests.in_reserve {
        parts.extensions.insert(InReserve);
    }
    let version = parts.version;
    let router = requests.router.clone();
    let (mut response, keep) = if incoming.is_end_stream() {
        let request = Request::from_parts(parts, axum::body::Body::empty());
        (router.oneshot(request).await?, true)
    } else {
        let expects = ExpectsContinue::of(&parts.headers);
        let body = RequestBody::new(incoming);
        let request = Request::from_parts(parts, axum::body::Body::new(body.clone()));
        let response = router.oneshot(request).await?;
        (response, body.discard(expects).await)
    };
    if !keep || requests.in_reserve {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        // If an HTTP/1.0 client asks for keep-alive, hyper adds the header to a response of version
        // 1.1.
        *response.version_mut() = version;
    }
    let held = response.extensions_mut().remove::<HeldUntilSent>();
    Ok(response.map(|body| ResponseBody { body, rest: Bytes::new(), held, state }))
}

/// The body of a response, split into small frames, because hyper copies each frame into a buffer
/// that the connection keeps. hyper drops the body once it has taken the last frame.
struct ResponseBody {
    body: axum::body::Body,
    /// The part of a large frame that hyper has not taken yet.
    rest: Bytes,
    held: Option<HeldUntilSent>,
    state: Arc<ConnectionState>,
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) if data.len() > FRAME_BYTES => self.rest = data,
                Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let length = self.rest.len().min(FRAME_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut all = SizeHint::new();
        all.set_lower(rest + body.lower());
        if let Some(upper) = body.upper() {
            all.set_upper(rest + upper);
        }
        all
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.state.taken().push(held);
        }
        self.state.answering.store(false, Ordering::Relaxed);
        self.state.response_taken.store(true, Ordering::Relaxed);
    }
}

/// Closes the sending side, then discards incoming bytes until the client closes its side. Closing
/// a socket that has unread bytes resets the connection, and the client loses the response.
async fn linger(mut stream: Stream) {
    let discard = async {
        stream.shutdown().await?;
        let mut discarded = vec![0; 16 * 1024];
        while stream.read(&mut discarded).await? > 0 {}
        io::Result::Ok(())
    };
    match timeout(LINGER_TIMEOUT, discard).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a client disconnected before it read the response"),
        Err(_) => debug!("a client is still sending on a closed connection"),
    }
}

/// The socket that hyper uses. It updates the connection's state, and moves the stream into that
/// state when hyper drops the socket.
struct Socket {
    /// The connection's stream. `None` only while the socket is being dropped.
    stream: Option<Stream>,
    state: Arc<ConnectionState>,
}

impl Socket {
    fn stream(&mut self) -> Pin<&mut TimeoutStream<TcpStream>> {
        self.stream.as_mut().expect("the stream is taken only by drop").as_mut()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut slot = self.state.socket.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = self.stream.take();
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.stream().poll_read(context, buffer))?;
        if buffer.filled().len() > before && matches!(self.state.phase(), Phase::Idle(_)) {
            self.state.enter(Phase::Head(self.state.now()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    /// hyper calls this function after it has written all pending bytes.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.stream().poll_flush(context))?;
        if self.state.response_taken.swap(false, Ordering::Relaxed) {
            self.state.taken().clear();
            if !self.state.answering.load(Ordering::Relaxed) {
                self.state.enter(Phase::Idle(self.state.now()));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}
