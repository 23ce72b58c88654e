//! `hearth quantize|convert`, and the writing of `hearth merge`: a model in another format, proved by its logits before it gets its name.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hearth_kernels::quant::Format;
use hearth_model::convert::importance::Importance;
use hearth_model::convert::{self, Encoding, Mix, Options, Summary};
use serde_json::json;

use super::Context;
use super::verify::{self, Expectation, Proof};
use crate::args::{ConvertArgs, DenseType, QuantizeArgs, QuantizedType, WriteArgs};

pub(super) fn quantize(context: &Context, args: &QuantizeArgs) -> Result<()> {
    let mix = match args.kind {
        QuantizedType::Q4_0 => Mix::Q4_0,
        QuantizedType::Q5_0 => Mix::Q5_0,
        QuantizedType::Q8_0 => Mix::Q8_0,
        QuantizedType::Q4_K_M => Mix::Q4KM,
        QuantizedType::Q5_K_M => Mix::Q5KM,
        QuantizedType::Q6_K => Mix::Q6K,
    };
    if args.write.target.extension().is_none_or(|extension| extension != "gguf") {
        bail!(
            "`{}` doesn't end in `.gguf`: quantised weights go into a GGUF file",
            args.write.target.display()
        );
    }
    let importance = args.imatrix.as_deref().map(Importance::open).transpose()?;
    let options = Options {
        encoding: Encoding::Mix(mix),
        importance: importance.as_ref(),
        overwrite: args.write.overwrite,
        ..Options::default()
    };
    run(context, &args.write, &options, None)
}

pub(super) fn convert(context: &Context, args: &ConvertArgs) -> Result<()> {
    let encoding = match args.kind {
        DenseType::Keep => Encoding::Keep,
        DenseType::F32 => Encoding::Dense(Format::F32),
        DenseType::F16 => Encoding::Dense(Format::F16),
        DenseType::Bf16 => Encoding::Dense(Format::BF16),
    };
    let options = Options { encoding, overwrite: args.write.overwrite, ..Options::default() };
    run(context, &args.write, &options, None)
}

/// Writes a model as the options say, and proves it; an adapter that they merge is named for the proof.
pub(super) fn run(
    context: &Context,
    args: &WriteArgs,
    options: &Options<'_>,
    adapter: Option<&str>,
) -> Result<()> {
    let source = source(context, &args.source)?;
    let (machine, progress) = (&context.machine, &context.terminal);
    if args.no_verify {
        let summary = convert::convert(&source, &args.target, options, &machine.pool, progress)?;
        report(context, &args.target, &summary, None);
        return Ok(());
    }
    // The model gets its name when it is proved: until then it lies beside.
    convert::check_target(&source, &args.target, options.overwrite)?;
    let unproved = Unproved::beside(&args.target);
    let options = Options { overwrite: true, shard_bytes: options.shard_bytes, ..*options };
    let summary = convert::convert(&source, &unproved.path, &options, &machine.pool, progress)?;
    let expectation = Expectation::of(&summary, options.encoding);
    let proof = verify::compare(context, (&source, adapter), &unproved.path, &expectation);
    let proof = proof.with_context(|| {
        format!("`{}` can't be proved; `--no-verify` writes it all the same", args.target.display())
    })?;
    unproved.accept(&args.target, args.overwrite)?;
    report(context, &args.target, &summary, Some((&expectation, &proof)));
    Ok(())
}

/// The file or folder of a model.
pub(super) fn source(context: &Context, name: &str) -> Result<PathBuf> {
    match Path::new(name).exists() {
        true => Ok(PathBuf::from(name)),
        false => Ok(context.machine.pull(name, &context.terminal)?.path),
    }
}

/// A model that is removed unless it is accepted.
#[derive(Debug)]
struct Unproved {
    path: PathBuf,
}

impl Unproved {
    fn beside(target: &Path) -> Self {
        let stem = target.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let extension = target.extension().map(|extension| format!(".{}", extension.to_string_lossy()));
        let name = format!("{stem}.{}.unproved{}", std::process::id(), extension.unwrap_or_default());
        Self { path: target.with_file_name(name) }
    }

    fn accept(&self, target: &Path, overwrite: bool) -> Result<()> {
        // Looked for before as well; the proof takes its time.
        if target.exists() && !overwrite {
            bail!(
                "`{}` came to be while this was computed and stays as it is\nhint: `--overwrite` replaces it",
                target.display()
            );
        }
        Ok(fs_err::rename(&self.path, target)?)
    }
}

impl Drop for Unproved {
    fn drop(&mut self) {
        // Nothing is there once it is accepted; what can't be removed is named by its ending.
        let _ = match self.path.is_dir() {
            true => fs_err::remove_dir_all(&self.path),
            false => fs_err::remove_file(&self.path),
        };
    }
}

fn report(context: &Context, target: &Path, summary: &Summary, proof: Option<(&Expectation, &Proof)>) {
    if context.json {
        context.print_json(&json!({
            "target": target, "bytes": summary.num_bytes(), "lossless": summary.is_lossless(), "notes": summary.notes,
            "formats": summary.by_format().into_iter().map(|(format, tensors, bytes)| {
                json!({ "format": format.name(), "tensors": tensors, "bytes": bytes })
            }).collect::<Vec<_>>(),
            "tensors": summary.tensors.iter().map(|tensor| {
                json!({
                    "name": tensor.name, "from": tensor.from.name(), "to": tensor.to.name(),
                    "bytes": tensor.num_bytes, "relative_error": tensor.relative_error,
                })
            }).collect::<Vec<_>>(),
            "proof": proof.map(|(expectation, proof)| proof.to_json(expectation)),
        }));
        return;
    }
    for (format, tensors, bytes) in summary.by_format() {
        let worst = summary.tensors.iter().filter(|tensor| tensor.to == format);
        let worst = worst.map(|tensor| tensor.relative_error).fold(0.0, f64::max);
        let error =
            if worst == 0.0 { "exact".to_owned() } else { format!("error up to {:.2} %", worst * 100.0) };
        context.print(&format!(
            "{:8} {tensors:>5} tensors {:>9.1} MB  {error}",
            format.name(),
            bytes as f64 / 1e6
        ));
    }
    match proof {
        Some((expectation, proof)) => context.print(&proof.describe(expectation)),
        None => context.print("logits were not compared (`--no-verify`)"),
    }
    context.print(&format!("{} is written", target.display()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_another_process_wrote_meanwhile_stays() {
        let folder = hearth_testkit::Scratch::new("accept").unwrap();
        let target = folder.join("m.gguf");
        let unproved = Unproved::beside(&target);
        fs_err::write(&unproved.path, "ours").unwrap();
        fs_err::write(&target, "theirs").unwrap();
        let message = unproved.accept(&target, false).unwrap_err().to_string();
        assert!(message.contains("m.gguf` came to be"), "{message}");
        assert_eq!(fs_err::read(&target).unwrap(), b"theirs");
        unproved.accept(&target, true).unwrap();
        assert_eq!(fs_err::read(&target).unwrap(), b"ours");
    }
}
