//! What stands between a node and its Postgres, and can be cut: both ways, or one way.

use std::{net::SocketAddr, path::PathBuf};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixStream},
    sync::watch,
};

use super::PATIENCE;

/// A TCP port that leads to the socket of a Postgres. What is sent while a way is cut is not lost:
/// it arrives when the way is open again, late, as on a network that comes back.
pub struct Proxy {
    address: SocketAddr,
    to_database: watch::Sender<bool>,
    to_node: watch::Sender<bool>,
    traps: Traps,
}

/// What can befall a statement.
#[derive(Clone)]
struct Traps {
    hold: watch::Sender<Hold>,
    cut: watch::Sender<Cut>,
}

/// Whether a statement is let through to the database.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    Nothing,
    /// What has this text in it is to be held, and all behind it.
    When(&'static str),
    /// It came, and is being held.
    Held,
}

/// Whether the reply to a statement is let through to the node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Nothing,
    /// That to the next statement which has this text in it is not.
    After(&'static str),
    /// Such a statement came.
    Done,
}

/// The message that ends what a node sends before it waits for replies.
const SYNC: &[u8] = b"S\0\0\0\x04";

impl Proxy {
    /// It works as long as the test's runtime does.
    pub async fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (to_database, to_node) = (watch::Sender::new(true), watch::Sender::new(true));
        let (hold, cut) = (watch::Sender::new(Hold::Nothing), watch::Sender::new(Cut::Nothing));
        let traps = Traps { hold, cut };
        let of_all = traps.clone();
        let (forth, back) = (to_database.subscribe(), to_node.subscribe());
        tokio::spawn(async move {
            loop {
                let (node, _) = listener.accept().await.expect("a connection");
                // While Postgres is down the node finds its connection closed.
                let Ok(database) = UnixStream::connect(&socket).await else { continue };
                let (from_node, into_node) = node.into_split();
                let (from_database, into_database) = database.into_split();
                let (traps, replies) = (of_all.clone(), watch::Sender::new(true));
                let wanted = replies.subscribe();
                tokio::spawn(hand_back(from_database, into_node, back.clone(), wanted));
                tokio::spawn(hand_on(from_node, into_database, forth.clone(), traps, replies));
            }
        });
        Self { address, to_database, to_node, traps }
    }

    /// The address of a database behind it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}?sslmode=disable", self.address)
    }

    /// Which ways are open from here on.
    pub fn set(&self, to_database: bool, to_node: bool) {
        self.to_database.send_replace(to_database);
        self.to_node.send_replace(to_node);
    }
}

impl Proxy {
    /// Holds the next statement that has this text in it.
    pub fn hold(&self, text: &'static str) {
        self.traps.hold.send_replace(Hold::When(text));
    }

    /// Waits until such a statement has come.
    pub async fn is_holding(&self) {
        let mut hold = self.traps.hold.subscribe();
        let held = hold.wait_for(|hold| *hold == Hold::Held);
        tokio::time::timeout(PATIENCE, held).await.expect("it comes").expect("it is there");
    }

    /// Lets it through.
    pub fn let_go(&self) {
        self.traps.hold.send_replace(Hold::Nothing);
    }
}

impl Proxy {
    /// Hands the next statement that has this text in it on to the database, and closes its
    /// connection before anything of the reply gets back: the database does what it was told, and
    /// the node does not hear of it.
    pub fn cut_reply_to(&self, text: &'static str) {
        self.traps.cut.send_replace(Cut::After(text));
    }

    /// Waits until such a statement has come.
    pub async fn has_cut(&self) {
        let mut cut = self.traps.cut.subscribe();
        let done = cut.wait_for(|cut| *cut == Cut::Done);
        tokio::time::timeout(PATIENCE, done).await.expect("it comes").expect("it is there");
    }
}

/// From the node to the database. `replies` says whether what comes back is wanted.
async fn hand_on(
    mut from: impl AsyncRead + Unpin,
    mut into: impl AsyncWrite + Unpin,
    mut open: watch::Receiver<bool>,
    traps: Traps,
    replies: watch::Sender<bool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    // The end of a connection has to get through as well.
    while let Ok(read) = from.read(&mut buffer).await {
        let bytes = &buffer[..read];
        hold_back(bytes, &traps.hold).await;
        // Before the statement is handed on, so that no reply can be faster.
        if is_to_be_cut(bytes, &traps.cut) {
            replies.send_replace(false);
        }
        // A long statement comes in parts.
        let is_last = bytes.ends_with(SYNC) && !*replies.borrow();
        let is_open = open.wait_for(|open| *open).await.is_ok();
        if !is_open || read == 0 || into.write_all(bytes).await.is_err() || is_last {
            break;
        }
    }
}

/// From the database to the node.
async fn hand_back(
    mut from: impl AsyncRead + Unpin,
    mut into: impl AsyncWrite + Unpin,
    mut open: watch::Receiver<bool>,
    mut wanted: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = is_unwanted(&mut wanted) => break,
        };
        let Ok(read) = read else { break };
        let is_open = open.wait_for(|open| *open).await.is_ok();
        // What was read may be the reply that is to be cut.
        let is_wanted = *wanted.borrow();
        if !is_open || !is_wanted || read == 0 || into.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}

/// Ready when nothing is to come back any more.
async fn is_unwanted(wanted: &mut watch::Receiver<bool>) {
    let is_cut = wanted.wait_for(|wanted| !*wanted).await.is_ok();
    if !is_cut {
        // The node has closed its side: what is on its way back to it still gets through.
        std::future::pending::<()>().await;
    }
}

async fn hold_back(bytes: &[u8], hold: &watch::Sender<Hold>) {
    let comes = |hold: &mut Hold| match *hold {
        Hold::When(text) if has(bytes, text) => {
            *hold = Hold::Held;
            true
        }
        _ => false,
    };
    if hold.send_if_modified(comes) {
        let _ = hold.subscribe().wait_for(|hold| *hold != Hold::Held).await;
    }
}

fn is_to_be_cut(bytes: &[u8], cut: &watch::Sender<Cut>) -> bool {
    cut.send_if_modified(|cut| match *cut {
        Cut::After(text) if has(bytes, text) => {
            *cut = Cut::Done;
            true
        }
        _ => false,
    })
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}
