//! The wasmtime engine: which features code may use, and how much of each resource.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits::Limits;

/// How often running code is interrupted, to yield to other calls and to check its deadline. A call
/// that only computes ends at most this long after its limit.
const TICK: Duration = Duration::from_millis(10);

/// A component may consist of many core modules: a Rust provider has 3, one in Python about 30.
const CORE_INSTANCES_PER_CALL: u32 = 64;
/// What a component may define; a larger one is refused when it is loaded. Providers in Rust and in
/// Python alike have 1 memory and 2 tables (the program's own and the one through which its imports
/// are bound), so two composed into one fit. The pool reserves this many for every call, so that no
/// component can take another's share: address space for a memory ([`AddressSpace`]), of which
/// wasmtime's default pool has 1,000, and [`Limits::table_elements`] pointers for a table.
const MEMORIES_PER_CALL: u32 = 2;
const TABLES_PER_CALL: u32 = 4;
/// Bytes of host-side bookkeeping; a component in Python needs about half of it.
const INSTANCE_BYTES: usize = 2 << 20;
/// Slots that stay prepared between calls. Few, because unprepared slots use no resident memory.
const WARM_SLOTS: u32 = 8;
/// Memory of a warm slot that is zeroed between calls instead of returned to the system. Returning
/// pages and faulting them in again costs more than running a Rust provider; the 1Password provider
/// touches about a mebibyte.
const RESIDENT_MEMORY_BYTES: usize = 2 << 20;
const RESIDENT_TABLE_BYTES: usize = 64 << 10;
const RESIDENT_STACK_BYTES: usize = 128 << 10;
/// wasmtime's own default for the guest's stack, written out because recursion depth is a limit
/// like the others.
const STACK_BYTES: usize = 512 << 10;
const FIBER_STACK_BYTES: usize = 2 << 20;

/// How much address space the memories of components may take. It decides whether compiled code
/// checks bounds, so a process that compiles must be told: code loads only into an engine with the
/// same settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressSpace {
    /// 4 GiB for each memory: no access can miss it, and the processor checks bounds.
    Ample,
    /// As much as a memory may grow to: compiled code checks bounds, which makes it a little
    /// slower.
    Small,
}

/// How much address space stays free at least, in calls that check bounds, of which each takes
/// 128 MiB: 1 GiB. With less, threads do not start and the database has no memory, at any later
/// moment. An idle server has 12 threads, with 64 MiB of glibc's arena for each, and compiled
/// components.
const FREE_CALLS: u32 = 8;

/// The engine of a host, for as many concurrent calls as the address space has room for.
///
/// Limits (`ulimit -v`) and processors with 39-bit addresses leave less than the 2 TiB that 256
/// calls take. At most half of what is there is used, and [`FREE_CALLS`] are left: threads, the
/// database and other allocations need room too.
///
/// # Errors
/// That of the smallest engine.
pub(crate) fn fitting(limits: &mut Limits) -> wasmtime::Result<(Engine, AddressSpace)> {
    let small = |calls| engine(&Limits { concurrent_calls: calls, ..limits.clone() }, AddressSpace::Small);
    let mut failed = match engine(limits, AddressSpace::Ample) {
        Ok(engine) if small(FREE_CALLS).is_ok() => return Ok((engine, AddressSpace::Ample)),
        Ok(_) => None,
        Err(error) => Some(error),
    };
    let mut calls = limits.concurrent_calls;
    while calls > 0 {
        // Closed again at once: it only shows that there is room.
        match small(calls.saturating_add(calls.max(FREE_CALLS))).map(drop) {
            Ok(()) => {
                let engine = small(calls)?;
                limits.concurrent_calls = calls;
                tracing::info!(
                    calls,
                    "the address space is limited (`ulimit -v`, or 39-bit addresses): providers run a little slower, and at most this many calls at once"
                );
                return Ok((engine, AddressSpace::Small));
            }
            Err(error) => failed = Some(error),
        }
        calls /= 2;
    }
    Err(failed.unwrap_or_else(|| wasmtime::Error::msg("no concurrent call is allowed")))
}

/// Every engine of this crate is created here.
pub(crate) fn engine(limits: &Limits, space: AddressSpace) -> wasmtime::Result<Engine> {
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
        // Memory that held secrets is cleared when the call ends: zeroed up to this size, returned
        // to the operating system beyond it.
        .linear_memory_keep_resident(RESIDENT_MEMORY_BYTES)
        .table_keep_resident(RESIDENT_TABLE_BYTES)
        .async_stack_keep_resident(RESIDENT_STACK_BYTES);

    // Core dumps of guests would hold secrets, so the feature is not compiled in.
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        .async_stack_zeroing(true)
        // The contract uses synchronous functions over WASI 0.2. Nothing needs the asynchronous
        // component model, and calls are faster without it.
        .concurrency_support(false)
        .wasm_wide_arithmetic(true)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(true)
        .wasm_tail_call(false)
        .wasm_custom_page_sizes(false);
    if space == AddressSpace::Small {
        config.memory_reservation(limits.memory_bytes as u64).memory_guard_size(0);
    }
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
        for space in [AddressSpace::Ample, AddressSpace::Small] {
            let engine = engine(&Limits { concurrent_calls: 3, ..Limits::default() }, space).unwrap();
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
    }

    #[test]
    fn a_component_that_would_need_more_than_its_share_is_refused() {
        let limits = Limits { concurrent_calls: 8, ..Limits::default() };
        let engine = engine(&limits, AddressSpace::Ample).unwrap();
        for (memories, tables) in [(MEMORIES_PER_CALL + 1, 1), (1, TABLES_PER_CALL + 1)] {
            assert!(with(&engine, memories, tables).is_err(), "{memories} memories, {tables} tables");
        }
    }
    #[test]
    fn code_for_ample_address_space_is_told_from_code_for_little() {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let limits = Limits { concurrent_calls: 1, ..Limits::default() };
        let settings = |space, calls| {
            let engine = engine(&Limits { concurrent_calls: calls, ..limits.clone() }, space).unwrap();
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        assert_ne!(settings(AddressSpace::Ample, 1), settings(AddressSpace::Small, 1));
        for space in [AddressSpace::Ample, AddressSpace::Small] {
            assert_eq!(settings(space, 1), settings(space, 8), "the size of the pool shapes no code");
        }
    }
}
