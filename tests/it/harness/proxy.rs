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
    hold: watch::Sender<Hold>,
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

impl Proxy {
    /// It works as long as the test's runtime does.
    pub async fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (to_database, to_node) = (watch::Sender::new(true), watch::Sender::new(true));
        let hold = watch::Sender::new(Hold::Nothing);
        let holding = hold.clone();
        let (forth, back) = (to_database.subscribe(), to_node.subscribe());
        tokio::spawn(async move {
            loop {
                let (node, _) = listener.accept().await.expect("a connection");
                // While Postgres is down the node finds its connection closed.
                let Ok(database) = UnixStream::connect(&socket).await else { continue };
                let (from_node, into_node) = node.into_split();
                let (from_database, into_database) = database.into_split();
                let holding = Some(holding.clone());
                tokio::spawn(hand_on(from_node, into_database, forth.clone(), holding));
                tokio::spawn(hand_on(from_database, into_node, back.clone(), None));
            }
        });
        Self { address, to_database, to_node, hold }
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
        self.hold.send_replace(Hold::When(text));
    }

    /// Waits until such a statement has come.
    pub async fn is_holding(&self) {
        let mut hold = self.hold.subscribe();
        let held = hold.wait_for(|hold| *hold == Hold::Held);
        tokio::time::timeout(PATIENCE, held).await.expect("it comes").expect("it is there");
    }

    /// Lets it through.
    pub fn let_go(&self) {
        self.hold.send_replace(Hold::Nothing);
    }
}

async fn hand_on(
    mut from: impl AsyncRead + Unpin,
    mut into: impl AsyncWrite + Unpin,
    mut open: watch::Receiver<bool>,
    hold: Option<watch::Sender<Hold>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    // The end of a connection has to get through as well.
    while let Ok(read) = from.read(&mut buffer).await {
        if let Some(hold) = &hold {
            hold_back(&buffer[..read], hold).await;
        }
        let is_open = open.wait_for(|open| *open).await.is_ok();
        if !is_open || read == 0 || into.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}

async fn hold_back(bytes: &[u8], hold: &watch::Sender<Hold>) {
    let comes = |hold: &mut Hold| match *hold {
        Hold::When(text) if bytes.windows(text.len()).any(|part| part == text.as_bytes()) => {
            *hold = Hold::Held;
            true
        }
        _ => false,
    };
    if hold.send_if_modified(comes) {
        let _ = hold.subscribe().wait_for(|hold| *hold != Hold::Held).await;
    }
}
