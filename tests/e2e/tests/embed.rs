//! The README's example, unchanged, against the emulator.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

#[path = "../../../host/broker/examples/embed.rs"]
#[expect(dead_code, reason = "its `main`")]
mod example;

use keyway_e2e::components;
use keyway_emulator_onepassword::Emulator;
use keyway_runtime::Runtime;
use keyway_runtime::egress::EgressPolicy;

#[tokio::test(flavor = "multi_thread")]
async fn the_example_resolves_an_item() {
    let emulator = Emulator::start().unwrap();
    let rule = format!("{}={}", emulator.host(), emulator.url()).parse().unwrap();
    let runtime = Runtime::builder().egress(EgressPolicy::default().with_connect_to(rule));
    // A folder with only that component, as an operator has it.
    let folder = tempfile::tempdir().unwrap();
    let providers = folder.path().join("providers");
    std::fs::create_dir(&providers).unwrap();
    std::fs::copy(components().join("onepassword.wasm"), providers.join("onepassword.wasm")).unwrap();
    let token = emulator.account("automation").unwrap().token;
    let said = example::embed(runtime, &providers, folder.path(), token.into()).await.unwrap();
    assert!(said.contains("password present") && said.contains("Live"), "{said}");
}

#[test]
fn the_readme_shows_the_example_as_it_is() {
    let readme = include_str!("../../../README.md");
    let example = include_str!("../../../host/broker/examples/embed.rs");
    let function = example.find("use std::error::Error;").map(|start| &example[start..]).unwrap();
    let function = function.split("\n#[tokio::main]").next().unwrap().trim_end();
    assert!(readme.contains(function), "the README's example differs from host/broker/examples/embed.rs");
}
