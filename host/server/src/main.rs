//! The program `keyway`.

fn main() -> std::process::ExitCode {
    keyway_server::cli::main()
}
