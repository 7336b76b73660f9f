//! TLS of the server, with clients of rustls.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use data_encoding::BASE64;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::serve::{Process, api_key};
use crate::support::{Folder, Ran};

const NAME: &str = "keyway.example";

/// A certificate authority.
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn issue(&self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([NAME.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Identity { certificate, key: key.serialize_der() }
    }
}

pub(crate) fn pem(kind: &str, der: &[u8]) -> String {
    let lines = BASE64.encode(der).into_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n");
    format!("-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----\n")
}

/// The files of a server's certificate.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(folder: &Folder) -> Self {
        Self { certificate: folder.path().join("tls.pem"), key: folder.path().join("tls.key") }
    }

    fn write(&self, identity: &Identity) {
        std::fs::write(&self.certificate, pem("CERTIFICATE", &identity.certificate)).unwrap();
        std::fs::write(&self.key, pem("PRIVATE KEY", &identity.key)).unwrap();
    }

    fn serve(&self, folder: &Folder, more: &[&str]) -> Process {
        let files = ["--tls-certificate", text(&self.certificate), "--tls-key", text(&self.key)];
        Process::start(folder, &[&files[..], more].concat())
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A client that trusts this authority.
struct Client {
    trusts: CertificateDer<'static>,
    identity: Option<Identity>,
}

impl Client {
    fn of(authority: &Authority) -> Self {
        Self { trusts: authority.certificate.clone(), identity: None }
    }

    async fn connect(&self, url: &str, protocol: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusts.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots);
        let mut config = match &self.identity {
            None => config.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let key = PrivateKeyDer::try_from(key.clone()).unwrap();
                config.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        let address: SocketAddr = url.strip_prefix("https://").unwrap().parse().unwrap();
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME).unwrap(), stream).await
    }

    /// The status and the body of an answer over HTTP/1.1.
    async fn get(&self, url: &str, path: &str, key: &str) -> Result<(u16, String), String> {
        let stream = self.connect(url, b"http/1.1").await.map_err(|error| error.to_string())?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let (mut send, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let request = Request::get(path).header("host", NAME).header("cc-key", key);
        let answer = send.send_request(request.body(Full::<Bytes>::default()).unwrap()).await;
        Ok(whole(answer.map_err(|error| format!("{error:?}"))?).await)
    }
}

async fn whole(answer: Response<Incoming>) -> (u16, String) {
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_http_are_served_under_the_certificate() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let key = api_key(&folder);
    let (authority, files) = (Authority::new(), Files::of(&folder));
    files.write(&authority.issue());
    let server = files.serve(&folder, &["--metrics-listen", "127.0.0.1:0"]);
    let client = Client::of(&authority);
    let (status, body) = client.get(&server.url, "/secret-providers", &key).await.unwrap();
    assert!(status == 200 && body.contains("echo"), "{body}");

    let stream = client.connect(&server.url, b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    // From its first answer on, the client knows how many may be side by side.
    let first = Request::get(format!("https://{NAME}/healthz")).body(Full::<Bytes>::default()).unwrap();
    assert_eq!(whole(send.clone().send_request(first).await.unwrap()).await.0, 200);
    // Side by side, and more than may be: the others wait for their turn.
    let requests = (0..200).map(|_| {
        let (mut send, key) = (send.clone(), key.clone());
        let entry = r#"{"permissioned_user_id": "a", "domain": "https://acme.com"}"#;
        tokio::spawn(async move {
            let request = Request::post(format!("https://{NAME}/vault")).header("cc-key", key);
            let request = request.header("content-type", "application/json").body(Full::new(Bytes::from(entry)));
            send.ready().await.unwrap();
            whole(send.send_request(request.unwrap()).await.unwrap()).await.0
        })
    });
    let mut statuses = Vec::new();
    for request in requests.collect::<Vec<_>>() {
        statuses.push(request.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!((statuses[0], statuses[1], statuses[199]), (201, 409, 409));
    // Nothing of it is in plain text; the operators' address is.
    let plain = server.url.replace("https://", "http://");
    assert!(crate::support::try_send(&format!("{plain}/healthz"), "GET", &[], "").await.is_err());
    crate::support::send(&format!("{}/healthz", server.operators), "GET", &[], "").await.ok(200);
    assert_eq!(server.end(Signal::TERM).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_without_a_restart_and_open_connections_stay() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let (old, new, files) = (Authority::new(), Authority::new(), Files::of(&folder));
    files.write(&old.issue());
    let server = files.serve(&folder, &[]);
    let client = Client::of(&old);
    let stream = client.connect(&server.url, b"http/1.1").await.unwrap();
    let (mut send, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut ask = async || {
        let request = Request::get("/healthz").header("host", NAME).body(Full::<Bytes>::default()).unwrap();
        send.ready().await.unwrap();
        whole(send.send_request(request).await.unwrap()).await.0
    };
    assert_eq!(ask().await, 200);
    // A pipe is none, and is not waited for.
    std::fs::remove_file(&files.key).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&files.key).status().unwrap().success());
    tokio::time::sleep(Duration::from_secs(2)).await;
    client.get(&server.url, "/healthz", "").await.unwrap();
    std::fs::remove_file(&files.key).unwrap();
    // Half a certificate is none: the previous one stays.
    std::fs::write(&files.certificate, "-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n").unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    client.get(&server.url, "/healthz", "").await.unwrap();
    files.write(&new.issue());
    let deadline = Instant::now() + Duration::from_secs(60);
    while Client::of(&new).get(&server.url, "/healthz", "").await.is_err() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(client.get(&server.url, "/healthz", "").await.unwrap_err().contains("certificate"));
    assert_eq!(ask().await, 200, "the first connection is still open");
    drop(send);
    let (code, said) = server.end(Signal::TERM);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("not a regular file") && said.contains("loaded anew"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_clients_need_a_certificate_one_of_their_authority_lets_in_and_no_other() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let key = api_key(&folder);
    let (authority, of_clients, files) = (Authority::new(), Authority::new(), Files::of(&folder));
    files.write(&authority.issue());
    let trusted = folder.path().join("clients.pem");
    std::fs::write(&trusted, pem("CERTIFICATE", &of_clients.certificate)).unwrap();
    let server = files.serve(&folder, &["--tls-client-ca", text(&trusted)]);
    let mut client = Client::of(&authority);
    // In TLS 1.3 a client hears that it was refused when it reads.
    client.get(&server.url, "/vault", &key).await.unwrap_err();
    client.identity = Some(authority.issue());
    client.get(&server.url, "/vault", &key).await.unwrap_err();
    client.identity = Some(of_clients.issue());
    assert_eq!(client.get(&server.url, "/vault", &key).await.unwrap().0, 200);
    assert_eq!(client.get(&server.url, "/vault", "wrong").await.unwrap().0, 401, "it does not replace the key");
    let (code, said) = server.end(Signal::TERM);
    assert_eq!(code, 0);
    assert_eq!(said.matches("a client was refused for its certificate").count(), 2, "{said}");
}

#[test]
fn files_that_do_not_work_together_are_named_and_the_server_does_not_start() {
    let folder = Folder::with(&[]);
    let (authority, files) = (Authority::new(), Files::of(&folder));
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--tls-certificate", text(&files.certificate)];
    let with_key = [&arguments[..], &["--tls-key", text(&files.key)]].concat();
    let ran = folder.run(&arguments).failed(2);
    assert!(ran.stderr.contains("tls_key"), "{ran:#?}");
    let missing = folder.run(&with_key).failed(3);
    assert!(missing.stderr.contains("tls.pem"), "{missing:#?}");
    let (one, other) = (authority.issue(), authority.issue());
    files.write(&Identity { certificate: one.certificate, key: other.key });
    let ran = folder.run(&with_key).failed(1);
    assert!(ran.stderr.contains("cannot be used with its key"), "{ran:#?}");
    files.write(&authority.issue());
    std::fs::write(&files.key, pem("CERTIFICATE", &authority.certificate)).unwrap();
    let ran = folder.run(&with_key).failed(1);
    assert!(ran.stderr.contains("tls.key") && ran.stderr.contains("private key"), "{ran:#?}");
    let mut check = folder.keyway(&["config", "check"]);
    check.env("KEYWAY_TLS_CERTIFICATE", &files.certificate).env("KEYWAY_TLS_KEY", &files.key);
    let ran = Ran::from(check.output().unwrap()).failed(1);
    assert!(ran.stdout.contains("WRONG  certificate"), "{ran:#?}");
}
