//! The compiling process, for embedders whose own program cannot call
//! [`keyway_runtime::compile_stdin`].

use std::process::ExitCode;

fn main() -> ExitCode {
    match keyway_runtime::compile_stdin() {
        Ok(()) => ExitCode::SUCCESS,
        // The reason is on standard error already.
        Err(_) => ExitCode::FAILURE,
    }
}
