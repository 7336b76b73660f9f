//! Clients that do their worst to a server, all at once.
//!
//! They run in a thread of their own, with a pause after each thing they do: what is measured is
//! what they take from others by what they hold, and not the processor time of this machine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::server::Client;

/// How long a client that does not read its answer keeps it: longer than the server waits for it.
const UNREAD: Duration = Duration::from_secs(35);

/// The receive buffer of such a client, so that the answer stays with the server.
const BUFFER: u32 = 4 << 10;

/// How the head of a success begins.
const SUCCESS: &[u8; 10] = b"HTTP/1.1 2";

/// What a client does over and over.
pub(crate) enum Deed {
    /// Sends these requests in turn over one connection, and reads the answers.
    Ask(Vec<Vec<u8>>),
    /// Sends this, which is no whole request, and waits until the server answers or hangs up.
    Stall(Vec<u8>),
    /// Sends a request and does not read the answer.
    Ignore(Vec<u8>),
}

/// Clients that do the same.
pub(crate) struct Group {
    /// For the account of what they did.
    pub(crate) name: &'static str,
    pub(crate) clients: usize,
    /// After each answer, and before each new connection.
    pub(crate) pause: Duration,
    pub(crate) deed: Deed,
}

/// What the clients of a group have done.
#[derive(Default)]
struct Done {
    connections: u64,
    requests: u64,
    /// The statuses of the answers that they read.
    answers: BTreeMap<u16, u64>,
}

/// A group at work.
#[derive(Clone)]
struct Member {
    group: Arc<Group>,
    done: Arc<Mutex<Done>>,
    number: usize,
    address: String,
}

/// A running attack. Ends when dropped, with all its connections.
pub(crate) struct Attack {
    /// One of each group.
    members: Vec<Member>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Attack {
    /// Begins it. The clients of a group begin one by one during its pause.
    pub(crate) fn begin(address: &str, groups: &[Arc<Group>]) -> Result<Self> {
        let member = |group: &Arc<Group>| Member {
            group: group.clone(),
            done: Arc::default(),
            number: 0,
            address: address.to_owned(),
        };
        let members: Vec<_> = groups.iter().map(member).collect();
        let (end, ended) = oneshot::channel();
        let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let attackers = members.clone();
        let thread = std::thread::Builder::new().name("attack".to_owned()).spawn(move || {
            reactor.block_on(async {
                let mut running = JoinSet::new();
                for member in attackers {
                    for number in 0..member.group.clients {
                        running.spawn(Member { number, ..member.clone() }.run());
                    }
                }
                let _ = ended.await;
            });
        })?;
        Ok(Self { members, end: Some(end), thread: Some(thread) })
    }

    /// How many connections the attackers have opened, and how many requests they have sent.
    pub(crate) fn sent(&self) -> [u64; 2] {
        self.members.iter().fold([0; 2], |[connections, requests], member| {
            member.note(|done| [connections + done.connections, requests + done.requests])
        })
    }

    /// Prints what each group has done, so that a reader sees that the attack is one.
    pub(crate) fn print(&self) {
        for member in &self.members {
            member.note(|Done { connections, requests, answers }| {
                let Group { name, clients, .. } = &*member.group;
                eprintln!("  {name}: {clients} clients, {connections} connections, {requests} requests, {answers:?}");
            });
        }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Member {
    fn note<T>(&self, note: impl FnOnce(&mut Done) -> T) -> T {
        note(&mut self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One connection after the other, however the server ended the last.
    async fn run(self) {
        let Group { clients, pause, .. } = *self.group;
        sleep(pause.mul_f64(self.number as f64 / clients as f64)).await;
        loop {
            let _ = self.connect().await;
            sleep(pause).await;
        }
    }

    async fn connect(&self) -> Result<()> {
        let connected = || self.note(|done| done.connections += 1);
        let requested = || self.note(|done| done.requests += 1);
        match &self.group.deed {
            Deed::Ask(requests) => {
                let mut client = Client::connect(&self.address).await?;
                connected();
                for request in requests.iter().cycle().skip(self.number % requests.len().max(1)) {
                    requested();
                    let (status, _) = client.send(request).await?;
                    self.note(|done| *done.answers.entry(status).or_default() += 1);
                    sleep(self.group.pause).await;
                }
            }
            Deed::Stall(part) => {
                let mut stream = TcpSocket::new_v4()?.connect(self.address.parse()?).await?;
                connected();
                stream.write_all(part).await?;
                stream.read_u8().await?;
            }
            Deed::Ignore(request) => {
                let socket = TcpSocket::new_v4()?;
                socket.set_recv_buffer_size(BUFFER)?;
                let mut stream = socket.connect(self.address.parse()?).await?;
                connected();
                requested();
                stream.write_all(request).await?;
                let mut begins = [0; SUCCESS.len()];
                let seen = stream.peek(&mut begins).await?;
                ensure!(seen == begins.len() && begins == *SUCCESS, "a refusal is not worth keeping");
                sleep(UNREAD).await;
            }
        }
        Ok(())
    }
}
