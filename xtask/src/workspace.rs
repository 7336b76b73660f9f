//! Where things are. Every path is absolute, so that a command works from any folder.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// May hold the token of a real service account, for the demo alone.
pub(crate) const TOKEN_VARIABLE: &str = "KEYWAY_OP_TOKEN";

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    // The folder of this crate, as it was when it was built; `cargo xtask` rebuilds it when the
    // checkout moves.
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder)
}

/// The target folder of component builds: its own, because another compiler may be at work there,
/// and two compilers in one folder rebuild everything at each switch. It does not move with
/// `CARGO_TARGET_DIR`, nor do the components.
pub(crate) fn wasm_target() -> PathBuf {
    root().join("target/wasm")
}

/// Where the finished components are.
pub(crate) fn components() -> PathBuf {
    root().join("target/components")
}

/// What this program remembers from one run to the next.
pub(crate) fn state() -> PathBuf {
    root().join("target/xtask")
}

/// Tools that this program installed for itself; not in anybody's home.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}

/// The npm packages that whole-system tests run.
pub(crate) fn node_project() -> PathBuf {
    root().join("tests/e2e/node")
}

/// The Python packages that whole-system tests run.
pub(crate) fn python_project() -> PathBuf {
    root().join("tests/e2e/python")
}

/// The `cargo` that started this program, in the checkout's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    // Neither a build script nor a test has any business with a real token.
    command.current_dir(root()).env_remove(TOKEN_VARIABLE);
    // What `cargo run` told this program about itself would otherwise be told to everything that it
    // starts.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// A path relative to the root where it lies below it, for messages.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
