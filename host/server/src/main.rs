//! The program `keyway`.

/// Requests allocate and free on several threads at once, where this allocator is better than
/// glibc's: with 64 connections, 7 % more cached resolves (`cargo xtask bench --only http`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    keyway_server::cli::main()
}
