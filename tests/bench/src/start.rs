//! The time from starting the program to its first request, with compiled code on disk.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use keyway_e2e::component;

use crate::report::{Report, Row};
use crate::server::{Process, keyway};
use crate::statistics::{median, ratio, show};

pub(crate) fn measure(report: &mut Report, quick: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let providers = folder.path().join("providers");
    fs::create_dir(&providers)?;
    fs::write(providers.join("onepassword.wasm"), component("onepassword")?)?;
    ensure!(installed(folder.path())?.arg("init").stdout(Stdio::null()).status()?.success(), "keyway init failed");

    let (cold, server) = serve(folder.path())?;
    drop(server);
    let (mut warm, mut version) = (Vec::new(), Vec::new());
    for _ in 0..(20 / quick).max(3) {
        let (time, server) = serve(folder.path())?;
        drop(server);
        warm.push(time);
        let start = Instant::now();
        installed(folder.path())?.arg("--version").stdout(Stdio::null()).status()?;
        version.push(start.elapsed());
    }
    let (warm, version) = (median(&mut warm), median(&mut version));
    report.add(Row {
        what: "start of `keyway serve` to ready, warm code cache, median",
        ours: show(warm),
        compared_with: format!("cold: {}; `keyway --version`: {}", show(cold), show(version)),
        ratio: format!("{:.1} times faster than cold", ratio(cold, warm)),
        goal: Some(("under 100 ms", warm < Duration::from_millis(100))),
    });
    Ok(())
}

/// The program with its data and its key.
fn installed(folder: &Path) -> Result<Command> {
    let mut command = keyway(folder)?;
    command.env("KEYWAY_MASTER_KEY_FILE", folder.join("master.key"));
    Ok(command)
}

/// Starts the server and waits until it says that it listens.
fn serve(folder: &Path) -> Result<(Duration, Process)> {
    let mut command = installed(folder)?;
    command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--log", "off"]);
    let start = Instant::now();
    let server = Process::start(command)?;
    Ok((start.elapsed(), server))
}
