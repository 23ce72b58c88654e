//! `hearth merge`: one model of a base and an adapter, proved by its logits before it gets its name.
//!
//! A merge rounds where the base's rows are of fewer bits than the sum of base and update: a quantised base is therefore
//! written in f16 unless another type is asked for, and the proof compares with the base that has the adapter on it.

use anyhow::{Context as _, Result};
use hearth_kernels::quant::Format;
use hearth_model::Adapter;
use hearth_model::convert::{Encoding, Merged, Mix, Options};

use super::{Context, convert};
use crate::args::{MergeArgs, MergedType, WriteArgs};

pub(super) fn run(context: &Context, args: &MergeArgs) -> Result<()> {
    let source = convert::source(context, &args.model)?;
    let folder = context.machine.adapter_folder(&args.adapter)?;
    let model = context.machine.open(&source)?;
    let adapter = Adapter::open(&folder, &model.decoder)
        .with_context(|| format!("`{}` doesn't fit this model", folder.display()))?;
    let merged = Merged::new(&adapter, &model.decoder, &context.machine.pool);
    let encoding = encoding(args.kind, model.decoder.is_quantised());
    // Its memory is needed for the proof.
    drop(model);
    let write = WriteArgs {
        source: source.to_string_lossy().into_owned(),
        target: args.output.clone(),
        no_verify: args.no_verify,
        overwrite: args.overwrite,
    };
    let options =
        Options { encoding, merged: Some(&merged), overwrite: args.overwrite, ..Options::default() };
    convert::run(context, &write, &options, Some(&args.adapter))
}

fn encoding(kind: Option<MergedType>, is_quantised: bool) -> Encoding {
    match kind {
        None if is_quantised => Encoding::Dense(Format::F16),
        None => Encoding::Keep,
        Some(MergedType::F32) => Encoding::Dense(Format::F32),
        Some(MergedType::F16) => Encoding::Dense(Format::F16),
        Some(MergedType::Bf16) => Encoding::Dense(Format::BF16),
        Some(MergedType::Q8_0) => Encoding::Mix(Mix::Q8_0),
        Some(MergedType::Q6_K) => Encoding::Mix(Mix::Q6K),
        Some(MergedType::Q5_K_M) => Encoding::Mix(Mix::Q5KM),
        Some(MergedType::Q4_K_M) => Encoding::Mix(Mix::Q4KM),
    }
}
