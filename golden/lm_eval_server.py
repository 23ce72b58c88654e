#!/usr/bin/env python3
"""lm-evaluation-harness through `hearth serve` must give what `hearth eval logprobs` gives without a server, to the bit.

usage: lm_eval_server.py HEARTH MODEL [--docs FILE.jsonl] [--limit N]    (pip install "lm-eval[api]")

Starts the server on a free port, runs a multiple-choice task and a generation task of the harness through its
`local-completions`, once one request at a time and once with batches of 8 from 4 connections, and compares the log-probability and the
greedy flag of every choice with the offline ones. Documents are lines of {"question", "choices", "answer"}; without
--docs those of DOCS below are used. Prints one line of JSON; exit code 1 if anything differs."""
import argparse, json, os, pathlib, re, subprocess, sys, tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")

DOCS = [
    ("The capital of France is", [" Paris", " London", " Madrid", " Rome"], 0),
    ("Water freezes at a temperature of", [" one hundred degrees", " zero degrees Celsius"], 1),
    ("2 + 2 =", [" 3", " 4", " 5", " 22"], 1),
    ("The opposite of hot is", [" cold", " warm", " fire"], 0),
    ("A week has", [" five days", " seven days", " ten days"], 1),
    ("The sun rises in the ", ["west", "east", "north"], 1),
    ("太阳从", ["西边升起", "东边升起"], 1),
    ("一年有", ["十个月", "十二个月", "二十个月"], 1),
    ("def add(a, b):\n    return a", [" - b", " + b", " * b"], 1),
    ("Größer als eins ist", [" null", " zwei"], 1),
    ("The chemical sign of gold is", [" Ag", " Au", " Fe", " Go"], 1),
    ("Shakespeare wrote", [" Hamlet", " Faust", " Ulysses"], 0),
]
CHOICE = """task: hearth_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {docs}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
target_delimiter: ""
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
TEXT = """task: hearth_text
dataset_path: json
dataset_kwargs: {{data_files: {{test: {docs}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 12, temperature: 0}}
metric_list: [{{metric: exact_match}}]
"""


def serve(args):
    command = [args.hearth, "serve", "--model", args.model, "--port", "0", "--disk-cache", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        found = re.search(r"serving `(.*)` at (http://\S+)", line)
        if found:
            return server, found[1], found[2].rstrip("/")
    sys.exit(f"`{' '.join(command)}` ended before it served")


def evaluate(url, model, tasks, batch_size, num_concurrent):
    from lm_eval import evaluator
    from lm_eval.tasks import TaskManager

    settings = {"model": model, "base_url": f"{url}/v1/completions", "num_concurrent": num_concurrent, "max_retries": 1}
    return evaluator.simple_evaluate(
        model="local-completions", model_args=settings, tasks=["hearth_choice", "hearth_text"], batch_size=batch_size,
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False), log_samples=True, bootstrap_iters=0,
    )


def scores(result):
    """Every choice's (log-probability, is greedy), by document, and every text."""
    choices = {s["doc_id"]: [tuple(r) for r in s["filtered_resps"]] for s in result["samples"]["hearth_choice"]}
    texts = {s["doc_id"]: s["filtered_resps"] for s in result["samples"]["hearth_text"]}
    return [choices[i] for i in sorted(choices)], [texts[i] for i in sorted(texts)]


def offline(args, docs, folder):
    pairs = [{"context": d["question"], "continuation": c} for d in docs for c in d["choices"]]
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    command = [args.hearth, "eval", "logprobs", "--model", args.model, "--file", str(file), "--json"]
    lines = map(json.loads, subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())
    flat = iter([(line["logprob"], line["is_greedy"]) for line in lines])
    return [[next(flat) for _ in d["choices"]] for d in docs]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("hearth")
    parser.add_argument("model")
    parser.add_argument("--docs")
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()
    if args.docs:
        docs = [json.loads(line) for line in open(args.docs, encoding="utf-8")]
    else:
        docs = [{"question": q, "choices": c, "answer": a} for q, c, a in DOCS]
    docs = docs[: args.limit]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lm-eval-"))
    (folder / "docs.jsonl").write_text("".join(json.dumps(d) + "\n" for d in docs))
    for name, task in [("choice.yaml", CHOICE), ("text.yaml", TEXT)]:
        (folder / name).write_text(task.format(docs=folder / "docs.jsonl"))
    server, model, url = serve(args)
    try:
        alone = evaluate(url, model, folder, 1, 1)
        together = evaluate(url, model, folder, 8, 4)
    finally:
        server.terminate()
        server.wait(60)
    expected = offline(args, docs, folder)
    (choices, texts), (choices_together, texts_together) = scores(alone), scores(together)
    right = sum(max(range(len(e)), key=lambda i: e[i][0]) == d["answer"] for e, d in zip(expected, docs))
    differ = sum(a != b for got, want in zip(choices, expected) for a, b in zip(got, want))
    differ_together = sum(a != b for got, want in zip(choices_together, expected) for a, b in zip(got, want))
    print(json.dumps({
        "model": model, "documents": len(docs), "choices": sum(map(len, expected)), "differ": differ,
        "differ_together": differ_together, "texts_differ": sum(a != b for a, b in zip(texts, texts_together)),
        "acc": alone["results"]["hearth_choice"]["acc,none"], "acc_offline": right / len(docs),
        "acc_norm": alone["results"]["hearth_choice"]["acc_norm,none"], "server_exit": server.returncode,
    }, ensure_ascii=False))
    same = not differ and not differ_together and texts == texts_together and server.returncode == 0
    sys.exit(0 if same and alone["results"]["hearth_choice"]["acc,none"] == right / len(docs) else 1)


if __name__ == "__main__":
    main()
