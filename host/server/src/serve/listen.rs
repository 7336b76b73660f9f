//! Where a server listens: a TCP address, or a Unix socket.
//!
//! **Invariants:** a Unix socket can be used by its owner only, from its first moment. The file of
//! a socket is removed only when no server listens at it. Beyond this machine, the API is served
//! without TLS only if the operator says so.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

/// What the name of a Unix socket begins with.
pub(crate) const UNIX: &str = "unix:";

/// How many connections may wait to be accepted: twice nginx's default of 511, and within what
/// Linux allows by default (`net.core.somaxconn`, 4,096).
const BACKLOG: u32 = 1_024;

/// The server cannot listen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The address cannot be had.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Passwords and tokens would pass the network in plain text.
    #[error(
        "{address} can be reached from other machines, and the API would be plain HTTP. Set tls_certificate and \
         tls_key, or insecure_plain_http if TLS ends in front of this server"
    )]
    PlainHttp {
        /// Where.
        address: String,
    },
    /// Too few files may be open.
    #[error(
        "only {limit} files may be open at a time, and a server needs {least}. Raise the limit, best to 8,192 or more \
         (`ulimit -n`, `LimitNOFILE=`)"
    )]
    OpenFiles {
        /// How many may.
        limit: u64,
        /// How many have to.
        least: u64,
    },
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] super::tls::TlsError),
}

impl BindError {
    /// Whether something listens there already.
    pub(crate) fn is_in_use(&self) -> bool {
        matches!(self, Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

/// A listening socket.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
}

/// A connection that has come in.
pub(super) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Listener {
    /// Listens at `host:port` or `unix:/path`.
    pub(super) async fn bind(address: &str) -> Result<Self, BindError> {
        let failed = |source| BindError::Listen { address: address.to_owned(), source };
        match address.strip_prefix(UNIX) {
            Some(path) => Self::unix(Path::new(path)),
            None => Self::tcp(address).await,
        }
        .map_err(failed)
    }

    /// At the first of the name's addresses that can be had.
    async fn tcp(address: &str) -> io::Result<Self> {
        let mut failed = io::Error::new(io::ErrorKind::InvalidInput, "this name has no address");
        for address in tokio::net::lookup_host(address).await? {
            let listen = || {
                let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
                // A server that follows another at once must get the address.
                socket.set_reuseaddr(true)?;
                socket.bind(address)?;
                let listener = socket.listen(BACKLOG)?;
                let address = listener.local_addr()?;
                Ok(Self::Tcp(listener, address))
            };
            match listen() {
                Ok(listener) => return Ok(listener),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn unix(path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file = SocketFile(path.to_owned());
        // Before it listens: until then no client can connect.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        socket.listen(BACKLOG.cast_signed())?;
        socket.set_nonblocking(true)?;
        let listener = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(socket));
        Ok(Self::Unix(UnixListener::from_std(listener)?, file))
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener, _) => listener.accept().await.map(|(stream, from)| Accepted::Tcp(stream, from)),
            Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }

    /// The address, if it is one of the network.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(_, address) => Some(*address),
            Self::Unix(..) => None,
        }
    }

    /// Where it is, as a URL without a path.
    pub(super) fn url(&self, tls: bool) -> String {
        match self {
            Self::Tcp(_, address) => format!("{}://{address}", if tls { "https" } else { "http" }),
            Self::Unix(_, file) => format!("{UNIX}{}", file.0.display()),
        }
    }
}

/// Checks that the API may be plain HTTP at this address: only on this machine, unless `may`.
pub(super) fn check_plain(address: SocketAddr, may: bool) -> Result<(), BindError> {
    if may || address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    Err(BindError::PlainHttp { address: address.to_string() })
}

/// The file of a socket; removed with it.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A successor removes it as well.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Removes the file of a socket that no server listens at: a killed server leaves it.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "another file is there; remove it or choose another"));
    }
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if StdUnixStream::connect(path).is_err_and(refused) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_beyond_this_machine_has_to_be_said() {
        for (address, is_ours) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.168.0.1:1", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(check_plain(address, false).is_ok(), is_ours, "{address}");
            assert!(check_plain(address, true).is_ok());
        }
    }

    #[tokio::test]
    async fn a_socket_is_the_owners_and_only_a_stale_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let address = format!("{UNIX}{}", path.display());
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let listener = Listener::bind(&address).await.unwrap();
        assert_eq!(mode(), 0o600);
        assert!(Listener::bind(&address).await.unwrap_err().is_in_use(), "another server listens");
        drop(listener);
        assert!(!path.exists());
        // As after a kill.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Listener::bind(&address).await.unwrap());
        std::fs::write(&path, "an unrelated file").unwrap();
        let error = Listener::bind(&address).await.unwrap_err();
        assert!(!error.is_in_use() && error.to_string().contains("another file"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "an unrelated file");
    }
}
