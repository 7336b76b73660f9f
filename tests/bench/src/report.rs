//! The table that a run prints.

use anyhow::Result;
use serde::Serialize;

/// One measurement.
#[derive(Serialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: &'static str,
    /// The result for Keyway.
    pub(crate) ours: String,
    /// What it was compared with, and that result.
    pub(crate) compared_with: String,
    /// The ratio of the two.
    pub(crate) ratio: String,
    /// The goal, and whether it is met.
    pub(crate) goal: Option<(&'static str, bool)>,
}

/// All measurements of a run.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    machine: String,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Prints a Markdown table, which is copied to the documentation unchanged, or JSON.
    pub(crate) fn print(mut self, json: bool) -> Result<()> {
        self.machine = machine();
        if json {
            println!("{}", serde_json::to_string_pretty(&self)?);
            return Ok(());
        }
        println!("{}\n", self.machine);
        println!("| what | Keyway | compared with | ratio | goal | |");
        println!("| --- | --- | --- | --- | --- | --- |");
        for row in &self.rows {
            let (goal, outcome) = match row.goal {
                Some((goal, true)) => (goal, "met"),
                Some((goal, false)) => (goal, "**missed**"),
                None => ("", ""),
            };
            println!("| {} | {} | {} | {} | {goal} | {outcome} |", row.what, row.ours, row.compared_with, row.ratio);
        }
        Ok(())
    }
}

/// The processor and the memory, as reported by Linux.
fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split(':').nth(1).unwrap_or("unknown").trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse::<u64>().unwrap_or_default() >> 20;
    format!("{cores} cores of {}, {memory} GiB", field("/proc/cpuinfo", "model name"))
}
