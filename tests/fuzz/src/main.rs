//! Fuzz targets: what must hold for every input that comes from outside.
//!
//! `cargo xtask fuzz` builds this program with instrumented crates, links libFuzzer, and runs it
//! once for each target. Each crate's module `fuzzing` states what holds; the modules here say
//! how the fuzzer's bytes become the input.

#![no_main]
#![expect(unsafe_code, reason = "libFuzzer calls two C functions")]

mod audit;
mod bytes;
mod host;
mod onepassword;
mod sealed;
mod server;
mod target;

use std::ffi::{c_char, c_int};

/// libFuzzer calls this first.
#[unsafe(no_mangle)]
pub extern "C" fn LLVMFuzzerInitialize(_: *const c_int, _: *const *const *const c_char) -> c_int {
    target::begin();
    0
}

/// libFuzzer calls this with each input.
///
/// # Safety
///
/// `data` points to `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, size: usize) -> c_int {
    let input = if size == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data, size) } };
    target::run(input);
    0
}
