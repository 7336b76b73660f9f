//! The exit codes of `docs/src/reference/exit-codes.md`: one table of commands and their codes.
//! What needs a server or a secret manager that fails is in `resolving.rs`, `rotations.rs` and
//! `budgets.rs`.

use crate::cli_database::change;
use crate::support::{ECHO_TOKEN, Folder, component, set_mode};

#[tokio::test]
async fn the_exit_code_says_what_kind_of_thing_went_wrong() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let id = folder.bind("ann", "echo://item/one");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (empty, refused) = (path("empty"), path("refused"));
    for place in [&empty, &refused] {
        std::fs::create_dir(place).unwrap();
        set_mode(place.as_ref(), 0o700);
    }
    std::fs::copy(component("fixtures/forbidden-import"), path("refused/forbidden.wasm")).unwrap();
    let files = [("garbage", "garbage"), ("garbage.wasm", "garbage"), ("token", ECHO_TOKEN)];
    for (file, contents) in files.into_iter().chain([("toml", "listn = 1"), ("nothing", "")]) {
        std::fs::write(path(file), contents).unwrap();
        set_mode(path(file).as_ref(), 0o600);
    }
    let unknown = "25290e80-bbd5-41b3-861e-dea30cc26e27";
    let paths = ["garbage", "token", "toml", "nothing", "missing", "key", ".", "garbage.wasm"].map(path);
    let [garbage, token, toml, nothing, missing, key, folder_path, malformed] = paths.each_ref().map(String::as_str);
    let forbidden = component("fixtures/forbidden-import").display().to_string();
    let connect = ["connect", "echo", "--name", "New", "--token-file"];
    let table: &[(i32, &[&str])] = &[
        (0, &["provider", "list"]),
        (0, &["entry", "get", &id]),
        (0, &["config", "check"]),
        // The program, or how it is set up.
        (1, &["workspace", "list", "--master-key-file", garbage]),
        (1, &["provider", "list", "--ca-file", garbage]),
        (1, &["config", "check", "--ca-file", garbage]),
        (1, &["config", "check", "--data-dir", missing]),
        (1, &["serve", "--listen", "0.0.0.0:0"]),
        // The command line, and the configuration file, which stands for one.
        (2, &["workspace", "list", "--config", toml]),
        (2, &["workspace", "list", "--config", "/dev/zero"]),
        (2, &["resolve"]),
        (2, &["entry", "update", &id]),
        (2, &["workspace", "delete", "Acme"]),
        // It is not there.
        (3, &["workspace", "list", "--data-dir", missing]),
        (3, &["workspace", "list", "--config", missing]),
        (3, &["workspace", "list", "--config", folder_path]),
        (3, &["workspace", "list", "--master-key-file", missing]),
        (3, &["provider", "list", "--ca-file", missing]),
        (3, &["provider", "list", "--providers", missing]),
        (3, &["provider", "list", "--providers", &empty]),
        (3, &["provider", "inspect", "vaultwarden"]),
        (3, &["connect", "vaultwarden", "--token-file", token]),
        (3, &[&connect[..], &[missing]].concat()),
        (3, &[&connect[..], &[token, "--authorities", missing]].concat()),
        (3, &["entry", "get", unknown]),
        (3, &["rotation", "show", unknown]),
        (3, &["items", "--connection", "Other"]),
        // A value that was given breaks a rule, or something is there already.
        (4, &["init"]),
        (4, &[&connect[..], &[nothing]].concat()),
        (4, &[&connect[..], &["/dev/zero"]].concat()),
        (4, &[&connect[..], &[token, "--authorities", garbage]].concat()),
        (4, &[&connect[..], &[token, "--authorities", "/dev/zero"]].concat()),
        (4, &["provider", "inspect", "/dev/zero"]),
        (4, &["connect", "echo", "--name", "Echo", "--token-file", token]),
        (4, &["bind", "nonsense", "--user", "bob", "--domain", "https://acme.com"]),
        (4, &["bind", "echo://item/two", "--user", "ann", "--domain", "https://acme.com"]),
        (4, &["connection", "delete", "Echo"]),
        (4, &["master-key", "rotate", "--new-key-file", key]),
        // The component.
        (7, &["provider", "inspect", &forbidden]),
        (7, &["provider", "inspect", malformed]),
        (7, &["provider", "list", "--providers", &refused]),
    ];
    for (code, command) in table {
        let ran = folder.run(command);
        assert_eq!(ran.code, *code, "{command:?}: {ran:#?}");
        assert_eq!(ran.stderr.contains("error: "), *code != 0, "{command:?}: {ran:#?}");
        // The document of `--json` has the code that belongs to it.
        let code = folder.run(&[&command[..], &["--json"]].concat());
        assert_eq!(code.code, ran.code, "{command:?}: {code:#?}");
    }
    change(&folder, "DELETE FROM api_keys").await;
    change(&folder, "UPDATE vault_entries SET domain = 'https://evil.example'").await;
    assert_eq!(folder.run(&["entry", "get", &id]).code, 1);
    assert_eq!(folder.run(&["database", "check"]).code, 1);
    std::fs::remove_dir_all(folder.path().join("audit")).unwrap();
    assert_eq!(folder.run(&["audit", "verify"]).code, 8);
}
