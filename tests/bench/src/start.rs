//! From starting the program to its first request, with compiled code on disk.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use keyway_e2e::component;

use crate::report::{Report, Row};
use crate::statistics::{median, ratio, show};

pub(crate) fn measure(report: &mut Report, quick: usize) -> Result<()> {
    let program = std::env::var_os("KEYWAY_PROGRAM")
        .context("KEYWAY_PROGRAM does not say where `keyway` is; run `cargo xtask bench`")?;
    let program = Path::new(&program);
    let folder = tempfile::tempdir()?;
    let providers = folder.path().join("providers");
    fs::create_dir(&providers)?;
    fs::write(providers.join("onepassword.wasm"), component("onepassword")?)?;

    let (cold, server) = serve(program, folder.path())?;
    drop(server);
    let (mut warm, mut version) = (Vec::new(), Vec::new());
    for _ in 0..(20 / quick).max(3) {
        let (time, server) = serve(program, folder.path())?;
        drop(server);
        warm.push(time);
        let start = Instant::now();
        Command::new(program).arg("--version").stdout(Stdio::null()).status()?;
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

/// A running server, ended when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the server and waits until it says that it listens.
fn serve(program: &Path, folder: &Path) -> Result<(Duration, Server)> {
    let start = Instant::now();
    let mut server = Server(
        Command::new(program)
            .args(["serve", "--json", "--listen", "127.0.0.1:0", "--log", "off"])
            .arg("--data-dir")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("`keyway` cannot be started")?,
    );
    let output = server.0.stdout.take().context("no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let ready = start.elapsed();
    anyhow::ensure!(line.contains("listening"), "the server did not say that it listens, but: {line}");
    Ok((ready, server))
}
