//! Counters and histograms, and their text in the exposition format of Prometheus (0.0.4).

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hearth_engine::{Computed, Engine, Load, Usage};

/// Seconds, from a tiny model's token to a long prompt on a slow machine.
const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

// Nothing else is published through these counters, so the weakest ordering will do.
const ORDER: Ordering = Ordering::Relaxed;

#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, seconds: f64) {
        if let Some(at) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[at].fetch_add(1, ORDER);
        }
        self.count.fetch_add(1, ORDER);
        self.micros.fetch_add((seconds * 1e6) as u64, ORDER);
    }

    fn write(&self, out: &mut String, name: &str, help: &str) {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut sum = 0;
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            sum += bucket.load(ORDER);
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {sum}");
        }
        let count = self.count.load(ORDER);
        let seconds = self.micros.load(ORDER) as f64 / 1e6;
        let _ =
            writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {seconds}\n{name}_count {count}");
    }
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) first_token: Histogram,
    pub(crate) inter_token: Histogram,
    total: Histogram,
    started: AtomicU64,
    finished: AtomicU64,
    aborted: AtomicU64,
    pub(crate) refused: AtomicU64,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    completion_tokens: AtomicU64,
}

impl Metrics {
    pub(crate) fn started(&self) {
        self.started.fetch_add(1, ORDER);
    }

    pub(crate) fn finished(&self, seconds: f64, usage: &Usage) {
        self.finished.fetch_add(1, ORDER);
        self.total.observe(seconds);
        self.prompt_tokens.fetch_add(usage.prompt_tokens as u64, ORDER);
        self.cached_tokens.fetch_add(usage.cached_tokens as u64, ORDER);
        self.completion_tokens.fetch_add(usage.completion_tokens as u64, ORDER);
    }

    pub(crate) fn aborted(&self) {
        self.aborted.fetch_add(1, ORDER);
    }

    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, ORDER);
    }

    /// The exposition. What engines know is the sum over those that are loaded: an unloaded one takes its counts away, which
    /// readers of counters take for a restart.
    pub(crate) fn text(&self, engines: &[Arc<Engine>]) -> String {
        let mut out = String::new();
        let loads: Vec<Load> = engines.iter().map(|engine| engine.load()).collect();
        let load = |count: fn(&Load) -> usize| loads.iter().map(count).sum::<usize>() as u64;
        let computed: Vec<Computed> = engines.iter().map(|engine| engine.computed()).collect();
        let computed = |count: fn(&Computed) -> u64| computed.iter().map(count).sum::<u64>();
        let counter = |value: &AtomicU64| value.load(ORDER);
        for (name, help, value) in [
            ("hearth_requests_started_total", "Requests that reached the engine.", counter(&self.started)),
            ("hearth_requests_finished_total", "Requests answered whole.", counter(&self.finished)),
            (
                "hearth_requests_aborted_total",
                "Requests given up or failed on the way.",
                counter(&self.aborted),
            ),
            ("hearth_requests_refused_total", "Responses with status 400 or above.", counter(&self.refused)),
            (
                "hearth_prompt_tokens_total",
                "Prompt tokens of counted requests.",
                counter(&self.prompt_tokens),
            ),
            (
                "hearth_cached_tokens_total",
                "Of those, reused from the prefix cache.",
                counter(&self.cached_tokens),
            ),
            ("hearth_completion_tokens_total", "Generated tokens.", counter(&self.completion_tokens)),
            (
                "hearth_engine_tokens_total",
                "Tokens that went through the model.",
                computed(|computed| computed.tokens),
            ),
            (
                "hearth_engine_pauses_total",
                "Sequences that gave their memory to older ones.",
                computed(|computed| computed.pauses),
            ),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
        }
        for (name, help, value) in [
            ("hearth_queue_requests", "Requests that wait.", load(|load| load.waiting_requests)),
            ("hearth_queue_tokens", "Prompt tokens that wait.", load(|load| load.waiting_tokens)),
            ("hearth_running_sequences", "Sequences computed together.", load(|load| load.running)),
            ("hearth_kv_bytes", "Bytes of keys and values.", load(|load| load.kv_bytes)),
            (
                "hearth_kv_idle_bytes",
                "Of those, kept only for later requests.",
                load(|load| load.idle_kv_bytes),
            ),
            ("hearth_resident_bytes", "Resident memory of the process.", resident_bytes()),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        self.first_token.write(
            &mut out,
            "hearth_time_to_first_token_seconds",
            "From request to first token.",
        );
        self.inter_token.write(&mut out, "hearth_inter_token_seconds", "Between two tokens of a request.");
        self.total.write(&mut out, "hearth_request_seconds", "From request to its end.");
        out
    }
}

/// 0 where the system doesn't tell.
fn resident_bytes() -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_end_with_the_count() {
        let histogram = Histogram::default();
        for seconds in [0.0005, 0.02, 0.02, 100.0] {
            histogram.observe(seconds);
        }
        let mut text = String::new();
        histogram.write(&mut text, "h", "x");
        for line in [
            "h_bucket{le=\"0.001\"} 1",
            "h_bucket{le=\"0.025\"} 3",
            "h_bucket{le=\"30\"} 3",
            "h_bucket{le=\"+Inf\"} 4",
            "h_count 4",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} in {text}");
        }
    }
}
