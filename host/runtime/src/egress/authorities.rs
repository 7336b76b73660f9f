//! The certificate authorities that requests over TLS trust.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// The authorities that are trusted from the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CaStore {
    /// Mozilla's, which are part of the program.
    #[default]
    Mozilla,
    /// The operating system's. On Linux the variables `SSL_CERT_FILE` and `SSL_CERT_DIR` may name
    /// others.
    System,
}

/// Certificates of authorities that are trusted in addition.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Authorities(Arc<[CertificateDer<'static>]>);

/// Certificates of authorities cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AuthoritiesError {
    /// The text has no certificate in PEM.
    #[error("there is no certificate in PEM in it")]
    Empty,
    /// A section of PEM has no end, or is not base64.
    #[error("a section of PEM in it is damaged or incomplete")]
    NotPem,
    /// A certificate is malformed. They are counted from 1.
    #[error("certificate {0} in it is malformed")]
    Malformed(usize),
    /// The system's store has no certificate that can be read.
    #[error("the system's certificate store cannot be used: {0}")]
    System(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

impl Authorities {
    /// Reads certificates in PEM, at least one. Other kinds of PEM sections are skipped.
    ///
    /// # Errors
    /// [`AuthoritiesError`] if one of them cannot be used.
    pub fn from_pem(text: &[u8]) -> Result<Self, AuthoritiesError> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
        let certificates = read.map_err(|_| AuthoritiesError::NotPem)?;
        if certificates.is_empty() {
            return Err(AuthoritiesError::Empty);
        }
        let mut tried = RootCertStore::empty();
        for (number, certificate) in (1..).zip(&certificates) {
            tried.add(certificate.clone()).map_err(|_| AuthoritiesError::Malformed(number))?;
        }
        Ok(Self(certificates.into()))
    }

    /// These and others.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        Self(self.0.iter().chain(others.0.iter()).cloned().collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.0.len())
    }
}

/// What every connection trusts, and TLS with it.
pub(crate) struct Trust {
    roots: RootCertStore,
    config: Arc<ClientConfig>,
}

impl Trust {
    pub(crate) fn new(store: CaStore, further: &Authorities) -> Result<Self, AuthoritiesError> {
        let mut roots = match store {
            CaStore::Mozilla => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() },
            CaStore::System => system()?,
        };
        add(&mut roots, further)?;
        Ok(Self { config: client(roots.clone())?, roots })
    }

    /// TLS for connections without authorities of their own.
    pub(crate) fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// TLS that also trusts these.
    pub(crate) fn with(&self, further: &Authorities) -> Result<Arc<ClientConfig>, AuthoritiesError> {
        if further.is_empty() {
            return Ok(self.config.clone());
        }
        let mut roots = self.roots.clone();
        add(&mut roots, further)?;
        client(roots)
    }
}

fn system() -> Result<RootCertStore, AuthoritiesError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems have old certificates that nobody can read any more.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    let errors = || found.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    match usable {
        0 if found.errors.is_empty() => Err(AuthoritiesError::System("it is empty".to_owned())),
        0 => Err(AuthoritiesError::System(errors())),
        _ => {
            if !found.errors.is_empty() {
                tracing::warn!(errors = errors(), "a part of the system's certificate store cannot be read");
            }
            Ok(roots)
        }
    }
}

fn add(roots: &mut RootCertStore, further: &Authorities) -> Result<(), AuthoritiesError> {
    for (number, certificate) in (1..).zip(further.0.iter()) {
        roots.add(certificate.clone()).map_err(|_| AuthoritiesError::Malformed(number))?;
    }
    Ok(())
}

/// TLS 1.2 and 1.3.
fn client(roots: RootCertStore) -> Result<Arc<ClientConfig>, AuthoritiesError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    // Fails only for a provider without any cipher suite of these versions.
    let config = config.map_err(|error| AuthoritiesError::Tls(error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;

    fn pem(kind: &str, der: &[u8]) -> String {
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", BASE64.encode(der))
    }

    #[test]
    fn what_holds_no_usable_certificate_is_refused() {
        assert_eq!(Authorities::from_pem(b""), Err(AuthoritiesError::Empty));
        assert_eq!(Authorities::from_pem(b"hunter2\n"), Err(AuthoritiesError::Empty));
        let own = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let key = pem("PRIVATE KEY", &own.signing_key.serialize_der());
        assert_eq!(Authorities::from_pem(key.as_bytes()), Err(AuthoritiesError::Empty));
        let good = pem("CERTIFICATE", own.cert.der());
        assert_eq!(Authorities::from_pem(format!("{key}{good}").as_bytes()).unwrap().len(), 1);
        let cut_off = &good[..good.len() - 30];
        assert_eq!(Authorities::from_pem(cut_off.as_bytes()), Err(AuthoritiesError::NotPem));
        let nonsense = format!("{good}{}", pem("CERTIFICATE", &[0; 3]));
        assert_eq!(Authorities::from_pem(nonsense.as_bytes()), Err(AuthoritiesError::Malformed(2)));
    }
}
