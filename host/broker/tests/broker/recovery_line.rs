//! A line to a server that can be cut in several ways.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They reach the server.
    Whole,
    /// Nothing listens, and those that were open are closed.
    Refused,
    /// They are closed as soon as they are open.
    Closed,
    /// The same with a reset.
    Reset,
    /// They stay open, and nothing comes through, on those that were open for ever.
    Silent,
}

/// The line.
pub(crate) struct Line {
    pub(crate) url: String,
    address: SocketAddr,
    server: SocketAddr,
    mode: watch::Sender<Mode>,
    listening: Option<JoinHandle<()>>,
}

impl Line {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, _) = watch::channel(Mode::Whole);
        let mut line = Self { url: format!("http://{address}"), address, server, mode, listening: None };
        line.listen(listener);
        line
    }

    pub(crate) async fn set(&mut self, mode: Mode) {
        self.mode.send_replace(mode);
        if mode == Mode::Refused {
            if let Some(listening) = self.listening.take() {
                listening.abort();
                let _ = listening.await;
            }
        } else if self.listening.is_none() {
            let listener = TcpListener::bind(self.address).await.unwrap();
            self.listen(listener);
        }
    }

    fn listen(&mut self, listener: TcpListener) {
        let (server, mode) = (self.server, self.mode.subscribe());
        self.listening = Some(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, mode.clone()));
            }
        }));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, mut mode: watch::Receiver<Mode>) {
    if *mode.borrow_and_update() == Mode::Whole {
        let Ok(mut server) = TcpStream::connect(server).await else { return };
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
            _ = mode.changed() => {}
        }
    }
    let now = *mode.borrow_and_update();
    match now {
        Mode::Silent => tokio::time::sleep(Duration::from_secs(600)).await,
        Mode::Reset => drop(client.set_zero_linger()),
        Mode::Whole | Mode::Refused | Mode::Closed => {}
    }
}
