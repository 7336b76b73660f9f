//! Compiles components, under limits of its own.
//!
//! Compilation is where a hostile component hurts most: wasmtime bounds what code does when it
//! runs, not how long it takes to compile. Components are therefore compiled when they are added,
//! never in a call. Where the embedder's program provides for it, they are compiled in a separate
//! process that can be killed and whose memory is bounded.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use wasmtime::Engine;

use crate::engine::{self, AddressSpace};
use crate::error::LoadError;
use crate::limits::Limits;

/// How many bytes of code the largest component may become. Providers in Rust and in Python become
/// three to five times as large.
const CODE_PER_COMPONENT: u64 = 8;

/// What is read of a compiler's standard error, where it writes a line.
const MESSAGE_BYTES: u64 = 64 << 10;

/// Where components are compiled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compiler {
    /// In this process, on a separate thread. The time limit ends the wait only: the thread runs
    /// until the compiler is done, and its memory is not bounded. Suitable for trusted components.
    #[default]
    ThisProcess,
    /// In a separate process, with an empty environment and bounded time and memory. The program
    /// must call [`compile_stdin`] and exit.
    Child {
        /// The program, usually the embedder's own ([`std::env::current_exe`]).
        program: PathBuf,
        /// Arguments that make it call [`compile_stdin`].
        args: Vec<OsString>,
    },
}

/// What a compiling process reads from standard input before the component: the limits that it
/// needs to know, and the address space that the code is for, as text.
fn header(limits: &Limits, space: AddressSpace) -> String {
    let small = u8::from(space == AddressSpace::Small);
    format!("{} {} {} {small}\n", limits.memory_bytes, limits.table_elements, limits.compile_memory_bytes)
}

fn parse_header(line: &str) -> Option<(Limits, AddressSpace)> {
    let mut fields = line.split(' ');
    let limits = Limits {
        // No call runs there. The tables of all concurrent calls would count as data of that
        // process and leave less for the compiler.
        concurrent_calls: 1,
        memory_bytes: fields.next()?.parse().ok()?,
        table_elements: fields.next()?.parse().ok()?,
        compile_memory_bytes: fields.next()?.parse().ok()?,
        ..Limits::default()
    };
    let space = match fields.next()? {
        "0" => AddressSpace::Ample,
        "1" => AddressSpace::Small,
        _ => return None,
    };
    Some((limits, space))
}

/// The whole job of a compiling process: reads a component from standard input and writes its
/// compiled form to standard output.
///
/// Bounds its own memory first. On failure it writes one line to standard error and returns the
/// error; the program should then exit with a non-zero status.
pub fn compile_stdin() -> io::Result<()> {
    let mut input = Vec::new();
    io::stdin().lock().read_to_end(&mut input)?;
    let bad_header = || io::Error::other("the first line of the input does not hold the limits");
    let newline = input.iter().position(|byte| *byte == b'\n').ok_or_else(bad_header)?;
    let (line, component) = input.split_at(newline);
    let (limits, space) = std::str::from_utf8(line).ok().and_then(parse_header).ok_or_else(bad_header)?;
    let component = component.get(1..).unwrap_or_default();

    // Data, not address space: the engine reserves much more than it uses.
    let bound = |limit: u64| Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(Resource::Data, bound(limits.compile_memory_bytes))?;
    setrlimit(Resource::Core, bound(0))?;

    let engine = engine::engine(&limits, space).map_err(|error| io::Error::other(format!("{error:#}")))?;
    let code = engine.precompile_component(component).map_err(|error| {
        let message = first_line(&format!("{error:#}"));
        eprintln!("{message}");
        io::Error::other(message)
    })?;
    io::stdout().lock().write_all(&code)
}

impl Compiler {
    pub(crate) async fn compile(
        &self,
        (engine, space): (&Engine, AddressSpace),
        limits: &Limits,
        component: &Arc<[u8]>,
    ) -> Result<Vec<u8>, LoadError> {
        let work = async {
            match self {
                Self::ThisProcess => in_this_process(engine.clone(), component.clone()).await,
                Self::Child { program, args } => {
                    in_child(program, args, &header(limits, space), limits, component).await
                }
            }
        };
        match tokio::time::timeout(limits.compile_time, work).await {
            Ok(result) => result,
            Err(_) => Err(LoadError::Compile(format!("it takes longer than {} s", limits.compile_time.as_secs()))),
        }
    }
}

async fn in_this_process(engine: Engine, component: Arc<[u8]>) -> Result<Vec<u8>, LoadError> {
    let compiled = tokio::task::spawn_blocking(move || engine.precompile_component(&component)).await;
    match compiled {
        Ok(Ok(code)) => Ok(code),
        Ok(Err(error)) => Err(LoadError::Malformed(first_line(&format!("{error:#}")))),
        Err(_) => Err(LoadError::Compile("the compiler crashed".into())),
    }
}

async fn in_child(
    program: &PathBuf,
    args: &[OsString],
    header: &str,
    limits: &Limits,
    component: &[u8],
) -> Result<Vec<u8>, LoadError> {
    let host = |error: io::Error| LoadError::Host(format!("cannot run the compiler {}: {error}", program.display()));
    let mut child = tokio::process::Command::new(program)
        .args(args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(host)?;
    let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(LoadError::Host("the compiler has no standard streams".into()));
    };
    let feed = async {
        // A child that gives up early closes its input; its exit status tells why.
        let _ = stdin.write_all(header.as_bytes()).await;
        let _ = stdin.write_all(component).await;
        drop(stdin);
        Ok(())
    };
    let most = CODE_PER_COMPONENT.saturating_mul(limits.component_bytes as u64);
    let ((), code, message) =
        tokio::try_join!(feed, read(&mut stdout, most), read(&mut stderr, MESSAGE_BYTES)).map_err(host)?;
    let status = child.wait().await.map_err(host)?;
    if status.success() {
        return Ok(code);
    }
    match (status.code(), first_line(&String::from_utf8_lossy(&message))) {
        (Some(_), message) if !message.is_empty() => Err(LoadError::Malformed(message)),
        _ => Err(LoadError::Compile(format!(
            "the compiler needed more than {} MiB of memory or crashed",
            limits.compile_memory_bytes >> 20
        ))),
    }
}

/// Reads to the end. More than `limit` is an error, so that a compiler that a component has taken
/// over cannot use up this process's memory.
async fn read(from: &mut (impl AsyncRead + Unpin), limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it wrote more than {limit} bytes")));
    }
    Ok(bytes)
}

fn first_line(text: &str) -> String {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().chars().take(300).collect()
}
