//! Implements `cargo xtask fuzz`: builds the fuzz targets of `tests/fuzz` and runs them with
//! libFuzzer, two at a time.
//!
//! No other compiler is needed. This program stands in for `rustc` where cargo compiles a crate of
//! the workspace ([`compile`]), and asks for the instrumentation that libFuzzer reads. Cargo keeps
//! these crates apart from the usual ones, and takes all dependencies from the usual build.
//!
//! Fuzzing finds faults; it does not prove that there are none.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use data_encoding::BASE64;

use crate::process;
use crate::programs::Programs;
use crate::workspace;

/// How long each target runs in `cargo xtask fuzz`.
const SECONDS: u32 = 60;
/// How many run at a time: more than the small machines of continuous integration have processors
/// would only slow each down.
const AT_A_TIME: usize = 2;
/// The memory of a target in MiB. The largest inputs need a tenth of it.
const MEMORY: u32 = 512;
/// Seconds for one input. Each takes less than a millisecond.
const PATIENCE: u32 = 10;
/// A target that has not ended this long after its time is stuck.
const GRACE: Duration = Duration::from_secs(600);
/// Longer inputs are shown as the path of a file.
const SHOWN_BYTES: usize = 4_096;

/// Tells this program that it stands in for `rustc`, and the build script of the targets where
/// libFuzzer's archive is.
const AS_RUSTC: &str = "KEYWAY_FUZZ_LIBFUZZER";
/// Read by the targets: which one to run, and where each has a folder.
const TARGET: &str = "KEYWAY_FUZZ_TARGET";
const FOLDER: &str = "KEYWAY_FUZZ_FOLDER";
const PROGRAM: &str = "keyway-fuzz";
/// Where they have it. The programs get it as it is, so that their memory is the same wherever the
/// workspace is.
const PLACE: &str = "target/fuzz";

/// What instrumented crates are compiled with; as cargo-fuzz does, without its sanitizers, which
/// need another compiler.
const FLAGS: [&str; 9] = [
    "--cfg",
    "fuzzing",
    "-Copt-level=1",
    "-Ccodegen-units=1",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this target; `--list` shows them
    target: Option<String>,
    /// How long each target runs
    #[arg(long, value_name = "SECONDS", default_value_t = SECONDS)]
    seconds: u32,
    /// List the targets and end
    #[arg(long)]
    list: bool,
    /// Run the target once, with this input of a finding
    #[arg(long, value_name = "BASE64", requires = "target")]
    input: Option<String>,
}

/// Runs the targets. The exit code is 0 only if none has a finding.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let fuzzer = Fuzzer::build()?;
    if options.list {
        fuzzer.targets.iter().for_each(|target| println!("{}", target.name));
        return Ok(ExitCode::SUCCESS);
    }
    let is_chosen = |target: &&Target| options.target.as_ref().is_none_or(|name| *name == target.name);
    let chosen: Vec<_> = fuzzer.targets.iter().filter(is_chosen).collect();
    match (chosen.as_slice(), &options.input) {
        ([], _) => bail!("There is no such target. `cargo xtask fuzz --list` shows them."),
        ([target, ..], Some(input)) => fuzzer.repeat(target, input).map(|()| ExitCode::SUCCESS),
        (targets, None) => fuzzer.run(targets, Until::Seconds(options.seconds)).map(|()| ExitCode::SUCCESS),
    }
}

/// Runs each target for about a minute. Returns why it cannot be done here.
pub(crate) fn check() -> Result<Option<&'static str>> {
    if !["c++", "g++", "clang++"].into_iter().any(process::exists) {
        return Ok(Some("there is no C++ compiler for libFuzzer (on Debian: apt-get install g++)"));
    }
    let fuzzer = Fuzzer::build()?;
    fuzzer.run(&fuzzer.targets.iter().collect::<Vec<_>>(), Until::Inputs)?;
    Ok(None)
}

/// Whether this program was started in place of `rustc`.
pub(crate) fn is_compiler() -> bool {
    env::var_os(AS_RUSTC).is_some()
}

/// Stands in for `rustc`, whose path is the first argument, and adds instrumentation to the crates
/// of the product.
pub(crate) fn compile() -> Result<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    let rustc = arguments.next().context("cargo names the compiler")?;
    let arguments: Vec<OsString> = arguments.collect();
    let mut command = Command::new(rustc);
    command.args(&arguments);
    let name =
        arguments.iter().skip_while(|argument| *argument != "--crate-name").nth(1).and_then(|name| name.to_str());
    let is_test = arguments.iter().any(|argument| argument == "--test");
    if name.is_some_and(|name| name.starts_with("keyway")) && !is_test {
        command.args(FLAGS);
    }
    let status = command.status().context("the compiler could not be started")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

struct Target {
    name: String,
    /// The longest input, in bytes.
    longest: String,
    /// How many inputs `cargo xtask test` tries.
    inputs: String,
}

/// How far a target runs.
#[derive(Clone, Copy)]
enum Until {
    /// For this long, beginning with what earlier runs kept: to find something new.
    Seconds(u32),
    /// Through the target's number of inputs, beginning at the same place each time, so that the
    /// same sources pass or fail alike on every machine.
    Inputs,
}

/// The built targets.
struct Fuzzer {
    program: PathBuf,
    targets: Vec<Target>,
}

/// Where each target has a folder, with seeds, dictionary, corpus and findings.
fn folder() -> PathBuf {
    workspace::root().join(PLACE)
}

impl Fuzzer {
    fn build() -> Result<Self> {
        fs::create_dir_all(folder())?;
        // A copy, because cargo replaces the program itself during the build, and may have done so
        // before this. Its name changes with the flags, because only another name makes cargo
        // compile again.
        let mut hasher = DefaultHasher::new();
        FLAGS.hash(&mut hasher);
        let compiler = folder().join(format!("rustc-{:x}", hasher.finish()));
        let new = compiler.with_extension(std::process::id().to_string());
        let own = if cfg!(target_os = "linux") { PathBuf::from("/proc/self/exe") } else { env::current_exe()? };
        fs::copy(own, &new).context("this program cannot be copied")?;
        fs::rename(&new, &compiler)?;
        let features = format!("{PROGRAM}/run");
        let programs = Programs::with(&[PROGRAM], |command| {
            command.args(["--features", &features]);
            command.env("RUSTC_WORKSPACE_WRAPPER", &compiler).env(AS_RUSTC, libfuzzer()?);
            Ok(())
        })?;
        let program = programs.path(PROGRAM)?.clone();
        let listed = process::checked("Preparing the fuzz targets", Command::new(&program).env(FOLDER, folder()))?;
        let target = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            Some(Target { name: words.next()?, longest: words.next()?, inputs: words.next()? })
        };
        Ok(Self { program, targets: listed.lines().filter_map(target).collect() })
    }

    /// Runs targets to their ends, and prints what each did.
    fn run(&self, targets: &[&Target], until: Until) -> Result<()> {
        let seconds = if let Until::Seconds(seconds) = until { seconds } else { SECONDS };
        let minutes = (targets.len().div_ceil(AT_A_TIME) as u64 * u64::from(seconds)).div_ceil(60);
        println!("{} fuzz targets, about {minutes} minutes.", targets.len());
        let next = Mutex::new(targets.iter());
        let failed = Mutex::new(Vec::new());
        let work = || {
            while let Some(target) = next.lock().ok().and_then(|mut next| next.next()) {
                let outcome = self.run_one(target, until);
                let line = outcome.unwrap_or_else(|reason| {
                    if let Ok(mut failed) = failed.lock() {
                        failed.push(target.name.clone());
                    }
                    format!("FINDING\n{reason:#}")
                });
                println!("{:16} {line}", target.name);
            }
        };
        thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(work);
            }
        });
        match failed.into_inner().unwrap_or_default().as_slice() {
            [] => Ok(()),
            names => bail!("fuzzing found something: {}", names.join(", ")),
        }
    }

    /// Runs a target; the error is its finding.
    fn run_one(&self, target: &Target, until: Until) -> Result<String> {
        let folder = Path::new(PLACE).join(&target.name);
        let (mut command, corpus, end, seconds) = match until {
            Until::Seconds(seconds) => {
                let end = vec![format!("-max_total_time={seconds}")];
                (self.command(target, Command::new(&self.program)), "corpus", end, seconds)
            }
            Until::Inputs => {
                let corpus = "corpus-of-tests";
                let empty = workspace::root().join(&folder).join(corpus);
                fs::remove_dir_all(&empty).ok();
                fs::create_dir_all(empty)?;
                // libFuzzer reads the corpus again by the clock, and tries addresses that it saw
                // being compared.
                let end = vec![format!("-runs={}", target.inputs), "-seed=1".to_owned(), "-reload=0".to_owned()];
                (self.command(target, self.at_fixed_addresses()), corpus, end, SECONDS)
            }
        };
        command.args([folder.join(corpus), folder.join("seeds")]).args(end);
        command.arg(option("-dict=", folder.join("words").as_os_str()));
        command.arg(format!("-max_len={}", target.longest)).arg("-print_final_stats=1");
        let end = Duration::from_secs(seconds.into()) + GRACE;
        let finished =
            process::quietly("", &mut command, |elapsed| (elapsed > end).then(|| "it does not end".to_owned()))?;
        if finished.status.success() {
            return Ok(summary(&finished.stderr));
        }
        let mut told = what_was_found(&finished.stderr);
        if let Some(file) = finished.stderr.split("Test unit written to ").nth(1).and_then(|rest| rest.lines().next()) {
            let input = fs::read(workspace::root().join(file)).with_context(|| format!("{file} cannot be read"))?;
            told.push_str(&match input.len() {
                0..=SHOWN_BYTES => {
                    let input = BASE64.encode(&input);
                    format!("To repeat it: cargo xtask fuzz {} --input '{input}'", target.name)
                }
                length => format!("Its input of {length} bytes is {file}"),
            });
        }
        bail!("{told}\n({})", finished.status)
    }

    /// Runs a target with one input.
    fn repeat(&self, target: &Target, input: &str) -> Result<()> {
        let input = BASE64.decode(input.as_bytes()).context("the input is not base64")?;
        let file = folder().join(&target.name).join("input");
        fs::write(&file, input)?;
        process::shown(self.command(target, Command::new(&self.program)).arg(&file))
    }

    /// The program at the same addresses each time, where the system allows that.
    fn at_fixed_addresses(&self) -> Command {
        let tried = Command::new("setarch").args(["-R", "true"]).output();
        if !tried.is_ok_and(|tried| tried.status.success()) {
            return Command::new(&self.program);
        }
        let mut fixed = Command::new("setarch");
        fixed.arg("-R").arg(&self.program);
        fixed
    }

    fn command(&self, target: &Target, mut command: Command) -> Command {
        command.current_dir(workspace::root()).env(FOLDER, PLACE).env(TARGET, &target.name);
        let findings = Path::new(PLACE).join(&target.name).join("findings/");
        command.arg(option("-artifact_prefix=", findings.as_os_str()));
        command.arg(format!("-rss_limit_mb={MEMORY}")).arg(format!("-timeout={PATIENCE}"));
        command
    }
}

fn option(name: &str, value: &OsStr) -> OsString {
    let mut option = OsString::from(name);
    option.push(value);
    option
}

/// Compiles libFuzzer, and returns the folder of its archive.
fn libfuzzer() -> Result<PathBuf> {
    let mut command = workspace::cargo();
    command.args(["build", "--locked", "--manifest-path"]);
    command.arg(workspace::root().join("tests/fuzz/libfuzzer/Cargo.toml"));
    command.arg("--target-dir").arg(folder().join("libfuzzer"));
    let messages = process::messages(&mut command)?;
    let folder = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut folders = folder.filter_map(|message| message.get("out_dir")?.as_str().map(PathBuf::from));
    let has_archive = |folder: &PathBuf| Path::new(folder).join("libfuzzer.a").is_file();
    folders.find(has_archive).context("libfuzzer-sys has built no libfuzzer.a")
}

/// What a run without a finding did.
fn summary(output: &str) -> String {
    let statistic = |name: &str| {
        let line = output.lines().rev().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or_default()
    };
    // `#1234  DONE   cov: 56 ft: 78 corp: 9/10b lim: 512 exec/s: 11 rss: 12Mb`
    let done = output.lines().rev().find(|line| line.contains("DONE") && line.contains(" cov: ")).unwrap_or_default();
    let after = |name: &str| {
        let value = done.split_whitespace().skip_while(|word| *word != name).nth(1);
        value.and_then(|value| value.split('/').next()).unwrap_or("?").to_owned()
    };
    format!(
        "{:>10} inputs, {:>6} a second, {:>5} places reached, {:>5} features, {:>5} inputs kept, {:>4} MiB, no finding",
        statistic("stat::number_of_executed_units:"),
        statistic("stat::average_exec_per_sec:"),
        after("cov:"),
        after("ft:"),
        after("corp:"),
        statistic("stat::peak_rss_mb:"),
    )
}

/// The panic, or libFuzzer's own words, without the stack.
fn what_was_found(output: &str) -> String {
    let begins = |line: &&str| line.contains("panicked at") || line.contains("ERROR: libFuzzer");
    let stack = ["note: ", "stack backtrace:", "    #"];
    let ends = |line: &&str| !stack.iter().any(|begin| line.starts_with(begin));
    let lines: Vec<_> = output.lines().skip_while(|line| !begins(line)).take_while(ends).take(12).collect();
    match lines.as_slice() {
        [] => {
            output.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().map(|line| format!("{line}\n")).collect()
        }
        lines => lines.iter().map(|line| format!("{line}\n")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_run_are_those_of_its_end() {
        let output = "#2\tINITED cov: 5 ft: 6 corp: 1/1b exec/s: 0 rss: 30Mb\n\
                      #1234567\tDONE   cov: 345 ft: 678 corp: 90/12Kb lim: 512 exec/s: 20234 rss: 45Mb\n\
                      Done 1234567 runs in 61 second(s)\n\
                      stat::number_of_executed_units: 1234567\nstat::average_exec_per_sec:     20234\nstat::peak_rss_mb: 45\n";
        let summary = summary(output);
        for told in [" 1234567 inputs", " 20234 a second", " 345 places", " 678 features", " 90 inputs kept", " 45 MiB"]
        {
            assert!(summary.contains(told), "{told}: {summary}");
        }
    }

    #[test]
    fn of_a_finding_the_panic_is_told_and_not_the_stack() {
        let output = "#2\tINITED\nthread '<unnamed>' panicked at sdk/otp/src/fuzzing.rs:1:2:\nleft: 1\nright: 2\n\
                      note: run with `RUST_BACKTRACE=1`\n==7== ERROR: libFuzzer: deadly signal\n    #0 0x5\n";
        let told = what_was_found(output);
        assert!(told.starts_with("thread '<unnamed>' panicked at") && told.ends_with("right: 2\n"), "{told}");
        assert_eq!(
            what_was_found("==7== ERROR: libFuzzer: timeout after 10 s\n    #0 0x5\n"),
            "==7== ERROR: libFuzzer: timeout after 10 s\n"
        );
    }
}
