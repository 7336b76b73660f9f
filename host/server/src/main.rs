//! The program `keyway`.

/// Requests allocate and free on several threads at once, at which this allocator is better than most systems' own:
/// `cargo xtask bench --only http` serves about a tenth more with it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    keyway_server::cli::main()
}
