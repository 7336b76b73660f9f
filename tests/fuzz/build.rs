//! Links libFuzzer, which `cargo xtask fuzz` compiles first.

/// The folder of its archive.
const FOLDER: &str = "KEYWAY_FUZZ_LIBFUZZER";

fn main() {
    println!("cargo::rerun-if-env-changed={FOLDER}");
    if let Ok(folder) = std::env::var(FOLDER) {
        println!("cargo::rustc-link-search=native={folder}");
        println!("cargo::rustc-link-lib=static=fuzzer");
        println!("cargo::rustc-link-lib=stdc++");
    }
}
