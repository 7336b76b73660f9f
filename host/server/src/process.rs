//! What the process asks of the system before it holds a secret.
//!
//! No core dump is written, and no other process of the same user can read its memory or its
//! environment, which may hold the master key. (The system's administrator still can. Swapping is
//! the machine's to turn off.)

use rustix::process::{Resource, Rlimit, setrlimit};

/// Protects the process. A system that refuses is no reason not to start.
pub(crate) fn protect() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::debug!(%error, "core dumps were not turned off");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::debug!(%error, "the process can be read by others of its user");
    }
}

/// Makes a write beyond a file size limit an error, like one to a full disk. By default it ends the
/// process.
pub(crate) fn survive_file_size_limits() {
    use tokio::signal::unix::{SignalKind, signal};
    // The handler stays for as long as the process.
    if let Err(error) = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())) {
        tracing::debug!(%error, "a limit of file sizes ends the process");
    }
}
