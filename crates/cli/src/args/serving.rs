//! `hearth serve`: which models, how much memory, how long a queue.

use clap::Args as ClapArgs;

use super::{AccessArgs, AddressArgs, DEFAULT_MODEL, KvArgs, SpeculationArgs};

#[derive(Debug, ClapArgs)]
pub(crate) struct ServeArgs {
    /// May be given several times: the first is loaded at once, the others when they are asked for
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub(crate) model: Vec<String>,
    /// A LoRA adapter, a run of `hearth train` or a folder in PEFT's layout, as a name that requests may ask for, of the
    /// first model or of the one behind the `@`; may be given several times
    #[arg(long, value_name = "NAME=FOLDER[@MODEL]", value_parser = named_folder)]
    pub(crate) adapter: Vec<(String, String)>,
    /// Another name for a model, for clients that insist on one; of the first model without the `=`. May be given
    /// several times
    #[arg(long, value_name = "NAME[=MODEL]")]
    pub(crate) alias: Vec<String>,
    /// A knowledge base to show under `/v1/knowledge` and to answer from as a model of its name; `*` shows all, and
    /// lets clients make new ones. May be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) knowledge: Vec<String>,
    /// Measure the server without a model: it answers as `echo`, with the tokens of the prompt
    #[arg(long, conflicts_with_all = ["adapter", "prompt_lookup", "draft"])]
    pub(crate) echo: bool,
    /// Weights of all models, keys and values together; models that nobody uses are unloaded for others.
    /// [default: three quarters of this machine's memory]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) memory_budget: Option<usize>,
    /// Answers computed together by a model
    #[arg(long, default_value_t = 32, value_name = "N")]
    pub(crate) max_batch: usize,
    /// Requests of a model that may wait; more are told when to try again
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub(crate) max_queue: usize,
    /// Keys and values of prompts kept on disk over restarts, at most; 0 keeps none
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = size)]
    pub(crate) disk_cache: usize,
    /// Positions of a conversation at most
    #[arg(long, default_value_t = 8192)]
    pub(crate) context: usize,
    #[command(flatten)]
    pub(crate) address: AddressArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    #[command(flatten)]
    pub(crate) speculation: SpeculationArgs,
    #[command(flatten)]
    pub(crate) kv: KvArgs,
}

/// Bytes: a number, or one with a unit as in `800MB` and `1.5GiB`.
fn size(text: &str) -> Result<usize, String> {
    const UNITS: [(&str, f64); 7] = [
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("kB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("", 1.0),
    ];
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let factor = UNITS.iter().find(|(name, _)| *name == unit.trim()).map(|(_, factor)| *factor);
    let number = number.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    match (number, factor) {
        (Some(number), Some(factor)) => Ok((number * factor) as usize),
        _ => Err(format!("`{text}` isn't a size such as 800MB or 1.5GiB")),
    }
}

fn named_folder(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, folder)) if !name.is_empty() && !folder.is_empty() => Ok((name.into(), folder.into())),
        _ => Err(format!("`{text}` isn't NAME=FOLDER or NAME=FOLDER@MODEL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        let good = [("0", 0), ("1024", 1024), ("1.5GiB", 3 << 29), ("800 MB", 800_000_000)];
        for (text, expected) in good {
            assert_eq!(size(text), Ok(expected));
        }
        for text in ["-1", "2XB", "MiB", "", "1e400"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
