//! `keyway workspace`: names, the platform's own ids, and the end of a workspace.

use crate::support::Folder;

#[test]
fn a_workspace_is_renamed_and_deleted_by_name_and_its_key_is_refused_from_then_on() {
    let folder = Folder::with(&[]);
    let created = folder.run(&["workspace", "create", "Acme", "--external-id", "customer-42", "--json"]).ok().json();
    assert_eq!(created["external_id"], "customer-42");
    let again = folder.run(&["workspace", "create", "Other", "--external-id", "customer-42"]).failed(4);
    assert!(again.stderr.contains("a workspace with this external id already exists"), "{again:#?}");

    let renamed = folder.run(&["workspace", "rename", "Acme Inc.", "--workspace", "Acme", "--json"]).ok().json();
    assert_eq!((&renamed["id"], renamed["name"].as_str()), (&created["id"], Some("Acme Inc.")));

    let missing = folder.run(&["workspace", "delete"]).failed(2);
    assert!(missing.stderr.contains("<WORKSPACE>"), "never the only one by default: {missing:#?}");
    folder.run(&["workspace", "create", "Kept"]).ok();
    let unconfirmed = folder.run(&["workspace", "delete", "Acme Inc."]).failed(2);
    assert!(unconfirmed.stderr.contains("`Acme Inc.` has to be confirmed") && unconfirmed.stderr.contains("--yes"));
    assert_eq!(folder.run(&["workspace", "list", "--json"]).ok().json().as_array().unwrap().len(), 2);
    let taken = folder.run(&["workspace", "rename", "Kept", "--workspace", "Acme Inc."]).failed(4);
    assert!(taken.stderr.contains("already exists"), "{taken:#?}");
    let deleted = folder.run(&["workspace", "delete", "Acme Inc.", "--yes"]).ok();
    assert!(deleted.stdout.contains("Deleted the workspace Acme Inc."), "{deleted:#?}");
    let listed = folder.run(&["workspace", "list", "--json"]).ok().json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["name"]), (1, &serde_json::json!("Kept")));
    folder.run(&["key", "list", "--workspace", "Acme Inc."]).failed(3);
}
