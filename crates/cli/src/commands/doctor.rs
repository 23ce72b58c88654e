//! `hearth doctor`: what this machine is, what is in reach, and which models it can run how fast.
//!
//! Bandwidth and products are measured here and now; speeds of models are estimated from them and say so.

mod measure;

use hearth_hub::{HubConfig, table};
use hearth_kernels::cpu;
use serde_json::{Value, json};

use super::Context;
use crate::memory::Memory;
use measure::Measured;

/// Of the measured bandwidth, what decoding a token reaches (measured with small models, LOG.md).
const DECODE_SHARE: f64 = 0.7;
/// Of the measured product speed, what reading a prompt reaches (as above).
const PREFILL_SHARE: f64 = 0.8;
/// Of a small model's weights, what isn't its vocabulary's table: a prompt's tokens are multiplied by these only.
const MULTIPLIED_SHARE: f64 = 0.65;
/// Bits of a file for each weight, in the middle of what 4-bit files of small models hold.
const BITS_PER_WEIGHT: f64 = 5.5;
/// Memory beside the weights: keys and values of one long conversation, and buffers.
const SPARE_BYTES: u64 = 512 << 20;

pub(super) fn run(context: &Context) {
    let report = report(context);
    match context.json {
        true => context.print_json(&report),
        false => context.print(&page(&report)),
    }
}

fn report(context: &Context) -> Value {
    let machine = &context.machine;
    let measured = Measured::now(&machine.pool);
    let memory = Memory::now();
    let models: Vec<Value> = table::TABLE
        .iter()
        .filter_map(|row| model(row, &measured, memory.map(|memory| memory.available)))
        .collect();
    json!({
        "what": "doctor",
        "cpu": {
            "model": cpu_model(), "cores": std::thread::available_parallelism().map_or(1, usize::from),
            "threads": machine.pool.threads(), "features": features(),
            "instruction_set": format!("{:?}", cpu::level()).to_lowercase(),
        },
        "memory": {
            "total_mib": memory.map(|memory| memory.total >> 20),
            "available_mib": memory.map(|memory| memory.available >> 20),
            "read_gb_per_s": round(measured.bytes / 1e9),
        },
        "products": {
            "f32_gflop_per_s": round(measured.f32_operations / 1e9), "int8_gop_per_s": round(measured.int8_operations / 1e9),
        },
        "home": home(context),
        "sources": sources(context),
        "models": models,
        "models_are": "estimated from the measured memory and product speeds, not run",
    })
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// What a model of the table would do here; none for one that comes as a folder, whose size the table doesn't know.
fn model(row: &table::Row, measured: &Measured, available: Option<u64>) -> Option<Value> {
    let (_, file_bytes, _) = row.file?;
    let bytes = file_bytes as f64;
    let is_chat = row.kind == hearth_hub::Kind::Chat;
    let weights = bytes * 8.0 / BITS_PER_WEIGHT;
    let decode = DECODE_SHARE * measured.bytes / bytes;
    let prefill = PREFILL_SHARE * measured.int8_operations / (2.0 * MULTIPLIED_SHARE * weights);
    Some(json!({
        "name": row.name, "file_mib": file_bytes >> 20,
        "fits": available.map(|available| file_bytes + SPARE_BYTES <= available),
        "prompt_tokens_per_s": round(prefill),
        "tokens_per_s": is_chat.then(|| round(decode)),
    }))
}

fn home(context: &Context) -> Value {
    let home = &context.machine.home;
    let root = home.root();
    let probe = root.join(format!("doctor.{}", std::process::id()));
    let written = fs_err::create_dir_all(root).and_then(|()| fs_err::write(&probe, "x"));
    let problem = written.and_then(|()| fs_err::remove_file(&probe)).err().map(|error| error.to_string());
    let models = context.machine.hub().list(&hearth_artifacts::progress::Silent).unwrap_or_default();
    json!({
        "path": root, "problem": problem, "free_disk_mib": fs4::available_space(root).ok().map(|bytes| bytes >> 20),
        "models": models.into_iter().map(|model| model.name).collect::<Vec<_>>(),
    })
}

fn sources(context: &Context) -> Value {
    if HubConfig::from_env().offline {
        return json!([{ "name": "network", "answers": false, "said": "switched off (HEARTH_OFFLINE)" }]);
    }
    let reached = context.machine.hub().reach().into_iter().map(|reach| {
        let said = match &reach.answer {
            Ok(status) => format!("status {status}"),
            Err(error) => error.to_string(),
        };
        json!({ "name": reach.name, "url": reach.url, "answers": reach.answer.is_ok_and(|s| s < 400), "said": said })
    });
    reached.collect()
}

fn cpu_model() -> Option<String> {
    let text = fs_err::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let all = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avxvnni", is_x86_feature_detected!("avxvnni")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    all.into_iter().filter(|feature| feature.1).map(|feature| feature.0).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

/// The report for people.
fn page(report: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "unknown".into(),
        other => other.to_string(),
    };
    let list = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(" ");
    let (cpu, memory, home) = (&report["cpu"], &report["memory"], &report["home"]);
    let mut lines = vec![
        format!("processor   {}, {} cores, {} threads", text(&cpu["model"]), cpu["cores"], cpu["threads"]),
        format!("            uses {} of {}", text(&cpu["instruction_set"]), list(&cpu["features"])),
        format!(
            "memory      {} MiB, {} available; reads {} GB/s",
            text(&memory["total_mib"]),
            text(&memory["available_mib"]),
            memory["read_gb_per_s"]
        ),
        format!(
            "products    f32 {} GFLOP/s, 8-bit weights {} GOP/s",
            report["products"]["f32_gflop_per_s"], report["products"]["int8_gop_per_s"]
        ),
        format!("home        {}, {} MiB free", text(&home["path"]), text(&home["free_disk_mib"])),
    ];
    if !home["problem"].is_null() {
        lines.push(format!("            can't be written: {}", text(&home["problem"])));
    }
    lines.push(format!(
        "            holds {}",
        match list(&home["models"]) {
            names if names.is_empty() => "no model yet".into(),
            names => names,
        }
    ));
    for source in report["sources"].as_array().into_iter().flatten() {
        let verdict = if source["answers"] == true { "answers" } else { "doesn't answer" };
        let said = text(&source["said"]);
        // An error names the address itself.
        let url = source["url"].as_str().filter(|url| !said.contains(url)).unwrap_or_default();
        lines.push(format!("source      {} {verdict}: {url} {said}", text(&source["name"])));
    }
    lines.push(format!("\nmodels ({})", text(&report["models_are"])));
    lines.push(format!("  {:32} {:>9} {:>14} {:>14}  fits", "name", "MiB", "prompt tok/s", "answer tok/s"));
    for model in report["models"].as_array().into_iter().flatten() {
        let fits = match model["fits"].as_bool() {
            Some(true) => "yes",
            Some(false) => "no, not enough memory",
            None => "unknown",
        };
        let speed = |value: &Value| if value.is_null() { "–".into() } else { value.to_string() };
        lines.push(format!(
            "  {:32} {:>9} {:>14} {:>14}  {fits}",
            text(&model["name"]),
            text(&model["file_mib"]),
            speed(&model["prompt_tokens_per_s"]),
            speed(&model["tokens_per_s"])
        ));
    }
    lines.join("\n")
}
