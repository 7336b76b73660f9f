//! A server at a Unix socket.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use axum::body::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use tokio::net::UnixStream;

use crate::serve::{Process, api_key};
use crate::support::{Folder, Ran};

async fn get(socket: &Path, path: &str, key: &str) -> (u16, String) {
    let stream = TokioIo::new(UnixStream::connect(socket).await.unwrap());
    let (mut send, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(path).header("host", "keyway").header("cc-key", key).body(Full::<Bytes>::default());
    let answer = send.send_request(request.unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_its_user_and_replaces_only_a_socket_at_which_nobody_listens() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let key = api_key(&folder);
    let socket = folder.path().join("keyway.sock");
    let address = format!("unix:{}", socket.display());
    let start = || Process::of(folder.keyway(&["serve", "--json", "--listen", &address]));
    let server = start();
    assert_eq!(server.url, address);
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(get(&socket, "/healthz", "").await.0, 200);
    let (status, body) = get(&socket, "/secret-providers", &key).await;
    assert!(status == 200 && body.contains("echo"), "{body}");

    let ran = folder.run(&["serve", "--listen", &address]).failed(1);
    assert!(ran.stderr.contains("keyway.sock"), "{ran:#?}");
    let mut check = folder.keyway(&["config", "check", "--json"]);
    let ran = Ran::from(check.env("KEYWAY_LISTEN", &address).output().unwrap()).ok();
    assert!(ran.stdout.contains("is in use, perhaps by this server"), "{ran:#?}");
    assert_eq!(get(&socket, "/healthz", "").await.0, 200, "nobody has removed it");

    // One that is killed leaves its socket.
    server.end(Signal::KILL);
    assert!(socket.exists());
    let server = start();
    assert_eq!(get(&socket, "/vault", &key).await.0, 200);
    let (code, said) = server.end(Signal::TERM);
    assert_eq!(code, 0, "{said}");
    assert!(!socket.exists());
}

#[test]
fn a_socket_has_a_whole_path() {
    let ran = Folder::with(&[]).run(&["serve", "--listen", "unix:keyway.sock"]).failed(2);
    assert!(ran.stderr.contains("unix:/run/keyway/keyway.sock"), "{ran:#?}");
}
