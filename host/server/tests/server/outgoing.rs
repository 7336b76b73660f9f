//! The way to secret managers: through a proxy that alone knows their names, and to a server whose
//! certificate is from a company's own authority.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::{ECHO_TOKEN, Folder, Ran, assert_without};
use crate::tls::pem;

const ECHO: &[&str] = &["fixtures/echo"];
const HOST: &str = "vault.keyway.example";
const USER: &str = "ann";
const PASSWORD: &str = "hunter-2-of-the-proxy";
/// base64 of both with a colon.
const BASIC: &str = "YW5uOmh1bnRlci0yLW9mLXRoZS1wcm94eQ==";

/// A server for [`HOST`], and the certificate of its authority in PEM.
async fn secret_manager() -> (SocketAddr, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = pem("CERTIFICATE", params.self_signed(&key).unwrap().der());
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([HOST.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let head = head(&mut stream).await;
                assert!(!head.to_ascii_lowercase().contains("proxy"), "{head}");
                let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\nconnection: close\r\n\r\n[\"x\"]";
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (address, authority)
}

async fn head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// A proxy that connects to `server`, or refuses with this status; and the heads that it got.
async fn proxy(server: Result<SocketAddr, &'static str>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heads) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
    let seen = heads.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let head = head(&mut stream).await;
                seen.lock().unwrap().push(head);
                match server {
                    Ok(server) => {
                        let mut server = TcpStream::connect(server).await.unwrap();
                        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                        let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
                    }
                    Err(status) => {
                        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                }
            });
        }
    });
    (address, heads)
}

/// A folder with a connection to the secret manager, and the file of its authority.
fn connected(authority: &str) -> (Folder, PathBuf) {
    let folder = Folder::with(ECHO);
    folder.run(&["workspace", "create", "Acme"]).ok();
    let base = format!("base_url=https://{HOST}");
    folder.run_with(&["connect", "echo", "--name", "plain", "--set", &base, "--token-file", "-"], ECHO_TOKEN).ok();
    let file = folder.path().join("authority.pem");
    std::fs::write(&file, authority).unwrap();
    (folder, file)
}

fn items(folder: &Folder, variables: &[(&str, &str)]) -> Ran {
    let mut command = folder.keyway(&["items", "--json"]);
    command.env("KEYWAY_LOG", "trace").envs(variables.iter().copied());
    let ran = Ran::from(command.output().unwrap());
    assert_without(&ran.all(), &[PASSWORD]);
    ran
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_manager_is_reached_through_the_proxy_of_the_usual_variables_and_of_the_setting() {
    let (server, authority) = secret_manager().await;
    let (address, heads) = proxy(Ok(server)).await;
    let (folder, file) = connected(&authority);
    let url = format!("http://{USER}:{PASSWORD}@{address}");
    let trusted = ("KEYWAY_CA_FILE", file.to_str().unwrap());
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "KEYWAY_PROXY"] {
        let ran = items(&folder, &[trusted, (variable, &url)]).ok();
        assert!(ran.stdout.contains("echo://server/x"), "{variable}: {ran:#?}");
    }
    let heads = std::mem::take(&mut *heads.lock().unwrap());
    assert_eq!(heads.len(), 4);
    for head in heads {
        assert!(head.starts_with(&format!("CONNECT {HOST}:443 HTTP/1.1\r\n")), "{head}");
        assert!(head.contains(&format!(": Basic {BASIC}\r\n")), "{head}");
    }
    // Without the proxy nobody knows the name.
    for variable in [("NO_PROXY", "keyway.example"), ("KEYWAY_NO_PROXY", HOST), ("KEYWAY_PROXY", "none")] {
        items(&folder, &[trusted, ("HTTPS_PROXY", &url), variable]).failed(6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_is_named_and_it_is_not_the_secret_managers_refusal() {
    for (status, told) in [
        ("403 Forbidden", "403"),
        ("407 Proxy Authentication Required", "user and password"),
        ("502 Bad Gateway", "502"),
    ] {
        // A new one each time, because failures pause the connection.
        let (folder, _) = connected("");
        let (address, _) = proxy(Err(status)).await;
        let ran = items(&folder, &[("HTTPS_PROXY", &format!("http://{USER}:{PASSWORD}@{address}"))]).failed(6);
        let error = ran.json()["error"].clone();
        assert_eq!(error["code"], "PROVIDER_UNAVAILABLE", "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&format!("the proxy http://{address}")) && message.contains(told), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_is_trusted_by_file_or_in_the_systems_store_and_otherwise_not() {
    let (server, authority) = secret_manager().await;
    let (address, _) = proxy(Ok(server)).await;
    let (folder, file) = connected(&authority);
    let (url, file) = (format!("http://{address}"), file.to_str().unwrap());
    items(&folder, &[("KEYWAY_PROXY", &url), ("SSL_CERT_FILE", file), ("KEYWAY_CA_STORE", "system")]).ok();
    items(&folder, &[("KEYWAY_PROXY", &url), ("KEYWAY_CA_FILE", file)]).ok();
    let ran = items(&folder, &[("KEYWAY_PROXY", &url), ("SSL_CERT_FILE", file)]).failed(6);
    assert!(ran.stdout.contains("authority that is not trusted") && ran.stdout.contains("ca_file"), "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_may_trust_an_authority_that_no_other_trusts() {
    let (server, authority) = secret_manager().await;
    let (address, _) = proxy(Ok(server)).await;
    let (folder, file) = connected(&authority);
    let (url, file) = (format!("http://{address}"), file.to_str().unwrap());
    let base = format!("base_url=https://{HOST}");
    let own = ["connect", "echo", "--name", "own", "--set", &base, "--token-file", "-", "--authorities"];
    let refused = folder.run_with(&[&own[..], &["/dev/null"]].concat(), ECHO_TOKEN).failed(4);
    assert!(refused.stderr.contains("/dev/null"), "{refused:#?}");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "not a certificate").unwrap();
    let refused = folder.run_with(&[&own[..], &[empty.to_str().unwrap()]].concat(), ECHO_TOKEN).failed(4);
    assert!(refused.stderr.contains("no certificate"), "{refused:#?}");
    folder.run_with(&[&own[..], &[file]].concat(), ECHO_TOKEN).ok();
    let items = |connection: &str| {
        let mut command = folder.keyway(&["items", "--connection", connection]);
        Ran::from(command.env("KEYWAY_PROXY", &url).output().unwrap())
    };
    items("own").ok();
    // New settings leave it as it is.
    let update = ["connection", "update", "--connection", "own"];
    let settings = ["--set", &base, "--set", "account=another", "--token-file", "-"];
    folder.run_with(&[&update[..], &settings].concat(), ECHO_TOKEN).ok();
    items("own").ok();
    folder.run(&[&update[..], &["--authorities", ""]].concat()).ok();
    items("own").failed(6);
    items("plain").failed(6);
}

#[test]
fn a_file_of_authorities_that_cannot_be_used_is_named_and_nothing_starts() {
    let folder = Folder::with(ECHO);
    let file = folder.path().join("authority.pem");
    let with_file = |arguments: &[&str]| {
        let mut command = folder.keyway(arguments);
        Ran::from(command.env("KEYWAY_CA_FILE", &file).output().unwrap())
    };
    for (prepare, told, code) in [
        ("true", "No such file", 3),
        ("touch authority.pem", "no certificate", 1),
        ("echo 'not PEM' > authority.pem", "no certificate", 1),
        ("rm authority.pem; mkfifo authority.pem", "not a regular file", 1),
    ] {
        let prepared = Command::new("sh").args(["-c", prepare]).current_dir(folder.path()).status().unwrap();
        assert!(prepared.success());
        let ran = with_file(&["provider", "list"]).failed(code);
        assert!(ran.stderr.contains("authority.pem") && ran.stderr.contains(told), "{ran:#?}");
        let ran = with_file(&["config", "check"]).failed(1);
        assert!(ran.stdout.contains("WRONG  certificate authorities"), "{ran:#?}");
    }
}

#[test]
fn a_proxy_that_does_not_answer_is_named_while_calls_are_paused_as_well() {
    let (folder, _) = connected("");
    let dead = [("KEYWAY_PROXY", "http://127.0.0.1:1")];
    let codes: Vec<_> = (0..8).map(|_| items(&folder, &dead).failed(6).json()["error"]["code"].clone()).collect();
    assert_eq!(codes.last().unwrap(), "PROVIDER_PAUSED", "{codes:?}");
    let paused = items(&folder, &dead).failed(6);
    let error = &paused.json()["error"];
    assert!(error["message"].as_str().unwrap().contains("proxy on the way to it"), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("the proxy http://127.0.0.1:1; `keyway config check`"), "{error}");
}

#[test]
fn a_proxys_password_comes_from_the_environment_only_and_is_never_shown() {
    let folder = Folder::with(ECHO);
    let url = format!("http://{USER}:{PASSWORD}@proxy.example:3128");
    let check = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = folder.keyway(&[&["config", "check", "--json"], arguments].concat());
        let ran = Ran::from(command.envs(variables.iter().copied()).output().unwrap());
        assert_without(&ran.all(), &[PASSWORD]);
        ran
    };
    for variable in ["KEYWAY_PROXY", "HTTPS_PROXY"] {
        let ran = check(&[], &[(variable, &url)]).ok();
        let all = ran.json()["settings"].as_array().unwrap().clone();
        let setting = all.iter().find(|setting| setting["name"] == "proxy").unwrap();
        assert_eq!(setting["values"][0], "http://proxy.example:3128");
        assert_eq!(setting["origin"], "environment");
    }
    assert!(check(&["--proxy", &url], &[]).failed(2).stderr.contains("KEYWAY_PROXY"));
    let file = folder.path().join("keyway.toml");
    std::fs::write(&file, format!("proxy = \"{url}\"\n")).unwrap();
    check(&["--config", file.to_str().unwrap()], &[]).failed(2);
    std::fs::write(&file, "proxy = \"http://proxy.example:3128\"\nno_proxy = [\"a.example\"]\n").unwrap();
    check(&["--config", file.to_str().unwrap()], &[]).ok();
    for wrong in [format!("socks5://{USER}:{PASSWORD}@proxy.example"), format!("http://{USER}:{PASSWORD}")] {
        let ran = check(&[], &[("ALL_PROXY", &wrong)]).failed(2);
        assert!(ran.stderr.contains("ALL_PROXY"), "{ran:#?}");
    }
}
