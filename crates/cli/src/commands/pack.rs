//! `hearth data pack`: files of texts or conversations to token shards, and how well rows would be filled with them.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use hearth_artifacts::hash::sha256_file;
use hearth_artifacts::shards::packing::Packing;
use hearth_artifacts::shards::{Manifest, ShardWriter, ShardsInfo, Source, TokenShards};
use hearth_tokenizer::pack::{FileStats, PackConfig, Packer, pack};
use hearth_tokenizer::{ChatFormat, TokenId, Tokenizer};
use serde_json::json;

use super::Context;
use super::tokenizer::{Found, find};
use crate::args::PackArgs;
use crate::rows::Rows;

/// Tokens that end a document in some family, asked for in this order.
const ENDS: [&str; 5] = ["<|endoftext|>", "<|end_of_text|>", "<｜end▁of▁sentence｜>", "</s>", "<eos>"];

pub(super) fn run(context: &Context, args: &PackArgs) -> Result<()> {
    let start = Instant::now();
    let Found { tokenizer, file, template } = find(context, &args.tokenizer)?;
    let end = end_of_document(&tokenizer, args)?;
    let info = ShardsInfo {
        tokenizer_sha256: sha256_file(&file)?,
        vocab_size: u32::try_from(tokenizer.vocab_size())?,
        end_of_document: end,
        has_mask: args.conversations,
    };
    let packer = match args.conversations {
        true => Packer::Conversations(Box::new(ChatFormat::new(tokenizer, template.as_deref())?)),
        false => Packer::Texts { tokenizer, end_of_document: end },
    };
    let mut hashes = Vec::new();
    for path in &args.files {
        hashes.push(sha256_file(path).with_context(|| format!("`{}` can't be packed", path.display()))?);
    }
    let mut writer = ShardWriter::create(&args.output, info, args.max_shard_bytes)?;
    let config = PackConfig { threads: context.machine.pool.threads(), skip_bad: args.skip_bad };
    let files = pack(Rows::new(args.files.clone()), &packer, config, &mut writer, &context.terminal)?;
    for (path, sha256) in args.files.iter().zip(hashes) {
        let name = path.to_string_lossy().into_owned();
        let of_file: Vec<&FileStats> = files.iter().filter(|file| file.name == name).collect();
        writer.add_source(Source {
            sha256,
            num_documents: of_file.iter().map(|file| file.num_documents).sum(),
            num_skipped: of_file.iter().map(|file| file.num_empty + file.num_bad).sum(),
            name,
        });
    }
    if writer.num_documents() == 0 {
        bail!(
            "none of the rows gives a document\nhint: rows are JSON objects with `text`, or with `messages` for `--conversations`"
        );
    }
    let manifest = writer.finish()?;
    report(context, args, &manifest, &files, start)
}

/// The token that `--end` names, or the one the vocabulary has for this.
fn end_of_document(tokenizer: &Arc<Tokenizer>, args: &PackArgs) -> Result<Option<TokenId>> {
    if args.conversations {
        return Ok(None);
    }
    if let Some(token) = &args.end {
        let id = tokenizer.token_to_id(token);
        return id.map(Some).ok_or_else(|| anyhow!("`--end` {token} isn't a token of `{}`", args.tokenizer));
    }
    Ok(ENDS.iter().find_map(|token| tokenizer.token_to_id(token)).or(tokenizer.eos()))
}

fn report(
    context: &Context,
    args: &PackArgs,
    manifest: &Manifest,
    files: &[FileStats],
    start: Instant,
) -> Result<()> {
    let seconds = start.elapsed().as_secs_f64();
    let lengths = TokenShards::open(&args.output)?.lengths()?;
    let packing = Packing::new(&lengths, args.seq_len, 0)?;
    let num_bytes: u64 = files.iter().map(|file| file.num_bytes).sum();
    let sum = |of: fn(&FileStats) -> u64| files.iter().map(of).sum::<u64>();
    let (empty, bad) = (sum(|file| file.num_empty), sum(|file| file.num_bad));
    if context.json {
        context.print_json(&json!({
            "output": args.output, "documents": manifest.num_documents, "tokens": manifest.num_tokens,
            "learned": manifest.num_learned, "bytes": num_bytes, "empty": empty, "bad": bad,
            "shards": manifest.shards.len(), "end_of_document": manifest.end_of_document,
            "seq_len": args.seq_len, "rows": packing.num_rows(), "fill": packing.fill(), "seconds": seconds,
        }));
    } else {
        context.print(&format!(
            "{}: {} documents, {} tokens ({} learned) in {} shards; {} rows of {} tokens, {:.2} % full ({seconds:.1} s)",
            args.output.display(),
            manifest.num_documents,
            manifest.num_tokens,
            manifest.num_learned,
            manifest.shards.len(),
            packing.num_rows(),
            args.seq_len,
            packing.fill() * 100.0,
        ));
        if empty + bad > 0 {
            context.print(&format!("left out: {empty} rows without text, {bad} that couldn't be read"));
        }
    }
    Ok(())
}
