//! What the process asks of the system before it holds a secret.
//!
//! No core dump is written, and no other process of the same user can read its memory. A master key
//! and settings of connections in the environment are taken out of it. (The system's administrator
//! still can. Swapping is the machine's to turn off.)

use std::collections::BTreeMap;
use std::sync::OnceLock;

use keyway::MasterKey;
use keyway::keys::KeyError;
use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, setrlimit};
use secrecy::{ExposeSecret, SecretString};

/// The variable that may hold the master key itself.
pub(crate) const MASTER_KEY_VARIABLE: &str = "KEYWAY_MASTER_KEY";

/// The key that was in the environment.
static MASTER_KEY: OnceLock<MasterKey> = OnceLock::new();

/// How the names of variables begin that hold settings of connections.
pub(crate) const SETTING_VARIABLES: &str = "KEYWAY_SETTING_";

/// The variable that may hold the token of the demo.
pub(crate) const DEMO_VARIABLE: &str = "KEYWAY_OP_TOKEN";

/// The other secrets that were in the environment, by their variables.
static SECRETS: Mutex<BTreeMap<String, SecretString>> = Mutex::new(BTreeMap::new());

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

/// Takes secrets out of the environment, where they would be readable as long as the process lives,
/// and inherited. Call it while the process has one thread. What is no key or no text is left where
/// it is, to be complained about later.
pub(crate) fn take_secrets() {
    if let Ok(key) = MasterKey::from_env(MASTER_KEY_VARIABLE) {
        wipe(MASTER_KEY_VARIABLE);
        let _ = MASTER_KEY.set(key);
    }
    for (name, value) in std::env::vars_os() {
        let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else { continue };
        if (name.starts_with(SETTING_VARIABLES) || name == DEMO_VARIABLE) && !value.is_empty() {
            wipe(&name);
            SECRETS.lock().insert(name, value.into());
        }
    }
}

/// Forgets the secrets that only some commands need.
pub(crate) fn forget_secrets() {
    SECRETS.lock().clear();
}

/// A secret that was in the environment.
pub(crate) fn secret(variable: &str) -> Option<SecretString> {
    SECRETS.lock().get(variable).cloned()
}

/// Overwrites the value of a variable.
#[expect(unsafe_code, reason = "the standard library can remove a variable, but not wipe it")]
fn wipe(variable: &str) {
    let Ok(name) = std::ffi::CString::new(variable) else { return };
    // SAFETY: there is one thread, so nothing else reads or changes the environment. `getenv`
    // returns null or a string in it that ends in a null byte, which stays where it is.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        if !value.is_null() {
            // Still a value: an empty one counts as none.
            value.cast::<u8>().write_bytes(b'x', libc::strlen(value));
        }
    }
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
