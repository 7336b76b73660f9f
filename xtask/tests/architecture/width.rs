//! Comments and Markdown are wrapped at 100 columns, which rustfmt does not check.

use std::fs;
use std::path::{Path, PathBuf};

use crate::sources::root;

/// The width of prose that CONTRIBUTING.md asks for.
const WIDTH: usize = 100;

/// Folders of what is built, installed or generated.
const NOT_WRITTEN: [&str; 4] = ["target", "node_modules", ".venv", ".git"];

/// The files below a folder in which people write prose.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_symlink() || NOT_WRITTEN.contains(&name) || path.ends_with("docs/src/reference") {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|end| ["rs", "md", "sh"].iter().any(|of| end == *of)) {
            found.push(path);
        }
    }
    found
}

/// The numbers of prose lines that are too long. Code, tables and lines of one word are no prose.
fn too_long(text: &str, is_markdown: bool) -> Vec<usize> {
    let mut in_code = false;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let prose = if is_markdown {
            Some(line)
        } else {
            let markers = ["//!", "///", "//", "# "];
            markers.iter().find_map(|marker| trimmed.strip_prefix(marker)).filter(|_| !trimmed.starts_with("#["))
        };
        // A code block of a comment ends with the comment.
        let Some(prose) = prose else {
            in_code = false;
            continue;
        };
        let prose = prose.trim_start();
        if prose.starts_with("```") {
            in_code = !in_code;
        } else if !in_code && !prose.starts_with('|') && prose.contains(' ') && line.chars().count() > WIDTH {
            found.push(number + 1);
        }
    }
    found
}

#[test]
fn comments_and_documents_are_wrapped_at_100_columns() {
    let mut all = files(root());
    assert!(all.len() > 400, "the sources were read: {} files", all.len());
    all.push(root().join(".ci/run"));
    let mut found = Vec::new();
    for file in all {
        let text = fs::read_to_string(&file).unwrap();
        let shown = file.strip_prefix(root()).unwrap().display();
        let is_markdown = file.extension().is_some_and(|end| end == "md");
        found.extend(too_long(&text, is_markdown).into_iter().map(|number| format!("{shown}:{number}")));
    }
    assert!(found.is_empty(), "lines of more than {WIDTH} columns:\n{}", found.join("\n"));
}

#[test]
fn long_code_and_tables_are_no_prose() {
    let long = "word ".repeat(30);
    for prose in [format!("// {long}"), format!("let x = 1;\n    /// {long}"), format!("//! ```\nx();\n// {long}")] {
        assert_eq!(too_long(&prose, false).len(), 1, "{prose}");
    }
    for other in [format!("let x = \"{long}\";"), format!("//! ```\n//! {long}\n//! ```"), format!("/// | {long} |")] {
        assert_eq!(too_long(&other, false), [0; 0], "{other}");
    }
    assert_eq!(too_long(&format!("{long}\n```sh\n{long}\n```\n{long}"), true), [1, 5]);
}
