//! What the process asks of the system before it holds a secret.
//!
//! No core dump is written, and no other process of the same user can read its memory. A master key
//! in the environment is taken out of it. (The system's administrator still can. Swapping is
//! the machine's to turn off.)

use std::sync::OnceLock;

use keyway::MasterKey;
use keyway::keys::KeyError;
use rustix::process::{Resource, Rlimit, setrlimit};
use secrecy::ExposeSecret;

/// The variable that may hold the master key itself.
pub(crate) const MASTER_KEY_VARIABLE: &str = "KEYWAY_MASTER_KEY";

/// The key that was in the environment.
static MASTER_KEY: OnceLock<MasterKey> = OnceLock::new();

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

/// Takes the master key out of the environment, where it would be readable as long as the process
/// lives. Call it while the process has one thread. What is no key is left where it is, to be
/// complained about later.
#[expect(unsafe_code, reason = "the standard library can remove a variable, but not wipe it")]
pub(crate) fn take_master_key() {
    let Ok(key) = MasterKey::from_env(MASTER_KEY_VARIABLE) else { return };
    let Ok(name) = std::ffi::CString::new(MASTER_KEY_VARIABLE) else { return };
    // SAFETY: there is one thread, so nothing else reads or changes the environment. `getenv`
    // returns null or a string in it that ends in a null byte, which stays where it is.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        if !value.is_null() {
            // Still a value: an empty one counts as none.
            value.cast::<u8>().write_bytes(b'x', libc::strlen(value));
        }
    }
    let _ = MASTER_KEY.set(key);
}

/// The master key out of this variable.
pub(crate) fn master_key(variable: &str) -> Result<MasterKey, KeyError> {
    match MASTER_KEY.get() {
        Some(key) if variable == MASTER_KEY_VARIABLE => MasterKey::from_hex(key.to_hex().expose_secret()),
        _ => MasterKey::from_env(variable),
    }
}

/// Says why before a bus error ends the process.
///
/// SQLite maps the index of its log (`keyway.db-shm`) into memory, because several processes use
/// it. When its file system turns read-only, as after an error of the disk, the next write to the
/// index may be a bus error, which nothing can undo. Nothing that was acknowledged is lost.
#[expect(unsafe_code, reason = "a handler of bus errors must not return, which no library allows")]
pub(crate) fn explain_bus_errors() {
    extern "C" fn ended(_: libc::c_int) {
        const WHY: &[u8] = b"error: the file system of the data folder failed or turned read-only, so this process \
            ends. Nothing that was acknowledged is lost; start it again when the folder can be written\n";
        // SAFETY: both functions may be called by a signal handler (`signal-safety(7)`).
        unsafe {
            libc::write(libc::STDERR_FILENO, WHY.as_ptr().cast(), WHY.len());
            libc::_exit(1);
        }
    }
    let handler = ended as extern "C" fn(libc::c_int);
    // SAFETY: the handler does not return, and calls only what a handler may call.
    unsafe { libc::signal(libc::SIGBUS, handler as usize) };
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
