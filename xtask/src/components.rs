//! Builds the components: each folder of `providers/` and each example of `tests/fixtures` becomes
//! one file below `target/components`.
//!
//! Cargo decides what is out of date, and a file is replaced only when its bytes differ. So a
//! second run is quick, and a process that watches the folder sees only real changes. Components
//! contain no path of the build machine.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process;
use crate::wasm_toolchain::{TARGET, Toolchain};
use crate::workspace;

/// SRP and RSA multiply large numbers: with 128-bit products a login takes a fifth of the time. The
/// runtime enables both features.
const FEATURES: &str = "target-feature=+simd128,+wide-arithmetic";

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Build just this one: the name of a folder in providers/ or of a fixture, or `fixtures` for
    /// all of these
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Say what was built even when nothing changed
    #[arg(long, short)]
    verbose: bool,
    /// Show no progress: something else does.
    #[arg(skip)]
    beside_other_work: bool,
}

impl Options {
    /// Builds one component and shows no progress, because other work that shows its own is
    /// running.
    pub(crate) fn beside_other_work(name: &str) -> Self {
        Self { only: Some(name.to_owned()), beside_other_work: true, ..Self::default() }
    }
}

/// Builds what the options select. Every selected package is built even after a failure. The first
/// failure is the error; later ones are printed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let providers = providers()?;
    let fixtures = fixtures()?;
    let jobs = select(&providers, &fixtures, options.only.as_deref())?;
    let toolchain = Toolchain::find()?;
    let mut failures = Vec::new();
    for job in jobs {
        if let Err(error) = build(&job, &toolchain, options) {
            failures.push(error);
        }
    }
    let last = failures.pop();
    for failure in failures {
        eprintln!("error: {failure:#}\n");
    }
    last.map_or(Ok(()), Err)
}

/// One call of cargo.
#[derive(Debug, PartialEq)]
enum Job {
    /// The provider of that folder.
    Provider(String),
    /// One fixture, or all of them.
    Fixtures(Option<String>),
}

/// The folders of `providers/` that hold a crate. The name of the folder is the name of the
/// component.
fn providers() -> Result<Vec<String>> {
    let folder = workspace::root().join("providers");
    let mut names = Vec::new();
    for path in entries(&folder)? {
        if path.join("Cargo.toml").is_file() {
            names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    Ok(names)
}

/// The examples of `tests/fixtures`: one file each, or a folder with a `main.rs`.
fn fixtures() -> Result<Vec<String>> {
    let folder = workspace::root().join("tests/fixtures/examples");
    let mut names = Vec::new();
    for path in entries(&folder)? {
        if path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").is_file() {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    Ok(names)
}

/// The entries of a folder, in alphabetical order.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> io::Result<Vec<PathBuf>> { fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    let mut paths = read().with_context(|| format!("{} cannot be read", folder.display()))?;
    paths.sort();
    Ok(paths)
}

fn select(providers: &[String], fixtures: &[String], only: Option<&str>) -> Result<Vec<Job>> {
    let Some(name) = only else {
        return Ok(providers.iter().cloned().map(Job::Provider).chain([Job::Fixtures(None)]).collect());
    };
    let among = |names: &[String]| names.iter().any(|known| known == name);
    if name == "fixtures" {
        Ok(vec![Job::Fixtures(None)])
    } else if among(providers) {
        Ok(vec![Job::Provider(name.to_owned())])
    } else if among(fixtures) {
        Ok(vec![Job::Fixtures(Some(name.to_owned()))])
    } else {
        bail!(
            "There is no component '{name}'. Providers: {}. Fixtures of the tests: {}.",
            providers.join(", "),
            fixtures.join(", ")
        )
    }
}

/// Runs Clippy on the parts that exist only for the target. The compiler of [`Toolchain::Debian`]
/// has no Clippy; the return value is then the reason for skipping it.
pub(crate) fn lint() -> Result<Option<&'static str>> {
    let toolchain = Toolchain::find()?;
    if toolchain != Toolchain::Installed {
        return Ok(Some("Debian's compiler, which stands in for the missing target, has no clippy for it"));
    }
    let mut command = workspace::cargo();
    command.args(["clippy", "--lib", "--examples", "--package", "keyway-sdk", "--package", "keyway-fixtures"]);
    for name in providers()? {
        command.arg("--package").arg(format!("keyway-provider-{name}"));
    }
    command.args(["--profile", "component", "--target", TARGET, "--target-dir"]).arg(workspace::wasm_target());
    command.args(["--", "--deny", "warnings"]);
    process::shown(&mut command)?;
    Ok(None)
}

fn build(job: &Job, toolchain: &Toolchain, options: &Options) -> Result<()> {
    let mut command = cargo(toolchain);
    let (label, folder) = match job {
        Job::Provider(name) => {
            // `--crate-type` drops the native library that unit tests use: building both would
            // disable link-time optimisation.
            command.args(["rustc", "--lib", "--crate-type", "cdylib", "--package"]);
            command.arg(format!("keyway-provider-{name}"));
            (format!("Building the provider {name}"), workspace::components())
        }
        Job::Fixtures(name) => {
            command.args(["build", "--package", "keyway-fixtures"]);
            match name {
                Some(name) => command.args(["--example", name]),
                None => command.arg("--examples"),
            };
            ("Building the test components".to_owned(), workspace::components().join("fixtures"))
        }
    };
    command.args(["--profile", "component", "--target", TARGET, "--message-format", "json-render-diagnostics"]);
    command.args(toolchain.cargo_arguments());
    command.arg("--target-dir").arg(workspace::wasm_target());

    let started = Instant::now();
    let progress = if options.beside_other_work { "" } else { &label };
    let finished = process::quietly(progress, &mut command, |_| None)?;
    if !finished.status.success() {
        bail!("{label} failed.\n{}", without_feature_warnings(&finished.stderr));
    }
    let artefacts = artefacts(&finished.stdout);
    for artefact in &artefacts {
        let name = match job {
            Job::Provider(name) => name,
            Job::Fixtures(_) => &artefact.name,
        };
        let destination = folder.join(format!("{name}.wasm"));
        let changed = publish(&artefact.file, &destination)?;
        if changed || options.verbose {
            let state = if changed { "built" } else { "unchanged" };
            let size = fs::metadata(&destination)?.len().div_ceil(1024);
            let seconds = started.elapsed().as_secs_f32();
            eprintln!("{} {state}, {size} KiB, {seconds:.1} s", workspace::shown(&destination));
        }
    }
    if artefacts.is_empty() && matches!(job, Job::Provider(_) | Job::Fixtures(Some(_))) {
        bail!("{label} made no component. Is its crate type `cdylib`?");
    }
    Ok(())
}

/// `cargo` with the flags for components.
fn cargo(toolchain: &Toolchain) -> Command {
    let mut command = workspace::cargo();
    let mut flags = vec![OsString::from("-C"), OsString::from(FEATURES)];
    flags.extend(toolchain.compiler_flags());
    for (from, to) in remapped() {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join(std::ffi::OsStr::new("\x1f"))).env_remove("RUSTFLAGS");
    toolchain.prepare(&mut command);
    command
}

/// Folders of this machine, and their names inside a component (in the text of a panic, for
/// example). Later entries take precedence.
fn remapped() -> Vec<(PathBuf, &'static str)> {
    let mut folders = vec![(PathBuf::from("/usr/lib/rustlib/src/rust"), "/rust")];
    let home = env::var_os("HOME").or_else(|| env::var_os("USERPROFILE")).map(PathBuf::from);
    folders.extend(home.clone().map(|home| (home, "/home")));
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(home?.join(".cargo")));
    if let Some(cargo_home) = cargo_home {
        let sources = cargo_home.join("registry/src");
        folders.push((cargo_home, "/cargo"));
        // The folder below is named after the registry's address, which differs with a mirror.
        let registries = fs::read_dir(&sources).into_iter().flatten().flatten();
        folders.extend(registries.map(|registry| (registry.path(), "/crates")));
    }
    folders.push((workspace::root().to_owned(), "/keyway"));
    folders
}

/// A library that cargo built.
#[derive(Debug, PartialEq)]
struct Artefact {
    name: String,
    file: PathBuf,
}

/// The components among cargo's messages; build scripts, macros and ordinary libraries are filtered
/// out.
fn artefacts(messages: &str) -> Vec<Artefact> {
    messages.lines().filter_map(|line| artefact(&serde_json::from_str(line).ok()?)).collect()
}

fn artefact(message: &Value) -> Option<Artefact> {
    if message.get("reason")? != "compiler-artifact" {
        return None;
    }
    let target = message.get("target")?;
    let shared = target.get("crate_types")?.as_array()?.iter().any(|kind| kind == "cdylib");
    let files = message.get("filenames")?.as_array()?.iter().filter_map(Value::as_str).map(PathBuf::from);
    let file = files.into_iter().find(|file| file.extension().is_some_and(|extension| extension == "wasm"))?;
    shared.then_some(Artefact { name: target.get("name")?.as_str()?.to_owned(), file })
}

/// Copies the file if its bytes differ. The copy is atomic, so a host that watches the folder never
/// sees half a component.
fn publish(from: &Path, to: &Path) -> Result<bool> {
    let bytes = fs::read(from).with_context(|| format!("{} cannot be read", from.display()))?;
    match fs::read(to) {
        Ok(present) if present == bytes => return Ok(false),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", to.display())),
    }
    let folder = to.parent().context("a component has a folder")?;
    let write = || {
        fs::create_dir_all(folder)?;
        let temporary = to.with_extension(format!("{}.tmp", std::process::id()));
        fs::write(&temporary, &bytes)?;
        fs::rename(&temporary, to)
    };
    write().with_context(|| format!("{} cannot be written", to.display()))?;
    Ok(true)
}

/// Removes a known warning: wide arithmetic is not a stable feature, and the compiler says so for
/// each crate.
fn without_feature_warnings(output: &str) -> String {
    let mut kept = Vec::new();
    let mut skipping = false;
    for line in output.lines() {
        if line.starts_with("warning: unstable feature specified for `-Ctarget-feature`") {
            skipping = true;
        } else if skipping && !line.trim().is_empty() && (line.starts_with(' ') || line.starts_with('|')) {
            continue;
        } else if skipping && line.trim().is_empty() {
            skipping = false;
        } else {
            skipping = false;
            kept.push(line);
        }
    }
    kept.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_told_from_the_other_things_that_cargo_reports() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"serde","crate_types":["lib"]},"filenames":["/t/libserde.rlib"]}
{"reason":"compiler-artifact","target":{"name":"macros","crate_types":["proc-macro"]},"filenames":["/t/libmacros.so"]}
{"reason":"compiler-artifact","target":{"name":"loops","crate_types":["cdylib"]},"filenames":["/t/loops.wasm"]}
not json
{"reason":"build-finished","success":true}"#;
        assert_eq!(artefacts(messages), [Artefact { name: "loops".into(), file: "/t/loops.wasm".into() }]);
    }

    #[test]
    fn a_name_selects_a_provider_or_a_fixture_and_an_unknown_one_is_answered_with_those_there_are() -> Result<()> {
        let (providers, fixtures) = (["onepassword".to_owned()], ["loops".to_owned(), "traps".to_owned()]);
        let select = |only| select(&providers, &fixtures, only);
        assert_eq!(select(Some("onepassword"))?, [Job::Provider("onepassword".into())]);
        assert_eq!(select(Some("loops"))?, [Job::Fixtures(Some("loops".into()))]);
        assert_eq!(select(None)?, [Job::Provider("onepassword".into()), Job::Fixtures(None)]);
        let error = select(Some("lops")).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("'lops'") && error.contains("onepassword") && error.contains("loops, traps"), "{error}");
        Ok(())
    }

    #[test]
    fn the_known_warning_is_left_out_and_the_rest_stays() {
        let output = "warning: unstable feature specified for `-Ctarget-feature`: `wide-arithmetic`\n  |\n  = note: this feature is not stably supported\n\nerror[E0425]: cannot find value\n --> src/lib.rs:1:1\n";
        assert_eq!(without_feature_warnings(output), "error[E0425]: cannot find value\n --> src/lib.rs:1:1");
    }
}
