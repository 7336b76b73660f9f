//! Medians of alternating measurements.

use std::time::{Duration, Instant};

/// The duration of some work.
pub(crate) async fn timed<T>(work: impl Future<Output = T>) -> (Duration, T) {
    let start = Instant::now();
    let result = work.await;
    (start.elapsed(), result)
}

/// The median: half of the runs were faster, half slower.
pub(crate) fn median(times: &mut [Duration]) -> Duration {
    percentile(times, 50.0)
}

/// The time that this percentage of runs did not exceed.
pub(crate) fn percentile(times: &mut [Duration], percent: f64) -> Duration {
    times.sort_unstable();
    let position = (times.len() as f64 * percent / 100.0) as usize;
    times.get(position).or(times.last()).copied().unwrap_or_default()
}

/// The time in a readable unit.
pub(crate) fn show(time: Duration) -> String {
    let microseconds = time.as_secs_f64() * 1e6;
    if microseconds < 1_000.0 {
        format!("{microseconds:.1} us")
    } else if microseconds < 1_000_000.0 {
        format!("{:.2} ms", microseconds / 1e3)
    } else {
        format!("{:.2} s", microseconds / 1e6)
    }
}

/// The first time divided by the second.
pub(crate) fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64().max(f64::MIN_POSITIVE)
}
