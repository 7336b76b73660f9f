//! Secrets in and out of the command line, exact to the byte.

use crate::support::Folder;

const ECHO: &[&str] = &["fixtures/echo"];

/// An entry with this password, given on standard input.
fn entry(folder: &Folder, user: &str, password: &str) -> String {
    let create = ["entry", "create", "--user", user, "--domain", "https://acme.com", "--password-file", "-", "--json"];
    folder.run_with(&create, password).ok().json()["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_password_comes_out_as_it_came_in_but_for_one_line_end() {
    let folder = Folder::connected(ECHO);
    for (given, kept) in [
        ("one\n two\nthree\n", "one\n two\nthree"),
        ("one\n two\nthree", "one\n two\nthree"),
        ("one\r\ntwo\r\n", "one\r\ntwo"),
        ("one\n\n", "one\n"),
        (" spaces \t", " spaces \t"),
    ] {
        let id = entry(&folder, &format!("{given:?}"), given);
        let raw = folder.run(&["resolve", &id, "--field", "password", "--raw"]).ok();
        assert_eq!(raw.stdout, kept, "{given:?}");
    }
}

#[test]
fn a_password_of_three_lines_is_shown_in_three_lines() {
    let folder = Folder::connected(ECHO);
    let id = entry(&folder, "lines", "one\n two\nthree\n");
    let shown = folder.run(&["resolve", &id, "--reveal", "--fields", "password"]).ok().stdout;
    assert!(shown.contains("3 lines") && !shown.contains('\u{fffd}'), "{shown}");
    let lines: Vec<_> = shown.lines().take(3).map(|line| line.get(15..).unwrap_or_default()).collect();
    assert!(lines[0].starts_with("one ") && lines[1..] == [" two", "three"], "{shown}");
    let odd = entry(&folder, "odd", "a\u{1b}[2Jb");
    let shown = folder.run(&["resolve", &odd, "--reveal"]).ok().stdout;
    assert!(shown.contains("cannot be shown") && !shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn raw_output_is_of_one_value_or_an_error() {
    let folder = Folder::connected(ECHO);
    let id = folder.bind("acme-prod", "echo://item/one");
    for wrong in
        [&["--raw"][..], &["--raw", "--fields", "username,password"], &["--raw", "--field", "password", "--json"]]
    {
        assert_eq!(folder.run(&[&["resolve", &id], wrong].concat()).code, 2, "{wrong:?}");
    }
    let code = folder.run(&["resolve", &id, "--field", "one_time_code", "--raw"]).ok().stdout;
    assert!(code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit()), "{code}");
    let own = entry(&folder, "own", "hunter2");
    let missing = folder.run(&["resolve", &own, "--field", "one_time_code", "--raw"]).failed(3);
    assert!(missing.stdout.is_empty() && missing.stderr.contains("tfa_secret"), "{missing:#?}");
}

#[test]
fn a_code_may_be_demanded_that_lasts() {
    let folder = Folder::connected(ECHO);
    let id = folder.bind("acme-prod", "echo://item/one");
    let resolved = folder.run(&["resolve", &id, "--unused", "--json"]).ok().json();
    assert_eq!(resolved["one_time_code"]["times_handed_out"], 1);
    let code = folder.run(&["entry", "code", &id, "--min-seconds-left", "31"]).failed(4);
    assert!(code.stderr.contains("at most the period"), "{code:#?}");
}
