//! Checks that the crates a stranger needs can be packaged, each with the contract inside: a
//! package cannot read `wit/` at the root of this checkout.
//!
//! Nothing is compiled or published. Lock files are left out, because Cargo would look up the
//! crates of this workspace, which are not published, in the registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace;

/// What a provider in Rust depends on, what embeds the sandbox, and what that needs.
const CRATES: [&str; 4] = ["keyway-clock", "keyway-otp", "keyway-runtime", "keyway-sdk"];
/// Those that generate code from the contract.
const WITH_CONTRACT: [&str; 2] = ["keyway-runtime", "keyway-sdk"];

/// Packages the crates, and compares the contract inside with the one at the root.
pub(crate) fn check() -> Result<()> {
    let folder = tempfile::tempdir().context("There is no temporary folder")?;
    let mut command = workspace::cargo();
    command.args(["package", "--no-verify", "--allow-dirty", "--exclude-lockfile", "--offline", "--quiet"]);
    command.arg("--target-dir").arg(folder.path());
    for name in CRATES {
        command.args(["--package", name]);
    }
    process::checked("cargo package", &mut command)?;
    let contract = files(&workspace::root().join("wit"))?;
    for name in CRATES {
        let package = unpack(&folder.path().join("package"), name)?;
        if WITH_CONTRACT.contains(&name) && files(&package.join("wit"))? != contract {
            bail!("The package of {name} has another wit/ than the checkout. Is its wit a link to ../../wit?");
        }
        println!("{name} is packaged.");
    }
    Ok(())
}

/// The folder of a package's contents.
fn unpack(packages: &Path, name: &str) -> Result<PathBuf> {
    // All crates of this workspace have one version.
    let stem = format!("{name}-{}", env!("CARGO_PKG_VERSION"));
    let mut command = Command::new("tar");
    command.arg("-xzf").arg(packages.join(format!("{stem}.crate"))).arg("-C").arg(packages);
    process::checked(&format!("Unpacking {stem}.crate"), &mut command)?;
    Ok(packages.join(stem))
}

/// The files below a folder with their contents, by relative path.
fn files(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("{} cannot be read", next.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.strip_prefix(folder)?.to_owned(), fs::read(&path)?));
            }
        }
    }
    found.sort();
    Ok(found)
}
