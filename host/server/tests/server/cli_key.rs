//! `keyway key`: revoking by id and by name, and the message for a key that is revoked twice.

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

#[test]
fn a_key_is_revoked_by_its_name_unless_two_keys_have_it() {
    let folder = Folder::with(&[]);
    folder.run(&["workspace", "create", "Acme"]).ok();
    folder.run(&["key", "create", "ci"]).ok();
    let revoked = folder.run(&["key", "revoke", "ci"]).ok();
    assert!(revoked.stdout.contains("Revoked the API key ci."), "{revoked:#?}");
    // Its successor; the one that is revoked already does not count.
    folder.run(&["key", "create", "ci"]).ok();
    assert!(folder.run(&["key", "revoke", "ci"]).ok().stdout.contains("Revoked the API key ci."));
    for _ in 0..2 {
        folder.run(&["key", "create", "ci"]).ok();
    }
    let several = folder.run(&["key", "revoke", "ci"]).failed(2);
    assert!(several.stderr.contains("2 keys are called `ci`; choose one by its id"), "{several:#?}");
    folder.run(&["key", "revoke", "unknown"]).failed(3);
}
