//! The host must not name any provider.

use std::fs;
use std::path::{Path, PathBuf};

use crate::sources::root;

/// The files below a folder that may hold behaviour, or text that people read.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| ["rs", "sql", "html"].iter().any(|of| extension == *of)) {
            files.push(path);
        }
    }
    files
}

/// The code of a file up to its tests, without comments. In the server, the documentation of items
/// counts too: clap and utoipa turn it into help texts and the API's document.
fn code(text: &str, is_server: bool) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line));
    let before_tests = lines.take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    before_tests.filter(move |(_, line)| {
        let line = line.trim_start();
        !line.starts_with("//") && !line.starts_with("-- ") || is_server && line.starts_with("///")
    })
}

/// What may name a provider: the demo, which shows one, and the change of databases from before
/// there was a second one.
const EXCEPTIONS: [&str; 3] =
    ["host/server/src/demo/", "host/server/src/cli/args/demo.rs", "host/storage/migrations/0009_rate_limits.sql"];

/// Each provider's folder, type, display name and scheme, the last three from its sources.
fn names_of_providers() -> Vec<String> {
    let mut names = Vec::new();
    for folder in fs::read_dir(root().join("providers")).unwrap() {
        let folder = folder.unwrap().path();
        names.push(folder.file_name().unwrap().to_str().unwrap().to_lowercase());
        for file in sources(&folder.join("src")) {
            let text = fs::read_to_string(file).unwrap();
            let scheme = text.split_once("const SCHEME: &str = \"").and_then(|(_, rest)| rest.split('"').next());
            names.extend(scheme.map(|scheme| format!("{scheme}://")));
        }
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
    for known in ["1password", "onepassword", "op://"] {
        assert!(names.iter().any(|name| name == known), "{known}: {names:?}");
    }
    let mut found = Vec::new();
    for part in fs::read_dir(root().join("host")).unwrap() {
        let part = part.unwrap().path();
        let folders = ["src", "migrations"].map(|folder| part.join(folder));
        for file in folders.iter().filter(|folder| folder.is_dir()).flat_map(|folder| sources(folder)) {
            let shown = file.strip_prefix(root()).unwrap().display().to_string();
            // Tests may name one.
            if EXCEPTIONS.iter().any(|exception| shown.starts_with(exception)) || shown.contains("tests") {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            for (number, line) in code(&text, shown.starts_with("host/server/")) {
                let lower = line.to_lowercase();
                if names.iter().any(|name| lower.contains(name.as_str())) {
                    found.push(format!("{shown}:{number}: {}", line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
