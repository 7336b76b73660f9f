//! Paths of the workspace. Every path is absolute, so commands work from any folder.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// May hold the token of a real service account; only the demo uses it.
pub(crate) const TOKEN_VARIABLE: &str = "KEYWAY_OP_TOKEN";

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    // The folder of this crate at build time; `cargo xtask` rebuilds it when the checkout moves.
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder)
}

/// The target folder of component builds. It is separate because component builds may use another
/// compiler, and two compilers in one folder rebuild everything at each switch. `CARGO_TARGET_DIR`
/// moves neither this folder nor the components.
pub(crate) fn wasm_target() -> PathBuf {
    root().join("target/wasm")
}

/// The folder of the finished components.
pub(crate) fn components() -> PathBuf {
    root().join("target/components")
}

/// What this program stores between runs.
pub(crate) fn state() -> PathBuf {
    root().join("target/xtask")
}

/// Tools that this program installed, kept out of the user's home.
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

/// The `cargo` that started this program, run in the checkout's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    // No build script or test may see a real token.
    command.current_dir(root()).env_remove(TOKEN_VARIABLE);
    // Variables that `cargo run` set for this program must not reach the programs that it starts.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// A path for messages, relative to the root if it lies below it.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
