//! The book: mdBook builds `docs/` into `target/book`. Every link in the book and in the other
//! Markdown files of the checkout must resolve.
//!
//! mdBook is installed below `target/tools` on first use (a minute or two), without its server,
//! file watcher and search, which the check does not need. If it cannot be installed, the step
//! fails rather than pass an unbuilt book.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::links::{self, Page};
use crate::process;
use crate::tools::{self, Tool};
use crate::workspace;

/// The release that `docs/book.toml` is written for.
const MDBOOK: Tool = Tool { name: "mdbook", version: "=0.5.4", arguments: &["--no-default-features"] };

/// Where the chapters are.
const CHAPTERS: &str = "docs/src";

/// Folders of what is built or installed.
const NOT_OURS: [&str; 2] = ["target", "node_modules"];

/// Checks the links, then builds the book.
pub(crate) fn check() -> Result<()> {
    let mut pages = Vec::new();
    for path in markdown(workspace::root())? {
        let file = workspace::root().join(&path);
        let text = fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        pages.push(Page::new(path, &text));
    }
    let mut faults = links::broken(&pages, workspace::root(), Path::new(CHAPTERS));
    faults.extend(links::unlisted(&pages, Path::new(CHAPTERS)));
    if !faults.is_empty() {
        bail!("{} links are broken:\n  {}", faults.len(), faults.join("\n  "));
    }
    println!("{} pages, no broken link.", pages.len());
    let program = tools::find_or_install(&MDBOOK)?;
    process::shown(Command::new(program).args(["build", "docs"]).current_dir(workspace::root()))
}

/// The Markdown files below a folder, relative to the root.
fn markdown(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || NOT_OURS.contains(&&*name) {
            continue;
        }
        // A link leads to a folder that is found by itself.
        if path.is_dir() && !path.is_symlink() {
            found.extend(markdown(&path)?);
        } else if path.extension().is_some_and(|end| end == "md") {
            found.push(path.strip_prefix(workspace::root()).unwrap_or(&path).to_owned());
        }
    }
    found.sort();
    Ok(found)
}
