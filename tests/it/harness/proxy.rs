//! A proxy between a node and Postgres. A test can interrupt it in one or both directions.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixStream},
    sync::watch,
};

use super::PATIENCE;

/// A TCP port that forwards to the socket of a Postgres. The proxy delays data that is sent while a
/// direction is interrupted. The data arrives when the direction is open again, as on a network
/// that recovers.
pub struct Proxy {
    address: SocketAddr,
    socket: watch::Sender<PathBuf>,
    to_database: watch::Sender<bool>,
    to_node: watch::Sender<bool>,
    traps: Traps,
}

/// The statements whose replies the proxy holds or drops.
#[derive(Clone)]
struct Traps {
    hold: watch::Sender<Hold>,
    cut: watch::Sender<Cut>,
}

/// Whether the proxy holds the reply to a statement.
#[derive(Clone, PartialEq, Eq)]
enum Hold {
    Nothing,
    /// The proxy will hold the reply to the next statement with this parameter, and all later data.
    When(Vec<u8>),
    /// The proxy has forwarded such a statement.
    Awaited,
    /// The reply has arrived, and the proxy holds it.
    Held,
}

/// Whether the proxy drops the reply to a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Nothing,
    /// The proxy will drop the reply to the next statement that contains this text.
    After(&'static str),
    /// Such a statement has arrived.
    Done,
}

/// The Sync message of the Postgres protocol. A node sends it before it waits for replies.
const SYNC: &[u8] = b"S\0\0\0\x04";

impl Proxy {
    /// Starts the proxy. It runs until the runtime of the test shuts down.
    pub async fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        let socket = watch::Sender::new(socket);
        let current_socket = socket.subscribe();
        let (to_database, to_node) = (watch::Sender::new(true), watch::Sender::new(true));
        let (hold, cut) = (watch::Sender::new(Hold::Nothing), watch::Sender::new(Cut::Nothing));
        let traps = Traps { hold, cut };
        let shared_traps = traps.clone();
        let (to_database_open, to_node_open) = (to_database.subscribe(), to_node.subscribe());
        tokio::spawn(async move {
            loop {
                let (node, _) = listener.accept().await.expect("the connection opens");
                let socket = current_socket.borrow().clone();
                // While Postgres is down, the proxy closes the node's connection.
                let Ok(database) = UnixStream::connect(&socket).await else { continue };
                let (from_node, into_node) = node.into_split();
                let (from_database, into_database) = database.into_split();
                let (traps, replies) = (shared_traps.clone(), watch::Sender::new(true));
                let wanted = replies.subscribe();
                let held = Arc::<AtomicBool>::default();
                tokio::spawn(forward_replies(
                    from_database,
                    into_node,
                    to_node_open.clone(),
                    wanted,
                    (traps.hold.clone(), Arc::clone(&held)),
                ));
                tokio::spawn(forward_statements(
                    from_node,
                    into_database,
                    to_database_open.clone(),
                    traps,
                    replies,
                    held,
                ));
            }
        });
        Self { address, socket, to_database, to_node, traps }
    }

    /// Returns the address at which the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns a URL that connects to this database through the proxy.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}?sslmode=disable", self.address)
    }

    /// Routes new connections to another Postgres, as a load balancer does. Open connections do not
    /// change.
    pub fn lead_to(&self, socket: PathBuf) {
        self.socket.send_replace(socket);
    }

    /// Opens or interrupts each direction.
    pub fn set_open(&self, to_database: bool, to_node: bool) {
        self.to_database.send_replace(to_database);
        self.to_node.send_replace(to_node);
    }
}

impl Proxy {
    /// Holds the reply to the next statement with this parameter. The text of a statement would not
    /// identify it, because a node sends the text only when it prepares the statement, not when it
    /// executes it.
    pub fn hold_reply_to(&self, parameter: &[u8]) {
        self.traps.hold.send_replace(Hold::When(parameter.to_owned()));
    }

    /// Waits until the database has executed the statement and the proxy holds its reply.
    pub async fn wait_until_holding(&self) {
        let mut hold = self.traps.hold.subscribe();
        let held = hold.wait_for(|hold| *hold == Hold::Held);
        tokio::time::timeout(PATIENCE, held)
            .await
            .expect("the reply arrives")
            .expect("the proxy runs");
    }

    /// Forwards the held reply.
    pub fn release(&self) {
        self.traps.hold.send_replace(Hold::Nothing);
    }
}

impl Proxy {
    /// Forwards the next statement that contains this text to the database, and closes the
    /// connection before any part of the reply reaches the node. The database executes the
    /// statement, and the node does not learn the outcome.
    pub fn cut_reply_to(&self, text: &'static str) {
        self.traps.cut.send_replace(Cut::After(text));
    }

    /// Waits until the statement of [`cut_reply_to`](Self::cut_reply_to) has arrived.
    pub async fn wait_until_cut(&self) {
        let mut cut = self.traps.cut.subscribe();
        let done = cut.wait_for(|cut| *cut == Cut::Done);
        tokio::time::timeout(PATIENCE, done)
            .await
            .expect("the statement arrives")
            .expect("the proxy runs");
    }
}

/// Forwards data from the node to the database. Sets `replies` to false to drop the replies.
async fn forward_statements(
    mut from: impl AsyncRead + Unpin,
    mut into: impl AsyncWrite + Unpin,
    mut open: watch::Receiver<bool>,
    traps: Traps,
    replies: watch::Sender<bool>,
    held: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    // A read of 0 bytes is the end of the connection. The proxy must also forward the end.
    while let Ok(read) = from.read(&mut buffer).await {
        let bytes = &buffer[..read];
        if is_to_be_held(bytes, &traps.hold) {
            held.store(true, Ordering::SeqCst);
        }
        // This check comes before the statement is forwarded, so that its reply cannot arrive
        // earlier.
        if is_to_be_cut(bytes, &traps.cut) {
            replies.send_replace(false);
        }
        // A long statement may arrive in several reads.
        let is_last = bytes.ends_with(SYNC) && !*replies.borrow();
        let is_open = open.wait_for(|open| *open).await.is_ok();
        if !is_open || read == 0 || into.write_all(bytes).await.is_err() || is_last {
            break;
        }
    }
}

/// Forwards data from the database to the node.
async fn forward_replies(
    mut from: impl AsyncRead + Unpin,
    mut into: impl AsyncWrite + Unpin,
    mut open: watch::Receiver<bool>,
    mut wanted: watch::Receiver<bool>,
    (hold, held): (watch::Sender<Hold>, Arc<AtomicBool>),
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = is_unwanted(&mut wanted) => break,
        };
        let Ok(read) = read else { break };
        if held.swap(false, Ordering::SeqCst) {
            hold.send_replace(Hold::Held);
            let _ = hold.subscribe().wait_for(|hold| *hold != Hold::Held).await;
        }
        let is_open = open.wait_for(|open| *open).await.is_ok();
        // These bytes may be part of the reply that the proxy must drop.
        let is_wanted = *wanted.borrow();
        if !is_open || !is_wanted || read == 0 || into.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}

/// Waits until the proxy must drop replies.
async fn is_unwanted(wanted: &mut watch::Receiver<bool>) {
    let is_cut = wanted.wait_for(|wanted| !*wanted).await.is_ok();
    if !is_cut {
        // The node has closed its side. The proxy still forwards replies that have not arrived yet.
        std::future::pending::<()>().await;
    }
}

fn is_to_be_held(bytes: &[u8], hold: &watch::Sender<Hold>) -> bool {
    hold.send_if_modified(|hold| match hold {
        Hold::When(parameter) if contains(bytes, parameter) => {
            *hold = Hold::Awaited;
            true
        }
        _ => false,
    })
}

fn is_to_be_cut(bytes: &[u8], cut: &watch::Sender<Cut>) -> bool {
    cut.send_if_modified(|cut| match *cut {
        Cut::After(text) if contains(bytes, text.as_bytes()) => {
            *cut = Cut::Done;
            true
        }
        _ => false,
    })
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
