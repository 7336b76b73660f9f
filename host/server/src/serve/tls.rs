//! TLS of the server: its certificate, which is reloaded when its files change, and certificates of
//! clients.
//!
//! **Invariant:** a connection keeps what it began with. New files apply to new connections, as a
//! whole: while a file is missing or the key is not the certificate's, the previous ones stay in
//! use and a warning says why.
//!
//! The cryptography is the one of requests to secret managers (ring, in `keyway-runtime`), named
//! here and not installed for the process, which may be another program.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{Accept, TlsAcceptor};
use zeroize::{Zeroize, Zeroizing};

use crate::config::TlsFiles;
use crate::regular_file;

/// The protocols that a client may choose from (ALPN), the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// TLS cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read as what it should be.
    #[error("{} cannot be read as a PEM file with {what}: {reason}", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why not.
        reason: String,
        /// What the system says, if it cannot be read at all.
        source: Option<std::io::Error>,
    },
    /// The files do not work together.
    #[error("the certificate {} cannot be used with its key: {source}", certificate.display())]
    Certificate {
        /// The certificate.
        certificate: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// Certificates of clients cannot be verified.
    #[error("certificates of clients cannot be verified with {}: {reason}", file.display())]
    ClientAuthority {
        /// The authorities.
        file: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Whether a handshake failed because of the client's certificate.
pub(super) fn is_about_client(error: &std::io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_)))
}

/// The server's side of TLS.
#[derive(Debug)]
pub(super) struct Tls {
    files: TlsFiles,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// What the files looked like that were last tried.
    seen: Vec<Option<Seen>>,
}

/// A file as it was found; another one has another time, size or number.
type Seen = (i64, i64, u64, u64);

impl Tls {
    pub(super) fn open(files: &TlsFiles) -> Result<Self, TlsError> {
        let seen = seen(files);
        let config = load(files)?;
        Ok(Self { files: files.clone(), current: Mutex::new(Current { config, seen }) })
    }

    /// Accepts a connection with the current certificate.
    pub(super) fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Accept<S> {
        TlsAcceptor::from(self.current.lock().config.clone()).accept(stream)
    }

    /// Loads the files if one of them has changed.
    pub(super) async fn reload(&self) {
        let files = self.files.clone();
        let before = self.current.lock().seen.clone();
        // A file may be on a slow disk.
        let look = move || {
            let seen = seen(&files);
            (seen != before).then(|| (seen, load(&files)))
        };
        let Ok(Some((seen, loaded))) = tokio::task::spawn_blocking(look).await else { return };
        let mut current = self.current.lock();
        current.seen = seen;
        match loaded {
            Ok(config) => {
                current.config = config;
                tracing::info!(certificate = %self.files.certificate.display(), "the certificate was loaded anew");
            }
            Err(error) => tracing::warn!(%error, "the new certificate is not used; the previous one stays"),
        }
    }
}

fn seen(files: &TlsFiles) -> Vec<Option<Seen>> {
    let all = [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()];
    let seen = |found: Metadata| (found.mtime(), found.mtime_nsec(), found.size(), found.ino());
    all.into_iter().flatten().map(|file| std::fs::metadata(file).ok().map(seen)).collect()
}

/// Reads the files.
fn load(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let wrong = |source| TlsError::Certificate { certificate: files.certificate.clone(), source };
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(wrong)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let reason = |reason: String| TlsError::ClientAuthority { file: file.clone(), reason };
            let mut roots = RootCertStore::empty();
            for authority in certificates(file)? {
                roots.add(authority).map_err(|error| reason(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| reason(error.to_string()))?)
        }
    };
    let (chain, mut key) = (certificates(&files.certificate)?, key(&files.key)?);
    let signing = rustls::crypto::ring::sign::any_supported_type(&key);
    key.zeroize();
    let certified = CertifiedKey::new(chain, signing.map_err(wrong)?);
    match certified.keys_match() {
        // This kind of key does not say its public part.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(error) => return Err(wrong(error)),
    }
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let what = "certificates";
    let text = read(file, what)?;
    match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
        Ok(none) if none.is_empty() => Err(wrong(file, what, "there is none in it".to_owned())),
        read => read.map_err(|error| wrong(file, what, error.to_string())),
    }
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let what = "a private key";
    let text = read(file, what)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| wrong(file, what, error.to_string()))
}

fn wrong(file: &Path, what: &'static str, reason: String) -> TlsError {
    TlsError::File { file: file.to_owned(), what, reason, source: None }
}

fn read(file: &Path, what: &'static str) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    regular_file::read(file).map_err(|error| {
        let reason = error.to_string();
        TlsError::File { file: file.to_owned(), what, reason, source: Some(error) }
    })
}
