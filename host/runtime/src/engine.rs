//! The wasmtime engine: what code may do at all, and how much of everything there is.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits::Limits;

/// How often running code is interrupted to let others run and to see whether its time is up. A
/// call that waits for nothing but itself ends at most this long after its limit.
const TICK: Duration = Duration::from_millis(10);

/// A component may consist of many core modules: a Rust provider has 3, one in Python about 30.
const CORE_INSTANCES_PER_CALL: u32 = 64;
/// What a component may define; one that has more is refused when it is loaded. A Rust provider and
/// one in Python alike have 1 memory and 2 tables (the program's own and the one through which its
/// imports are bound), so two of them composed into one fit. The pool has as many of each for every
/// call, so that no component can take the places of others: 4 GiB of address space for a memory,
/// as many as wasmtime's default of 1,000 slots is made for, and [`Limits::table_elements`]
/// pointers for a table.
const MEMORIES_PER_CALL: u32 = 2;
const TABLES_PER_CALL: u32 = 4;
/// Bytes of host-side bookkeeping; a component in Python needs about half of it.
const INSTANCE_BYTES: usize = 2 << 20;
/// Slots that stay prepared between calls. Few, because what is not prepared is not resident
/// either.
const WARM_SLOTS: u32 = 8;
/// Memory of a warm slot that is overwritten between calls instead of being given back. Giving
/// pages back and faulting them in again costs a Rust provider more than running it; the 1Password
/// provider touches about a mebibyte.
const RESIDENT_MEMORY_BYTES: usize = 2 << 20;
const RESIDENT_TABLE_BYTES: usize = 64 << 10;
const RESIDENT_STACK_BYTES: usize = 128 << 10;
/// wasmtime's own default for the guest's stack, spelled out because deep recursion is a limit like
/// the others.
const STACK_BYTES: usize = 512 << 10;
const FIBER_STACK_BYTES: usize = 2 << 20;

/// Every engine of this crate is made here, the one of the compiling process too: compiled code
/// only loads into an engine with the same settings.
pub(crate) fn engine(limits: &Limits) -> wasmtime::Result<Engine> {
    let calls = limits.concurrent_calls;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(calls)
        .total_core_instances(calls.saturating_mul(CORE_INSTANCES_PER_CALL))
        .total_memories(calls.saturating_mul(MEMORIES_PER_CALL))
        .total_tables(calls.saturating_mul(TABLES_PER_CALL))
        .total_stacks(calls)
        .max_core_instances_per_component(CORE_INSTANCES_PER_CALL)
        .max_memories_per_component(MEMORIES_PER_CALL)
        .max_tables_per_component(TABLES_PER_CALL)
        .max_component_instance_size(INSTANCE_BYTES)
        .max_core_instance_size(INSTANCE_BYTES)
        .max_memory_size(limits.memory_bytes)
        .table_elements(limits.table_elements)
        .max_unused_warm_slots(WARM_SLOTS)
        // What held secrets is gone when the call ends: overwritten up to here, given back to the
        // operating system beyond.
        .linear_memory_keep_resident(RESIDENT_MEMORY_BYTES)
        .table_keep_resident(RESIDENT_TABLE_BYTES)
        .async_stack_keep_resident(RESIDENT_STACK_BYTES);

    // Core dumps of guests, which would hold secrets, are not even compiled in.
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        .async_stack_zeroing(true)
        // Sync functions over WASI 0.2: none of the asynchronous component model is needed, and
        // calls are faster without.
        .concurrency_support(false)
        .wasm_wide_arithmetic(true)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(true)
        .wasm_tail_call(false)
        .wasm_custom_page_sizes(false);
    Engine::new(&config)
}

/// Interrupts running code every [`TICK`] for as long as it lives.
pub(crate) struct Ticker(#[expect(dead_code, reason = "dropping it ends the thread")] mpsc::Sender<()>);

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let (alive, ended) = mpsc::channel::<()>();
        let engine = engine.weak();
        thread::Builder::new().name("keyway-ticker".into()).spawn(move || {
            while let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(TICK) {
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => break,
                }
            }
        })?;
        Ok(Self(alive))
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::component::{Component, Linker};
    use wasmtime::{PoolConcurrencyLimitError, Store};

    use super::*;

    /// A component of core modules that have one memory or one table each.
    fn with(engine: &Engine, memories: u32, tables: u32) -> wasmtime::Result<Component> {
        let modules = |count: u32, what: &str| {
            (0..count)
                .map(|n| {
                    format!(
                        "(core module ${what}{n} ({what} 1 {})) (core instance (instantiate ${what}{n}))",
                        if what == "table" { "funcref" } else { "" }
                    )
                })
                .collect::<String>()
        };
        let text = format!("(component {} {})", modules(memories, "memory"), modules(tables, "table"));
        Component::new(engine, wat::parse_str(text).unwrap())
    }

    #[tokio::test]
    async fn every_call_that_may_run_finds_room_for_all_that_a_component_may_have() {
        let engine = engine(&Limits { concurrent_calls: 3, ..Limits::default() }).unwrap();
        let largest = with(&engine, MEMORIES_PER_CALL, TABLES_PER_CALL).unwrap();
        let linker = Linker::new(&engine);
        let mut stores: Vec<_> = (0..4).map(|_| Store::new(&engine, ())).collect();
        for (n, store) in stores.iter_mut().enumerate() {
            store.set_epoch_deadline(1_000);
            match linker.instantiate_async(store, &largest).await {
                Ok(_) => assert!(n < 3),
                Err(error) => assert!(n == 3 && error.is::<PoolConcurrencyLimitError>(), "call {n}: {error:#}"),
            }
        }
    }

    #[test]
    fn a_component_that_would_need_more_than_its_share_is_refused() {
        let engine = engine(&Limits { concurrent_calls: 8, ..Limits::default() }).unwrap();
        for (memories, tables) in [(MEMORIES_PER_CALL + 1, 1), (1, TABLES_PER_CALL + 1)] {
            assert!(with(&engine, memories, tables).is_err(), "{memories} memories, {tables} tables");
        }
    }
}
