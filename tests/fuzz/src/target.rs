//! The targets, and which of them this process runs.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::{env, fs, panic, process};

use crate::{audit, host, onepassword, sealed, server};

/// Names the target of this process. Without it, the seeds and dictionaries of all targets are
/// written, and their names printed.
const CHOICE: &str = "KEYWAY_FUZZ_TARGET";
/// Where each target has a folder.
const FOLDER: &str = "KEYWAY_FUZZ_FOLDER";

/// Something that is fuzzed.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]),
    /// The longest input in bytes: long enough for all that the reader tells apart. Shorter inputs
    /// run more often.
    pub(crate) longest: usize,
    /// How many inputs `cargo xtask test` tries: about as many as a small machine tries in a
    /// minute.
    pub(crate) inputs: u32,
    /// Inputs to begin with, from which the fuzzer makes others, and what each of them is.
    pub(crate) seeds: &'static [(&'static str, &'static str)],
    /// Words that the fuzzer is unlikely to find by itself.
    pub(crate) words: &'static [&'static str],
}

/// All targets.
const TARGETS: [Target; 16] = [
    sealed::OTPAUTH,
    onepassword::TOKEN,
    onepassword::TOKEN_CONTENT,
    onepassword::REFERENCE,
    onepassword::ANSWER,
    onepassword::EDIT,
    sealed::ENVELOPE,
    sealed::CLIENT_VALUE,
    audit::SEGMENTS,
    audit::TEXT,
    server::BODY,
    server::CONFIGURATION,
    host::DESCRIPTION,
    host::RESOLVED,
    host::DESTINATION,
    host::REDACTION,
];

static CHOSEN: OnceLock<Target> = OnceLock::new();

/// The folder of this target, for files that it needs.
pub(crate) fn folder(name: &str) -> PathBuf {
    PathBuf::from(env::var_os(FOLDER).expect("cargo xtask fuzz names a folder")).join(name)
}

/// Chooses the target, or prepares all of them and ends the process.
pub(crate) fn begin() {
    let Ok(choice) = env::var(CHOICE) else {
        TARGETS.iter().for_each(prepare);
        process::exit(0);
    };
    let target = TARGETS.into_iter().find(|target| target.name == choice);
    let target = target.unwrap_or_else(|| panic!("there is no target `{choice}`"));
    assert!(CHOSEN.set(target).is_ok(), "libFuzzer begins once");
    // A panic is a finding even where it would be caught.
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        report(panic);
        process::abort();
    }));
}

/// Runs the chosen target.
pub(crate) fn run(input: &[u8]) {
    if let Some(target) = CHOSEN.get() {
        (target.run)(input);
    }
}

fn prepare(target: &Target) {
    let folder = folder(target.name);
    let seeds = folder.join("seeds");
    // Seeds of an earlier version may be left.
    let _ = fs::remove_dir_all(&seeds);
    for of in [&seeds, &folder.join("corpus"), &folder.join("findings")] {
        fs::create_dir_all(of).expect("the folder can be written");
    }
    for (what, seed) in target.seeds {
        fs::write(seeds.join(what.replace(' ', "-")), seed).expect("the folder can be written");
    }
    // libFuzzer refuses a dictionary without a word; this one is harmless.
    let words = target.words.iter().chain(&["\0"]);
    let words: String = words.map(|word| format!("\"{}\"\n", escaped(word))).collect();
    fs::write(folder.join("words"), words).expect("the folder can be written");
    println!("{} {} {}", target.name, target.longest, target.inputs);
}

/// A word as libFuzzer's dictionaries write it.
fn escaped(word: &str) -> String {
    let escape = |byte: u8| match byte {
        b'"' | b'\\' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    word.bytes().map(escape).collect()
}
