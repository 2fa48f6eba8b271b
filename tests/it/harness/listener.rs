//! Runs the service on a TCP port, and sends it raw bytes.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};
use tollgate::{
    http::{Connections, ServerLimits, TrustedProxies, serve},
    state::Limits,
};

use super::{
    App, Call,
    app::{service, state_of},
    within_patience,
};

/// A service that listens on a TCP port.
pub struct Listening {
    pub address: SocketAddr,
    pub stop: oneshot::Sender<()>,
    pub task: JoinHandle<bool>,
}

/// Starts a service that trusts no proxy.
pub async fn listen(app: &App, limits: Limits, server_limits: ServerLimits) -> Listening {
    listen_behind(TrustedProxies::default(), app, limits, server_limits).await
}

/// Starts a service that trusts these proxies.
pub async fn listen_behind(
    proxies: TrustedProxies,
    app: &App,
    limits: Limits,
    server_limits: ServerLimits,
) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("the listener has an address");
    let router = service(state_of(app.node.clone(), limits));
    let (stop, stopped) = oneshot::channel();
    let stopped = async move {
        let _ = stopped.await;
    };
    let connections = Connections::new(&server_limits);
    let served = serve(listener, router, server_limits, connections, proxies, stopped);
    let task = tokio::spawn(served);
    Listening { address, stop, task }
}

/// Sends bytes, and reads until the server closes the connection. Returns the response.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the connection opens");
    stream.write_all(request).await.expect("the request is sent");
    let mut answer = Vec::new();
    let closed =
        within_patience("the server closes the connection", stream.read_to_end(&mut answer));
    // The server may close the connection without a response, or reset it.
    let _ = closed.await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A client that sends raw bytes on one connection.
pub struct RawClient(BufStream<TcpStream>);

/// A response that a [`RawClient`] received.
pub struct RawAnswer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl RawClient {
    pub async fn connect(address: SocketAddr) -> Self {
        Self(BufStream::new(TcpStream::connect(address).await.expect("the connection opens")))
    }

    /// Connects from another loopback address, such as `127.0.0.2`.
    pub async fn connect_from(own: &str, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("the socket can be created");
        let own = SocketAddr::new(own.parse().expect("the address is valid"), 0);
        socket.bind(own).expect("the address is a loopback address");
        Self(BufStream::new(socket.connect(address).await.expect("the connection opens")))
    }

    /// Sends all bytes. Fails if the server has reset the connection.
    pub async fn send(&mut self, bytes: &[u8]) {
        let sent = async {
            self.0.write_all(bytes).await?;
            self.0.flush().await
        };
        within_patience("the server reads the bytes", sent).await.expect("the connection is open");
    }

    /// Reads one response with a `Content-Length`. Returns `None` if the server has closed the
    /// connection.
    pub async fn receive(&mut self) -> Option<RawAnswer> {
        let read = async {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if self.0.read_line(&mut head).await? == 0 {
                    assert!(
                        head.is_empty(),
                        "the server closed the connection within a response: {head}"
                    );
                    return Ok(None);
                }
            }
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.map_or(0, |length| length.parse().expect("the length is a number"));
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await?;
            let body = String::from_utf8(body).expect("the text is UTF-8");
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
            std::io::Result::Ok(Some(RawAnswer {
                status: status.expect("the response has a status"),
                head,
                body,
            }))
        };
        within_patience("the server responds", read).await.expect("the connection is not reset")
    }

    /// Waits until the server has closed its socket in both directions. The server then rejects new
    /// bytes.
    pub async fn closes_at_the_next_byte(&mut self) {
        let refused = async {
            while self.0.write_all(b"a").await.is_ok() && self.0.flush().await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        within_patience("the server closes the socket", refused).await;
    }

    pub async fn get(&mut self, path: &str) -> Option<RawAnswer> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
        self.receive().await
    }
}

impl RawAnswer {
    pub fn closes(&self) -> bool {
        self.head.contains("\r\nconnection: close\r\n")
    }
}

/// A request with a slow body. The service has accepted its credential, and waits for the rest of
/// the body.
pub struct SlowRequest {
    client: RawClient,
    rest: Vec<u8>,
}

impl SlowRequest {
    /// Sends the headers. Once the service reads the body, sends its first five bytes.
    pub async fn begin(address: SocketAddr, call: Call) -> Self {
        let (parts, body) = call.into_parts();
        let mut head = format!("{} {} HTTP/1.1\r\nHost: x\r\n", parts.method, parts.uri);
        for (name, value) in &parts.headers {
            head += &format!("{name}: {}\r\n", value.to_str().expect("the header is text"));
        }
        head += &format!("Expect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut client = RawClient::connect(address).await;
        client.send(head.as_bytes()).await;
        let answer = client.receive().await.expect("the server responds");
        assert_eq!(answer.status, 100, "{}{}", answer.head, answer.body);
        let (first, rest) = body.split_at(5);
        client.send(first).await;
        Self { client, rest: rest.to_vec() }
    }

    /// Sends the rest of the body, and receives the response.
    pub async fn finish(mut self) -> RawAnswer {
        self.client.send(&self.rest).await;
        self.client.receive().await.expect("the server responds")
    }
}
