//! `keyway demo` against the 1Password emulator, as `cargo xtask demo` runs it.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use keyway_emulator_onepassword::{Emulator, Fault, FaultRule};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Folder, Ran, assert_without, send};

struct Demo {
    emulator: Emulator,
    folder: Folder,
    info: PathBuf,
}

impl Demo {
    fn new() -> Self {
        let emulator = Emulator::start().unwrap();
        let folder = Folder::with(&["onepassword"]);
        let info = folder.path().join("emulator.json");
        std::fs::write(&info, serde_json::to_string(&emulator.info()).unwrap()).unwrap();
        Self { emulator, folder, info }
    }

    fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let data = self.folder.path().to_str().unwrap();
        let info = self.info.to_str().unwrap();
        let mut all = vec!["demo", "--data-dir", data, "--emulator-info", info];
        all.extend(more);
        all
    }

    fn run(&self, more: &[&str]) -> Ran {
        self.folder.run(&self.arguments(more))
    }

    /// The secrets that must not appear in output: the token, and the passwords and seeds of all
    /// items that are long enough to be distinct from other text.
    fn secrets(&self) -> Vec<String> {
        let info = self.emulator.info();
        let items = info.accounts.iter().flat_map(|account| &account.vaults).flat_map(|vault| &vault.items);
        let secrets = items.flat_map(|item| [item.password.clone(), item.otpauth.clone()]).flatten();
        let tokens = info.accounts.iter().map(|account| account.token.clone());
        secrets.chain(tokens).filter(|secret| secret.len() >= 10).collect()
    }

    fn assert_without_secrets(&self, ran: &Ran) {
        let secrets = self.secrets();
        assert_without(&ran.all(), &secrets.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn the_demo_shows_the_main_job_and_masks_the_password() {
    let demo = Demo::new();
    let ran = demo.run(&["--once"]).ok();
    for words in [
        "Connect 1Password",
        "Northwind Supplier Portal",
        "op://",
        "************",
        "live, good for",
        "cached,",
        "All 7 steps worked",
    ] {
        assert!(ran.stdout.contains(words), "{words}: {ran:#?}");
    }
    demo.assert_without_secrets(&ran);
}

#[test]
fn the_demo_as_data_is_one_document_and_its_text_is_on_standard_error() {
    let demo = Demo::new();
    let ran = demo.run(&["--once", "--json"]).ok();
    let data = ran.json();
    assert_eq!(data["ok"], true);
    assert_eq!(data["steps"].as_array().unwrap().len(), 7);
    assert!(data["steps"].as_array().unwrap().iter().all(|step| step["ok"] == true && step["ms"].is_f64()));
    let [first, again] = [&data["resolved"][0], &data["resolved"][1]];
    assert_eq!((&first["password"]["source"], &again["password"]["source"]), (&"live".into(), &"cached".into()));
    assert_eq!(again["one_time_code"]["source"], "live");
    assert!(ran.stderr.contains("All 7 steps worked"));
    demo.assert_without_secrets(&ran);

    let revealed = demo.run(&["--once", "--json", "--reveal"]).ok().json();
    let reference = revealed["entry"]["secret_ref"].as_str().unwrap();
    let info = demo.emulator.info();
    let item = info.accounts.iter().flat_map(|account| &account.vaults).flat_map(|vault| &vault.items);
    let item = item.clone().find(|item| item.reference == reference).unwrap();
    assert_eq!(revealed["resolved"][0]["username"]["value"].as_str(), item.username.as_deref());
    assert_eq!(revealed["resolved"][1]["password"]["value"].as_str(), item.password.as_deref());
}

#[test]
fn a_step_that_fails_is_named_with_the_reason_and_decides_the_exit_code() {
    let demo = Demo::new();
    demo.emulator.revoke_token("automation", 401).unwrap();
    let ran = demo.run(&["--once", "--json"]).failed(5);
    let data = ran.json();
    assert_eq!(data["ok"], false);
    assert!(data["error"]["message"].as_str().unwrap().starts_with("Connect 1Password: "), "{ran:#?}");
    demo.assert_without_secrets(&ran);
    demo.emulator.restore_token("automation").unwrap();

    demo.emulator.fault(FaultRule { endpoint: None, skip: 0, times: None, fault: Fault::status(503) });
    demo.run(&["--once"]).failed(6);
    demo.emulator.clear_faults();

    let missing = demo.folder.path().to_str().unwrap();
    let ran = demo.run(&["--once", "--components", missing]).failed(3);
    assert!(ran.stderr.contains("Start the host: no provider of type `1password` is installed"), "{ran:#?}");
}

#[test]
fn a_token_is_checked_before_anything_is_stored() {
    let demo = Demo::new();
    let good = demo.emulator.token("automation").unwrap();
    let half = &good.expose()[..good.expose().len() / 2];
    let data = demo.folder.path().to_str().unwrap();
    for token in ["ghp_0123456789abcdef", half] {
        let ran = demo.folder.run_with(&["demo", "--data-dir", data, "--once", "--token-file", "-"], token).failed(4);
        assert!(ran.stderr.contains("Connect 1Password: "), "{ran:#?}");
        assert_without(&ran.all(), &[token]);
    }
    let ran = demo.folder.run(&["demo", "--once"]).failed(2);
    assert!(ran.stderr.contains("cargo xtask demo"), "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_keeps_serving_and_its_curl_lines_work() {
    let demo = Demo::new();
    let mut child = demo.folder.keyway(&demo.arguments(&["--json"])).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let data: Value = serde_json::from_str(&line).unwrap();
    let key = data["api"]["api_key"].as_str().unwrap();
    let lines: Vec<_> =
        data["api"]["curl"].as_array().unwrap().iter().map(|line| line["command"].as_str().unwrap()).collect();
    assert_eq!(lines.len(), 5);
    for line in lines {
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
        let answer = match line.split_once(" -d '") {
            Some((_, body)) => {
                let headers = [("cc-key", key), ("content-type", "application/json")];
                send(url, "POST", &headers, body.trim_end_matches('\'').to_owned()).await
            }
            None => send(url, "GET", &[("cc-key", key)], "").await,
        };
        assert!(
            answer.status.is_success() && answer.json().is_object() || !answer.json().as_array().unwrap().is_empty(),
            "{answer:?}"
        );
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(stderr.contains("export CC_API_KEY=sk_") && stderr.contains("Ctrl-C"), "{stderr}");
}
