//! The list of all vault entries, with concurrent operations.

use keyway::EntryContent;
use keyway::entries::{AttributeKind, Attributes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::Api;

/// Three pages, each larger than the operating system's buffer for a client that does not read.
const ENTRIES: usize = 201;
const SIZE: usize = 130_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_list_during_which_the_workspaces_key_is_rotated_is_cut_off_and_never_under_two_keys() {
    let (api, _) = Api::echo().await;
    let mut attributes = Attributes::default();
    let storage = format!(r#"{{"a": "{}"}}"#, "x".repeat(SIZE));
    attributes.set("local_storage", AttributeKind::BrowserState, &storage).unwrap();
    for number in 0..ENTRIES {
        let new = EntryContent::new(number.to_string(), "https://acme.com");
        let new = new.attributes(attributes.clone());
        api.host.broker().entries().create(&api.access, new).await.unwrap();
    }
    let request = format!("GET /vault HTTP/1.1\r\nhost: keyway\r\nconnection: close\r\ncc-key: {}\r\n\r\n", api.key);
    let begin = async || {
        let mut connection = TcpStream::connect(api.url.strip_prefix("http://").unwrap()).await.unwrap();
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut begun = [0; 1_000];
        connection.read_exact(&mut begun).await.unwrap();
        assert!(begun.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&begun));
        connection
    };
    let ends_properly = async |mut connection: TcpStream| {
        let mut rest = Vec::new();
        // A connection that is reset has not ended properly either.
        connection.read_to_end(&mut rest).await.is_ok() && rest.ends_with(b"]\r\n0\r\n\r\n")
    };
    let connection = begin().await;
    api.host.broker().keys().rotate_workspace(&api.access).await.unwrap();
    assert!(!ends_properly(connection).await);
    assert!(ends_properly(begin().await).await, "the next one is whole");
}
