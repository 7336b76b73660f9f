//! Finds a way to compile for `wasm32-wasip2`, installing what is missing.
//!
//! Tried in this order:
//!
//! 1. the compiler in use, if it has the target;
//! 2. `rustup target add`, ended when it makes no progress: without access to its server it hangs
//!    for minutes. A failure is remembered for a day;
//! 3. Debian's compiler, which comes with its sources: the standard library is built from them (a
//!    minute, once).
//!
//! If all of them fail, one error names both ways to install the target.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use crate::debian;
use crate::process;
use crate::workspace;

/// WASI 0.2: what every component language and the runtime support.
pub(crate) const TARGET: &str = "wasm32-wasip2";

/// If set to `rustup` or `debian`, only that way is tried.
const CHOICE: &str = "KEYWAY_WASM_TOOLCHAIN";
/// How long rustup may go without receiving data.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long rustup may take in total: some 20 MB over a slow line.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(300);
/// How long a failure of rustup is remembered.
const MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

const DEBIAN_COMPILER: &str = "/usr/bin/rustc";
/// Installed by wasi-libc's package.
const DEBIAN_LIBC: &str = "/usr/lib/wasm32-wasi";
const DEBIAN_SOURCES: &str = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "wasi-libc"];
/// The oldest compiler that the workspace accepts (`rust-version` in Cargo.toml).
const OLDEST: (u32, u32) = (1, 95);

/// A compiler for the target.
#[derive(Debug, PartialEq)]
pub(crate) enum Toolchain {
    /// The compiler in use, with its own standard library for the target.
    Installed,
    /// Debian's compiler. The standard library is built from source; the linker comes from
    /// `linker_folder` of the compiler in use.
    Debian { linker_folder: PathBuf },
}

impl Toolchain {
    /// Finds a toolchain, or installs one.
    pub(crate) fn find() -> Result<Self> {
        let choice = env::var(CHOICE).unwrap_or_default();
        let from_rustup = match choice.as_str() {
            "debian" => Err("left out by ".to_owned() + CHOICE),
            _ if is_installed()? => return Ok(Self::Installed),
            _ => add_with_rustup(),
        };
        let Err(rustup_problem) = from_rustup else { return Ok(Self::Installed) };
        let from_debian = match choice.as_str() {
            "rustup" => Err(anyhow::anyhow!("left out by {CHOICE}")),
            _ => prepare_debian(),
        };
        from_debian.map_err(|debian_problem| {
            anyhow::anyhow!(
                "The compiler has no {TARGET} target, which provider components need. There are two ways to get it:\n  \
                 - rustup target add {TARGET}\n      ({rustup_problem})\n  \
                 - on Debian 12 or newer: apt-get install --no-install-recommends {}\n      ({debian_problem:#})",
                DEBIAN_PACKAGES.join(" "),
            )
        })
    }

    /// Cargo's arguments besides the target.
    pub(crate) fn cargo_arguments(&self) -> &'static [&'static str] {
        match self {
            Self::Installed => &[],
            Self::Debian { .. } => &["-Zbuild-std=std,panic_abort"],
        }
    }

    /// Flags for the compiler.
    pub(crate) fn compiler_flags(&self) -> Vec<OsString> {
        match self {
            Self::Installed => Vec::new(),
            Self::Debian { .. } => vec![OsString::from("-L"), OsString::from(DEBIAN_LIBC)],
        }
    }

    /// Sets the environment of a cargo that compiles for the target.
    pub(crate) fn prepare(&self, command: &mut Command) {
        let Self::Debian { linker_folder } = self else { return };
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(linker_folder.clone()).chain(env::split_paths(&path));
        // A folder with a colon in its name cannot be on the PATH; the linker is then reported
        // missing.
        command.env("PATH", env::join_paths(folders).unwrap_or(path));
        // Building the standard library is an unstable feature; this enables it in a stable cargo.
        command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", DEBIAN_COMPILER);
    }
}

fn rustc(arguments: &[&str]) -> Result<String> {
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(arguments)
        .current_dir(workspace::root())
        .output()
        .context("rustc could not be started. Is Rust installed?")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether the compiler in use has a standard library for the target. It reports the target's
/// folder in any case.
fn is_installed() -> Result<bool> {
    Ok(has_standard_library(Path::new(&rustc(&["--print", "target-libdir", "--target", TARGET])?)))
}

fn has_standard_library(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| {
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    })
}

/// Tries rustup. The error completes the sentence of the caller with the reason.
fn add_with_rustup() -> Result<(), String> {
    let version = rustc(&["--version"]).map_err(|error| error.to_string())?;
    let memory = workspace::state().join("rustup-target-failed");
    if let Some(problem) = remembered(&memory, &version) {
        return Err(problem);
    }
    let Err(problem) = try_rustup() else {
        return Ok(());
    };
    // If this fails, the next run only loses ten seconds.
    let _ = fs::create_dir_all(workspace::state());
    let _ = fs::write(&memory, format!("{version}\n{problem}"));
    Err(problem)
}

/// The failure remembered for this compiler, if it is less than a day old.
fn remembered(memory: &Path, version: &str) -> Option<String> {
    let age = SystemTime::now().duration_since(fs::metadata(memory).ok()?.modified().ok()?).ok()?;
    let text = fs::read_to_string(memory).ok()?;
    let (of, problem) = text.split_once('\n')?;
    (age < MEMORY && of == version).then(|| problem.to_owned())
}

fn try_rustup() -> Result<(), String> {
    let mut command = Command::new("rustup");
    command.args(["target", "add", TARGET]).current_dir(workspace::root());
    if Command::new("rustup").arg("--version").output().is_err() {
        return Err("rustup is not installed".into());
    }
    eprintln!("The compiler has no {TARGET} target yet: asking rustup for it.");
    let downloads = rustup_home().join("downloads");
    let (mut size, mut moved) = (0, Duration::ZERO);
    let finished = process::quietly(&format!("rustup target add {TARGET}"), &mut command, |elapsed| {
        let now = folder_size(&downloads);
        if now != size {
            (size, moved) = (now, elapsed);
        }
        let stuck = elapsed.saturating_sub(moved) > PATIENCE || elapsed > DOWNLOAD_LIMIT;
        stuck.then(|| "rustup received nothing; its server cannot be reached from here".to_owned())
    });
    match finished {
        Err(error) => Err(error.to_string()),
        Ok(finished) if !finished.status.success() => {
            let last = finished.stderr.lines().rev().find(|line| !line.trim().is_empty());
            Err(last.unwrap_or("rustup failed and printed nothing").trim().to_owned())
        }
        Ok(_) if is_installed().unwrap_or(false) => Ok(()),
        Ok(_) => Err("rustup reported success, but the compiler in use still lacks the target".into()),
    }
}

fn rustup_home() -> PathBuf {
    let home = env::var_os("HOME").or_else(|| env::var_os("USERPROFILE")).map(PathBuf::from).unwrap_or_default();
    env::var_os("RUSTUP_HOME").map_or_else(|| home.join(".rustup"), PathBuf::from)
}

fn folder_size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// Tries Debian's compiler.
fn prepare_debian() -> Result<Toolchain> {
    let complete = || [DEBIAN_COMPILER, DEBIAN_LIBC, DEBIAN_SOURCES].iter().all(|path| Path::new(path).exists());
    if !complete() {
        eprintln!("Debian's compiler and its sources will be used instead; the standard library is built from them.");
        debian::install(&DEBIAN_PACKAGES)?;
    }
    if !complete() {
        bail!("its packages are installed, but {DEBIAN_COMPILER}, {DEBIAN_LIBC} or {DEBIAN_SOURCES} is missing");
    }
    let version = Command::new(DEBIAN_COMPILER).arg("--version").output().context("Debian's rustc does not start")?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    if release(&version).is_none_or(|release| release < OLDEST) {
        bail!("{DEBIAN_COMPILER} is {version}; {}.{} or newer is needed", OLDEST.0, OLDEST.1);
    }
    let host = host(&rustc(&["-vV"])?).context("rustc does not say what machine it is for")?;
    let linker_folder = Path::new(&rustc(&["--print", "sysroot"])?).join("lib/rustlib").join(host).join("bin");
    if !linker_folder.join("wasm-component-ld").exists() {
        bail!("the linker wasm-component-ld, which rustup installs with Rust, is not in {}", linker_folder.display());
    }
    Ok(Toolchain::Debian { linker_folder })
}

/// Parses `rustc 1.96.0 (ac68faa20 2026-05-25)` into `(1, 96)`.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The `host:` line of `rustc -vV`.
fn host(verbose_version: &str) -> Option<String> {
    verbose_version.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_and_the_host_are_read_from_what_rustc_prints() {
        assert_eq!(release("rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)"), Some((1, 96)));
        assert_eq!(release("rustc 1.97.0-nightly (12345678 2026-05-25)"), Some((1, 97)));
        assert_eq!(release("gcc"), None);
        let verbose = "rustc 1.95.0\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n";
        assert_eq!(host(verbose).as_deref(), Some("x86_64-unknown-linux-gnu"));
    }

    #[test]
    fn a_target_folder_without_the_standard_library_is_not_an_installed_target() {
        // The compiler prints such a folder for every target that it knows.
        assert!(!has_standard_library(Path::new("/nonexistent/rustlib/wasm32-wasip2/lib")));
        assert!(!has_standard_library(&workspace::root().join("xtask/src")));
    }

    #[test]
    fn a_failure_of_rustup_is_remembered_for_the_same_compiler_only() -> Result<()> {
        let file = env::temp_dir().join(format!("keyway-xtask-memory-{}", std::process::id()));
        fs::write(&file, "rustc 1.95.0\nno route")?;
        assert_eq!(remembered(&file, "rustc 1.95.0").as_deref(), Some("no route"));
        assert_eq!(remembered(&file, "rustc 1.96.0"), None);
        let day_ago = SystemTime::now() - MEMORY;
        fs::File::options().write(true).open(&file)?.set_modified(day_ago)?;
        assert_eq!(remembered(&file, "rustc 1.95.0"), None);
        fs::remove_file(&file)?;
        Ok(())
    }

    #[test]
    fn debians_compiler_finds_the_linker_first_on_the_path() {
        let mut command = Command::new("cargo");
        Toolchain::Debian { linker_folder: "/linkers".into() }.prepare(&mut command);
        let path = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value);
        assert!(path.is_some_and(|path| path.to_string_lossy().starts_with("/linkers:")));
    }
}
