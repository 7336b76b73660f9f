//! The host must not name any provider.

use std::fs;
use std::path::{Path, PathBuf};

use crate::sources::root;

/// The Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The code of a file up to its tests, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line));
    let before_tests = lines.take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    before_tests.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Each provider's folder, type and display name, the last two from its `describe`.
fn names_of_providers() -> Vec<String> {
    let mut names = Vec::new();
    for folder in fs::read_dir(root().join("providers")).unwrap() {
        let folder = folder.unwrap().path();
        names.push(folder.file_name().unwrap().to_str().unwrap().to_lowercase());
        let main = fs::read_to_string(folder.join("src/lib.rs")).unwrap();
        let (_, described) = main.split_once("Description::new(").expect("a provider describes itself");
        names.extend(described.split('"').skip(1).step_by(2).take(2).map(str::to_lowercase));
    }
    names.sort();
    names.dedup();
    names
}

#[test]
fn the_host_knows_no_provider_by_name() {
    let names = names_of_providers();
    assert!(names.iter().any(|name| name == "1password") && names.iter().any(|name| name == "onepassword"));
    let mut found = Vec::new();
    for part in fs::read_dir(root().join("host")).unwrap() {
        let source = part.unwrap().path().join("src");
        for file in if source.is_dir() { sources(&source) } else { Vec::new() } {
            let shown = file.strip_prefix(root()).unwrap().display().to_string();
            // The demo shows a provider, and tests may name one.
            if shown.starts_with("host/server/src/demo/") || shown.contains("tests") {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            for (number, line) in code(&text) {
                let lower = line.to_lowercase();
                // An example in a document has no effect on behaviour.
                if names.iter().any(|name| lower.contains(name.as_str())) && !lower.contains("example = ") {
                    found.push(format!("{shown}:{number}: {}", line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
