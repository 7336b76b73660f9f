//! Tests the limits when the runtime starts.
//!
//! A limit that is accepted and has no effect is the commonest hole in a plugin host: a setting
//! that a new version ignores, a message that was reworded, a thread that did not start. A tiny
//! component violates each limit in turn, and each test sets its limit low enough to fire at once.
//! The tests run on a separate thread, so that an ineffective time limit is detected too.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use keyway_clock::SystemClock;
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentNamedList, Lift, Linker};

use crate::call::{fault, new_store};
use crate::error::SandboxError;
use crate::limits::Limits;
use crate::redact::Received;
use crate::runtime::SetupError;
use crate::state::CallState;

/// `self_test.wat` in its binary form. The text says what it does.
const COMPONENT: &[u8] = include_bytes!("self_test.wasm");

/// Two ticks and a bit: when the limit of time is to fire.
const SPIN_TIME: Duration = Duration::from_millis(25);
/// When another limit is to fire. It does at once, but a busy machine may be late.
const ENOUGH: Duration = Duration::from_secs(10);
/// A machine that takes longer than this to enforce all limits does not enforce them.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run(engine: &Engine) -> Result<(), SetupError> {
    let engine = engine.clone();
    let (done, outcome) = mpsc::channel();
    let test = move || {
        let _ = done.send(every_limit(&engine));
    };
    let started = thread::Builder::new().name("keyway-self-test".into()).spawn(test);
    started.map_err(|error| SetupError::Sandbox(error.to_string()))?;
    match outcome.recv_timeout(PATIENCE) {
        Ok(result) => result.map_err(SetupError::SelfTest),
        Err(_) => Err(SetupError::SelfTest("the time limit of a call does nothing".into())),
    }
}

fn every_limit(engine: &Engine) -> Result<(), String> {
    let text = |error: wasmtime::Error| format!("{error:#}");
    let component = Component::new(engine, COMPONENT).map_err(text)?;
    let reactor =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|error| error.to_string())?;
    let limits = Limits {
        call_time: ENOUGH,
        memory_bytes: 2 << 20,
        table_elements: 1_000,
        output_bytes: 1 << 20,
        ..Limits::default()
    };
    reactor.block_on(async {
        let short = Limits { call_time: SPIN_TIME, ..limits.clone() };
        Trial { engine, component: &component, limits: &short }
            .expect::<()>("spin", "the time limit of a call", |e| matches!(e, SandboxError::TimedOut { .. }))
            .await?;
        let try_out = Trial { engine, component: &component, limits: &limits };
        try_out
            .expect::<()>("recurse", "the limit of the stack", |e| matches!(e, SandboxError::Trapped { .. }))
            .await?;
        try_out
            .expect::<()>("grow-memory", "the limit of memory", |e| matches!(e, SandboxError::OutOfMemory { .. }))
            .await?;
        try_out
            .expect::<()>("grow-table", "the limit of tables", |e| matches!(e, SandboxError::LimitExceeded(_)))
            .await?;
        let too_large = |e: &SandboxError| matches!(e, SandboxError::OutputTooLarge { .. });
        try_out.expect::<(Vec<u8>,)>("flood", "the limit of output", too_large).await
    })
}

struct Trial<'a> {
    engine: &'a Engine,
    component: &'a Component,
    limits: &'a Limits,
}

impl Trial<'_> {
    async fn expect<T>(&self, function: &str, limit: &str, fired: impl Fn(&SandboxError) -> bool) -> Result<(), String>
    where
        T: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let nothing = |seen: String| format!("{limit} does nothing ({seen})");
        let state = CallState::new(self.limits, Arc::new(SystemClock::new()), None, Received::default());
        let mut store = new_store(self.engine, self.limits, state);
        let call = async {
            let instance = Linker::new(self.engine).instantiate_async(&mut store, self.component).await?;
            let function = instance.get_typed_func::<(), T>(&mut store, function)?;
            function.call_async(&mut store, ()).await
        };
        let seen = match tokio::time::timeout(self.limits.call_time, call).await {
            Ok(Ok(_)) => return Err(nothing("the call went through".into())),
            Ok(Err(error)) => fault(&error, store.data(), self.limits),
            Err(_) => SandboxError::TimedOut { operation: "self-test", limit: self.limits.call_time },
        };
        if fired(&seen) { Ok(()) } else { Err(nothing(seen.to_string())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_what_its_text_says() {
        assert_eq!(COMPONENT, wat::parse_str(include_str!("self_test.wat")).unwrap());
    }
}
