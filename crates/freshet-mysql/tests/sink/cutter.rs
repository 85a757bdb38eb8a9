//! A proxy that understands the packets of the protocol and ends a connection at one exact command.
//!
//! The n-th command that any client sends through it is either not delivered, or delivered and its answer lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of the chosen command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It never reaches the server.
    Before,
    /// The server gets it; nothing that it says afterwards reaches the client.
    After,
}

/// The proxy; cuts once.
pub struct Cutter {
    pub port: u16,
    left: Arc<AtomicI64>,
}

impl Cutter {
    /// A proxy before `server_port` that cuts at the `nth` command, counted from 1 over all connections.
    pub async fn start(server_port: u16, nth: i64, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicI64::new(nth));
        let shared = left.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, server_port, shared.clone(), cut));
            }
        });
        Self { port, left }
    }

    /// Whether the command came.
    pub fn has_cut(&self) -> bool {
        self.left.load(Ordering::SeqCst) <= 0
    }
}

async fn serve(client: TcpStream, server_port: u16, left: Arc<AtomicI64>, cut: Cut) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (lost, lose) = watch::channel(false);
    tokio::spawn(answers(from_server, to_client, lose));
    messages(from_client, to_server, left, cut, lost).await;
}

/// Answers to the client, until they are to be lost; the server's are read to their end all the same.
async fn answers(mut server: OwnedReadHalf, client: OwnedWriteHalf, mut lose: watch::Receiver<bool>) {
    let mut client = Some(client);
    let mut buf = vec![0; 64 * 1024];
    loop {
        tokio::select! {
            biased;
            changed = lose.changed(), if client.is_some() => {
                if changed.is_err() || *lose.borrow() {
                    client = None;
                }
            }
            read = server.read(&mut buf) => match read {
                Ok(n) if n > 0 => {
                    if let Some(to) = &mut client
                        && to.write_all(&buf[..n]).await.is_err()
                    {
                        client = None;
                    }
                }
                Ok(_) | Err(_) => return,
            },
        }
    }
}

async fn messages(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    left: Arc<AtomicI64>,
    cut: Cut,
    lost: watch::Sender<bool>,
) {
    loop {
        let mut packet = vec![0; 4];
        if client.read_exact(&mut packet).await.is_err() {
            return;
        }
        let len = usize::from(packet[0]) | usize::from(packet[1]) << 8 | usize::from(packet[2]) << 16;
        // Commands begin with the sequence number 0; what else a client sends is of the handshake.
        let is_command = packet[3] == 0;
        packet.resize(4 + len, 0);
        if client.read_exact(&mut packet[4..]).await.is_err() {
            return;
        }
        let now = is_command && left.fetch_sub(1, Ordering::SeqCst) == 1;
        if now {
            let _ = lost.send(true);
        }
        let is_lost = now && cut == Cut::Before;
        if is_lost || server.write_all(&packet).await.is_err() {
            return;
        }
        if now {
            return;
        }
    }
}
