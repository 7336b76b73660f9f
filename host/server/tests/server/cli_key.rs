//! `keyway key`: the message for a key that is revoked twice.

use crate::support::Folder;

#[test]
fn a_key_that_is_revoked_again_is_said_to_have_been_revoked_already() {
    let folder = Folder::with(&[]);
    folder.run(&["workspace", "create", "Acme"]).ok();
    let id = folder.run(&["key", "create", "ci", "--json"]).ok().json()["id"].as_str().unwrap().to_owned();
    let first = folder.run(&["key", "revoke", &id]).ok();
    assert!(first.stdout.contains("Revoked the API key ci."), "{first:#?}");
    let second = folder.run(&["key", "revoke", &id]).ok();
    assert!(second.stdout.contains("The API key ci was revoked already, on 2"), "{second:#?}");
    let third = folder.run(&["key", "revoke", &id, "--json"]).ok().json();
    assert_eq!(third["already_revoked"], true);
    let listed = folder.run(&["key", "list", "--json"]).ok().json();
    assert_eq!(listed[1]["revoked_at"], third["revoked_at"], "the time is that of the first");
}
