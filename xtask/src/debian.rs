//! Installs packages on Debian and its derivatives when run as root.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

/// Installs the packages. Without apt or root, the error says what to do by hand.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("apt-get is missing: this is not a Debian system");
    }
    if !is_root() {
        bail!("that needs root: sudo apt-get install --no-install-recommends {names}");
    }
    eprintln!("Installing {names} with apt-get.");
    let install = || {
        let mut command = apt();
        command.args(["install", "--yes", "--no-install-recommends"]).args(packages);
        process::checked(&format!("apt-get install {names}"), &mut command)
    };
    if install().is_err() {
        // On a fresh machine the package lists are empty or old.
        process::checked("apt-get update", apt().arg("update"))?;
        install()?;
    }
    Ok(())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "DPkg::Lock::Timeout=120"]);
    command
}

/// Asks `id -u`, because a system call would need unsafe code or another crate.
fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
