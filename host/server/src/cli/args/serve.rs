//! Options of `keyway serve`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values::{address_and_port, listen, number};
use crate::config::{HEAD_TIMEOUT, IDLE_TIMEOUT, ServeConfig, TlsFiles};

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// Address to listen at, or unix:/path for a Unix socket of this user; port 0 picks a free port
    #[arg(long, env = "KEYWAY_LISTEN", value_name = "ADDRESS:PORT", value_parser = listen,
        default_value = "127.0.0.1:8600")]
    pub(crate) listen: String,
    /// Address for /metrics, /healthz and /readyz, with connections of its own, without keys and
    /// TLS; without it, there are no metrics
    #[arg(long, env = "KEYWAY_METRICS_LISTEN", value_name = "ADDRESS:PORT", value_parser = address_and_port)]
    pub(crate) metrics_listen: Option<String>,
    /// A file with the server's certificate and those of its issuers, in PEM; read again when it
    /// changes
    #[arg(long, env = "KEYWAY_TLS_CERTIFICATE", value_name = "FILE")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// A file with the private key of the certificate, in PEM
    #[arg(long, env = "KEYWAY_TLS_KEY", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// A file with certificate authorities, in PEM: each client must then present a certificate of
    /// theirs
    #[arg(long, env = "KEYWAY_TLS_CLIENT_CA", value_name = "FILE")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Serve plain HTTP where other machines can reach it, because TLS ends in front of this server
    #[arg(long, env = "KEYWAY_INSECURE_PLAIN_HTTP", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) insecure_plain_http: bool,
    /// How long the head of a request may take to arrive
    #[arg(long, env = "KEYWAY_HEAD_TIMEOUT_SECONDS", value_name = "SECONDS", default_value_t = HEAD_TIMEOUT,
        value_parser = number(1, 3_600))]
    pub(crate) head_timeout_seconds: u32,
    /// How long a connection may be idle between requests; longer than the load balancer in front
    /// keeps it
    #[arg(long, env = "KEYWAY_IDLE_TIMEOUT_SECONDS", value_name = "SECONDS", default_value_t = IDLE_TIMEOUT,
        value_parser = number(1, 3_600))]
    pub(crate) idle_timeout_seconds: u32,
}

impl ServeOptions {
    /// What they mean; a message when one lacks another.
    pub(crate) fn config(&self) -> Result<ServeConfig, String> {
        let tls = match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                client_ca: self.tls_client_ca.clone(),
            }),
            (None, None) if self.tls_client_ca.is_none() => None,
            _ => return Err("TLS needs both --tls-certificate and --tls-key (tls_certificate and tls_key in a file); --tls-client-ca works only with them".to_owned()),
        };
        let mut config = ServeConfig::new(&self.listen);
        config.metrics_listen.clone_from(&self.metrics_listen);
        config.tls = tls;
        config.insecure_plain_http = self.insecure_plain_http;
        config.head_timeout = Duration::from_secs(self.head_timeout_seconds.into());
        config.idle_timeout = Duration::from_secs(self.idle_timeout_seconds.into());
        Ok(config)
    }
}
