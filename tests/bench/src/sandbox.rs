//! The cost of the sandbox: the compiled component and the same code compiled natively, on the same
//! emulator.

use std::time::Duration;

use anyhow::{Context, Result};
use keyway_e2e::{Lab, component};
use keyway_emulator_onepassword::{Fault, FaultRule};
use keyway_native_host::NativeHost;
use keyway_provider_onepassword::OnePassword;
use keyway_runtime::{Fields, Settings};
use keyway_sdk::SecretProvider;

use crate::report::{Report, Row};
use crate::statistics::{median, ratio, show, timed};

/// The answer time of a fast server on another machine, including its own work.
pub(crate) const FAR: Duration = Duration::from_millis(5);

pub(crate) const VAULT: &str = "Automation";
pub(crate) const ITEM: &str = "Northwind Supplier Portal";

pub(crate) async fn measure(report: &mut Report, quick: usize) -> Result<()> {
    let lab = Lab::start().await?;
    let connection = lab.connect("automation")?;
    let reference = lab.reference(VAULT, ITEM).context("the emulator has lost its item")?;

    // The cheapest possible call: a fresh instance, a few strings in and out.
    let echo = lab.runtime.load(&component("fixtures/echo")?).await?;
    let idle = lab.runtime.connection(Settings::new().with("token", "x"), Vec::new());
    let mut fresh = Vec::new();
    for _ in 0..5_000 / quick {
        let (time, result) = timed(echo.resolve(&idle, "echo://item/x", Fields::CREDENTIALS)).await;
        result?;
        fresh.push(time);
    }

    let native = NativeHost::new([(lab.emulator.host(), lab.emulator.address().to_string().as_str())])?;
    let token = lab.emulator.account("automation")?.token;
    let settings = keyway_sdk::Settings::new().with("token", token);
    let natively = || {
        let start = std::time::Instant::now();
        native.call(|host| OnePassword::resolve(host, &settings, &reference, &keyway_sdk::Selection::ALL))?;
        Ok::<_, anyhow::Error>(start.elapsed())
    };
    let in_turns = async |times: usize| {
        let (mut in_sandbox, mut without) = (Vec::new(), Vec::new());
        for _ in 0..times {
            let (time, result) = timed(lab.provider.resolve(&connection, &reference, Fields::ALL)).await;
            result?;
            in_sandbox.push(time);
            without.push(tokio::task::block_in_place(natively)?);
        }
        anyhow::Ok((median(&mut in_sandbox), median(&mut without)))
    };
    // The first call of each logs in.
    in_turns(1).await?;
    let (in_sandbox, without) = in_turns(1_000 / quick).await?;
    lab.emulator.fault(everywhere(Fault::Delay { milliseconds: FAR.as_millis() as u64 }));
    let (far_in_sandbox, far_without) = in_turns(200 / quick).await?;
    // It has its own reactor, which must not be dropped inside another one.
    tokio::task::block_in_place(move || drop(native));
    let fresh = median(&mut fresh);
    report.add(Row {
        what: "fresh instance and call, median",
        ours: show(fresh),
        compared_with: format!("a live resolve: {}", show(in_sandbox)),
        ratio: format!("{:.1} %", 100.0 * ratio(fresh, in_sandbox)),
        goal: None,
    });
    for (what, in_sandbox, without) in [
        ("live resolve in the sandbox, median", in_sandbox, without),
        ("the same with a server that takes 5 ms, median", far_in_sandbox, far_without),
    ] {
        let overhead = in_sandbox.checked_sub(without).unwrap_or(Duration::ZERO);
        report.add(Row {
            what,
            ours: show(in_sandbox),
            compared_with: format!("the same code natively: {}", show(without)),
            ratio: format!("{:+.1} %", 100.0 * (ratio(in_sandbox, without) - 1.0)),
            goal: Some(("sandbox overhead under 5 %", ratio(overhead, in_sandbox) < 0.05)),
        });
    }
    Ok(())
}

/// A fault in every answer, until it is cleared.
pub(crate) fn everywhere(fault: Fault) -> FaultRule {
    FaultRule { endpoint: None, skip: 0, times: None, fault }
}
