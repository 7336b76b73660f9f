//! The sandboxed provider and 1Password's own SDK, on the same emulator.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use keyway_e2e::Lab;
use keyway_runtime::Fields;
use serde_json::{Value, json};

use crate::report::{Report, Row};
use crate::sandbox::{ITEM, VAULT};
use crate::statistics::{median, ratio, show, timed};

/// As in the issue that asks for this comparison.
const CONCURRENT: usize = 16;

pub(crate) async fn measure(report: &mut Report, quick: usize) -> Result<()> {
    let lab = Lab::start().await?;
    let reference = lab.reference(VAULT, ITEM).context("the emulator has lost its item")?;
    let token = lab.emulator.account("automation")?.token;
    let mut sdk = Sdk::start(lab.emulator.url())?;

    // Alternating, so that both see the same machine. Ours includes reading the list of vaults, the
    // SDK's does not.
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..(12 / quick).max(2) {
        let times = sdk.call(&json!({ "op": "measure.createClient", "token": token, "count": 1 }))?;
        theirs.push(milliseconds(times.get(0).context("the SDK measured nothing")?)?);
        let (time, verified) = timed(lab.provider.verify(&lab.connect("automation")?)).await;
        verified?;
        ours.push(time);
    }
    let (login, sdk_login) = (median(&mut ours), median(&mut theirs));
    report.add(Row {
        what: "login (4 requests; ours and the list of vaults), median",
        ours: show(login),
        compared_with: format!("the official SDK: {}", show(sdk_login)),
        ratio: format!("{:.1} times faster", ratio(sdk_login, login)),
        goal: Some(("at least 5 times faster", ratio(sdk_login, login) >= 5.0)),
    });

    let field = format!("{reference}/password");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    sdk.call(&json!({ "op": "secrets.resolve", "reference": field }))?;
    let connection = lab.connect("automation")?;
    lab.provider.resolve(&connection, &reference, Fields::ALL).await?;
    for _ in 0..3 {
        let count = 160 / quick;
        let time = sdk
            .call(&json!({ "op": "measure.resolve", "reference": field, "count": count, "concurrent": CONCURRENT }))?;
        theirs.push(milliseconds(&time)? / u32::try_from(count)?);
        let count = 3_200 / quick;
        let start = Instant::now();
        let workers: Vec<_> = (0..CONCURRENT)
            .map(|_| {
                let (provider, connection, reference) = (lab.provider.clone(), connection.clone(), reference.clone());
                tokio::spawn(async move {
                    for _ in 0..count / CONCURRENT {
                        provider.resolve(&connection, &reference, Fields::ALL).await?;
                    }
                    Ok::<_, keyway_runtime::CallError>(())
                })
            })
            .collect();
        for worker in workers {
            worker.await??;
        }
        ours.push(start.elapsed() / u32::try_from(count / CONCURRENT * CONCURRENT)?);
    }
    let (each, sdk_each) = (median(&mut ours), median(&mut theirs));
    let per_second = |each: Duration| format!("{:.0} a second", 1.0 / each.as_secs_f64());
    report.add(Row {
        what: "live resolves, 16 at once (ours all three fields, the SDK's one)",
        ours: per_second(each),
        compared_with: format!("the official SDK: {}", per_second(sdk_each)),
        ratio: format!("{:.1} times the throughput", ratio(sdk_each, each)),
        goal: Some(("at least 10 times the throughput", ratio(sdk_each, each) >= 10.0)),
    });
    Ok(())
}

fn milliseconds(value: &Value) -> Result<Duration> {
    Ok(Duration::from_secs_f64(value.as_f64().context("the SDK measured nothing")? / 1e3))
}

/// `tests/e2e/node/sdk.mjs`: one command per line in, one answer per line out.
struct Sdk {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Sdk {
    fn start(url: &str) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/node");
        let mut process = Command::new("node")
            .arg("sdk.mjs")
            .current_dir(folder)
            .env("KEYWAY_EMULATOR_URL", url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("Node.js 18 or newer must be on the PATH to run 1Password's SDK")?;
        let commands = process.stdin.take().context("no input")?;
        let answers = BufReader::new(process.stdout.take().context("no output")?);
        Ok(Self { process, commands, answers })
    }

    fn call(&mut self, command: &Value) -> Result<Value> {
        writeln!(self.commands, "{command}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let ended = "the SDK ended; was `npm ci` run in tests/e2e/node?";
        let mut answer: Value = serde_json::from_str(&line).context(ended)?;
        match answer.get_mut("result").map(Value::take) {
            Some(result) => Ok(result),
            None => bail!("the SDK failed: {answer}"),
        }
    }
}

impl Drop for Sdk {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
