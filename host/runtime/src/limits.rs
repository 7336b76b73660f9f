//! What one call may use. Every limit has its own error and a test that shows it firing.
//!
//! The limits that depend on the sandbox alone (time, stack, memory, tables, output) are also
//! tested at each start of the runtime (see [`crate::self_test`]): a limit that is accepted and has
//! no effect is the commonest hole in plugin hosts.

use std::time::Duration;

use wasmtime::ResourceLimiter;

/// The limits of one call, of one network request and of loading.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// From the start of a call to its answer, waiting included. Default 30 s: half of 60 s, the
    /// shortest time-out of the known clients.
    pub call_time: Duration,
    /// The same for the description of a new component, which makes no requests. Default 5 s: a
    /// starting host waits for it.
    pub describe_time: Duration,
    /// How long a call may wait for its turn while `concurrent_calls` or `calls_per_connection` are
    /// running. Default 5 s.
    pub queue_time: Duration,
    /// Concurrent calls of all providers. Default 256: each reserves address space, not memory.
    pub concurrent_calls: u32,
    /// Concurrent calls of one connection, so that a slow secret manager leaves turns to other
    /// connections. Default 64.
    pub calls_per_connection: u32,
    /// Linear memory of one call. Default 64 MiB; a Rust provider needs 2 to 4, one in Python about
    /// 30.
    pub memory_bytes: usize,
    /// Elements of all tables of one call. Default 100,000; a Python provider has about 20,000.
    pub table_elements: usize,
    /// Host resources (streams, requests, pollables) of one call. Default 1,000.
    pub handles: usize,
    /// What a component can pass to the host at once: its answer, a session state, a piece of a
    /// body. Default 8 MiB: 10,000 items of 800 bytes each.
    pub output_bytes: usize,
    /// What a component may print in one call; the rest is dropped. Default 64 KiB.
    pub log_bytes: usize,
    /// The size of a session state. Default 256 KiB, as the contract promises.
    pub session_bytes: usize,
    /// The body of one request. Default 16 MiB.
    pub request_body_bytes: u64,
    /// The body of one answer. Default 16 MiB, as the contract promises.
    pub response_body_bytes: u64,
    /// Concurrent requests of one connection. Default 64.
    pub requests_per_connection: u32,
    /// Name look-up, TCP and TLS handshake of one request. Default 10 s.
    pub connect_time: Duration,
    /// From a request to the head of its answer, and between two pieces of the body. Default 20 s.
    pub answer_time: Duration,
    /// The size of a component file. Default 64 MiB; one in Python has 18.
    pub component_bytes: usize,
    /// Compiling a component. Default 120 s; a Python component took 16 s on two cores.
    pub compile_time: Duration,
    /// Memory for compiling a component, if the compiler runs in a separate process. Default 2 GiB.
    pub compile_memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call_time: Duration::from_secs(30),
            describe_time: Duration::from_secs(5),
            queue_time: Duration::from_secs(5),
            concurrent_calls: 256,
            calls_per_connection: 64,
            memory_bytes: 64 << 20,
            table_elements: 100_000,
            handles: 1_000,
            output_bytes: 8 << 20,
            log_bytes: 64 << 10,
            session_bytes: 256 << 10,
            request_body_bytes: 16 << 20,
            response_body_bytes: 16 << 20,
            requests_per_connection: 64,
            connect_time: Duration::from_secs(10),
            answer_time: Duration::from_secs(20),
            component_bytes: 64 << 20,
            compile_time: Duration::from_secs(120),
            compile_memory_bytes: 2 << 30,
        }
    }
}

/// Which limit a call hit. Refused growth is not an error to the guest (`memory.grow` returns -1),
/// so the host records the reason for the trap that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exceeded {
    Memory,
    Table,
}

/// Counts the memory and table elements of one call across all its memories and tables.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_left: usize,
    table_left: usize,
    pub(crate) exceeded: Option<Exceeded>,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { memory_left: limits.memory_bytes, table_left: limits.table_elements, exceeded: None }
    }
}

fn take(left: &mut usize, current: usize, desired: usize) -> bool {
    match left.checked_sub(desired.saturating_sub(current)) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let granted = take(&mut self.memory_left, current, desired);
        if !granted {
            self.exceeded = Some(Exceeded::Memory);
        }
        Ok(granted)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let granted = take(&mut self.table_left, current, desired);
        if !granted {
            self.exceeded = Some(Exceeded::Table);
        }
        Ok(granted)
    }
}

#[cfg(test)]
mod tests {
    use super::Limits;
    use crate::egress::HEAD_BYTES;
    use crate::request_parts::{AUTHORITY_BYTES, METHOD_BYTES, PATH_BYTES};
    use crate::state::{HEADER_BYTES, RANDOM_BYTES};
    use crate::{redact, session, settings, store, validate};

    /// A number with separators: `65,536`.
    fn number(number: usize) -> String {
        let digits = number.to_string();
        let groups = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap());
        groups.collect::<Vec<_>>().join(",")
    }

    fn bytes(count: usize) -> String {
        match count {
            count if count % (1 << 20) == 0 => format!("{} MiB", count >> 20),
            count if count % (1 << 10) == 0 && count >= 8 << 10 => format!("{} KiB", count >> 10),
            count => format!("{} bytes", number(count)),
        }
    }

    /// What the host enforces, in the order of the table in the head of the WIT.
    fn enforced() -> Vec<String> {
        let limits = Limits::default();
        let length = |count: u64| bytes(usize::try_from(count).unwrap());
        let seconds = |time: std::time::Duration| format!("{} s", time.as_secs());
        let characters = |count| format!("{} characters", number(count));
        let each = |count| format!("{} each", number(count));
        vec![
            seconds(limits.call_time),
            seconds(limits.describe_time),
            bytes(limits.memory_bytes),
            number(limits.table_elements),
            number(limits.handles),
            length(RANDOM_BYTES),
            bytes(limits.component_bytes),
            characters(validate::MAX_NAME_CHARS),
            characters(validate::MAX_NAME_CHARS),
            bytes(validate::MAX_ID_BYTES),
            bytes(validate::MAX_LEASE_BYTES),
            characters(validate::MAX_CODE_CHARS),
            characters(validate::MAX_TEXT_CHARS),
            characters(redact::MAX_MESSAGE_CHARS),
            each(validate::MAX_LIST),
            each(validate::MAX_LIST),
            each(validate::MAX_TIERS),
            format!("{} s", number(validate::MAX_WINDOW_SECONDS as usize)),
            characters(settings::MAX_VALUE_CHARS),
            bytes(settings::MAX_PATTERN_BYTES),
            number(validate::MAX_ITEMS),
            bytes(validate::MAX_PAGE_TOKEN_BYTES),
            number(validate::MAX_FIELDS),
            number(validate::MAX_SELECTED),
            format!("{} days", number(usize::try_from(validate::LONGEST_VALIDITY_SECONDS / 86_400).unwrap())),
            bytes(limits.output_bytes),
            bytes(limits.session_bytes),
            format!("{} s", number(session::MAX_TTL as usize)),
            bytes(store::MAX_BYTES),
            bytes(limits.log_bytes),
            number(limits.requests_per_connection as usize),
            bytes(METHOD_BYTES),
            bytes(AUTHORITY_BYTES),
            bytes(PATH_BYTES),
            bytes(HEADER_BYTES),
            length(limits.request_body_bytes),
            bytes(HEAD_BYTES),
            length(limits.response_body_bytes),
            seconds(limits.connect_time),
            seconds(limits.answer_time),
        ]
    }

    #[test]
    fn the_limits_in_the_head_of_the_wit_are_those_that_the_host_enforces() {
        let wit = include_str!("../wit/0.2.0/provider.wit");
        let head = wit.split("package keyway:provider@").next().unwrap();
        let rows: Vec<_> = head.lines().filter_map(|line| line.strip_prefix("/// | ")?.strip_suffix(" |")).collect();
        let rows: Vec<_> = rows.iter().skip(2).map(|row| row.rsplit_once(" | ").unwrap()).collect();
        let enforced = enforced();
        assert_eq!(rows.len(), enforced.len(), "{rows:?}");
        for ((what, limit), enforced) in rows.into_iter().zip(enforced) {
            assert_eq!(limit, enforced, "{what}");
        }
    }
}
