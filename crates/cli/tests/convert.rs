//! `hearth quantize|convert|show` as a user runs them: every model that is written is proved by its logits.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

#[expect(dead_code, reason = "what only the tests of `hearth up` use")]
mod program;

use hearth_testkit::{Family, TINY, TinyModel};
use program::{Outcome, Scene, run};
use serde_json::Value;

/// Rows that are whole blocks of 256.
const WIDE: TinyModel = TinyModel { hidden_size: 256, intermediate_size: 512, ..TINY };

fn json(outcome: Outcome) -> Value {
    serde_json::from_str(&outcome.expect(0).stdout).unwrap()
}

fn names(scene: &Scene) -> Vec<String> {
    let mut names: Vec<_> = fs_err::read_dir(scene.path("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_model_goes_to_gguf_and_back_with_the_logits_it_had() {
    let families =
        [(Family::Qwen2, true), (Family::Llama, false), (Family::Qwen3Moe, true), (Family::Gemma3, true)];
    for (family, exact) in families {
        let scene = Scene::new("convert");
        TinyModel { family, ..TINY }.write(&scene.path("source")).unwrap();
        fs_err::create_dir(scene.path("out")).unwrap();
        let (source, file, folder) = (scene.text("source"), scene.text("out/m.gguf"), scene.text("out/back"));
        for (from, to) in [(&source, &file), (&file, &folder)] {
            let report = json(run(scene.hearth(&["convert", from, to, "--json"])));
            assert_eq!(report["lossless"], true);
            let difference = report["proof"]["max_logit_difference"].as_f64().unwrap();
            // Llama's files hold rows of q and k in another order, and with it the sums of attention.
            assert!(if exact { difference == 0.0 } else { difference < 1e-4 }, "{family:?}: {difference}");
        }
        assert_eq!(names(&scene), ["back", "m.gguf"]);
        let text = |model: &str| {
            json(run(scene.hearth(&["generate", "--model", model, "--prompt", "the kiln", "--json"])))
        };
        assert_eq!(text(&source)["text"], text(&folder)["text"]);
    }
}

#[test]
fn an_importance_matrix_is_computed_and_used() {
    let scene = Scene::new("imatrix");
    WIDE.write(&scene.path("source")).unwrap();
    fs_err::create_dir(scene.path("out")).unwrap();
    scene.write("text.txt", "The kiln is hot and the clay is wet. ".repeat(30));
    scene.write("noise.txt", [0xff, 0xfe]);
    let (source, text, output) = (scene.text("source"), scene.text("text.txt"), scene.text("out/i.gguf"));
    let other = scene.text("out/x.gguf");
    let imatrix = |more: &[&str]| {
        run(scene.hearth(&[&["imatrix", &source, &text, "-o", &output, "--window", "64"], more].concat()))
    };
    let report = json(imatrix(&["--json", "--chunks", "2"]));
    assert_eq!((&report["windows"], &report["tokens"]), (&2.into(), &128.into()));
    assert_eq!(names(&scene), ["i.gguf"]);
    let again = imatrix(&[]).expect(1);
    assert!(again.stderr.contains("i.gguf` is there already"), "{}", again.stderr);
    imatrix(&["--overwrite"]).expect(0);
    for (more, expected) in
        [(["--window", "9999999"], "`--window` 9999999 must be 16 to"), (["--chunks", "0"], "`--chunks` 0")]
    {
        let command = [&["imatrix", &source, &text, "-o", &other], &more[..]].concat();
        let outcome = run(scene.hearth(&command)).expect(1);
        assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
    }
    let noise = run(scene.hearth(&["imatrix", &source, &scene.text("noise.txt"), "-o", &other]));
    let noise = noise.expect(1);
    assert!(noise.stderr.contains("noise.txt` isn't UTF-8"), "{}", noise.stderr);
    let quantize = |target: &str, more: &[&str]| {
        let target = scene.text(target);
        run(scene.hearth(&[&["quantize", &source, &target, "--type", "q4_0", "--json"], more].concat()))
            .expect(0);
        fs_err::read(target).unwrap()
    };
    let (plain, weighted) = (quantize("out/a.gguf", &[]), quantize("out/b.gguf", &["--imatrix", &output]));
    assert!(plain.len() == weighted.len() && plain != weighted, "the matrix changes which rounding is best");
    assert_eq!(names(&scene), ["a.gguf", "b.gguf", "i.gguf"]);
}

#[test]
fn quantised_models_are_near_and_say_how_near() {
    let scene = Scene::new("quantize");
    WIDE.write(&scene.path("source")).unwrap();
    fs_err::create_dir(scene.path("out")).unwrap();
    let source = scene.text("source");
    let mut before = 0.0;
    for kind in ["q8_0", "q6_k", "q4_k_m", "q4_0"] {
        let target = scene.text(&format!("out/{kind}.gguf"));
        let report = json(run(scene.hearth(&["quantize", &source, &target, "--type", kind, "--json"])));
        let divergence = report["proof"]["mean_divergence"].as_f64().unwrap();
        assert!(divergence > before, "{kind}: {divergence} after {before}");
        before = divergence;
        let shown = json(run(scene.hearth(&["show", &target, "--json"])));
        assert_eq!(shown["formats"], report["formats"]);
        assert_eq!(shown["architecture"], "qwen2");
        assert!(shown["chat_template"].as_str().unwrap().contains("im_start"));
    }
    assert_eq!(names(&scene), ["q4_0.gguf", "q4_k_m.gguf", "q6_k.gguf", "q8_0.gguf"]);
}

#[test]
fn what_cannot_be_written_is_said_and_leaves_nothing() {
    let scene = Scene::new("convert-bad");
    fs_err::create_dir(scene.path("out")).unwrap();
    let (model, docs) = (scene.text("model"), scene.text("docs"));
    let (file, folder) = (scene.text("out/m.gguf"), scene.text("out/m"));
    scene.write("broken.gguf", "GGUF\u{3}");
    let broken = scene.text("broken.gguf");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["quantize", &model, &folder, "--type", "q4_0"], 1, "doesn't end in `.gguf`"),
        (&["quantize", &model, &file, "--type", "q3"], 2, "q4_k_m"),
        (&["quantize", &model, &file, "--type", "q4_0", "--imatrix", &broken], 1, "broken.gguf"),
        (&["convert", &model, &folder], 1, "name a target that ends in `.gguf`"),
        (&["convert", &broken, &folder], 1, "cut short"),
        (&["convert", &docs, &file], 1, "config.json"),
        (&["show", &broken], 1, "cut short"),
    ];
    for (args, code, expected) in cases {
        let outcome = run(scene.hearth(args)).expect(*code);
        assert!(outcome.stderr.contains(expected), "{args:?}: {}", outcome.stderr);
    }
    assert!(names(&scene).is_empty(), "{:?}", names(&scene));
}

#[test]
fn text_becomes_ids_and_ids_text_and_the_speed_is_told() {
    let scene = Scene::new("tokenizer");
    scene.write("text.txt", "the kiln and in the other, é中\n");
    let (model, text) = (scene.text("model"), scene.text("text.txt"));
    let encoded =
        run(scene.hearth(&["tokenizer", "encode", "--tokenizer", &model, "--file", &text, "--json"]));
    scene.write("ids.json", &encoded.expect(0).stdout);
    let ids = scene.text("ids.json");
    let decoded =
        json(run(scene.hearth(&["tokenizer", "decode", "--tokenizer", &model, "--file", &ids, "--json"])));
    assert_eq!(decoded["text"], "the kiln and in the other, é中\n");
    let speed =
        json(run(scene.hearth(&["bench", "tokenizer", "--tokenizer", &model, "--text", &text, "--json"])));
    assert_eq!(speed["what"], "tokenizer");
    let count = fs_err::read_to_string(&ids).unwrap().matches(',').count() + 1;
    assert_eq!(speed["tokens"].as_u64().unwrap() as usize, count);
    assert!(speed["mb_per_s"].as_f64().unwrap() > 0.0 && speed["mb_per_s_cold"].as_f64().unwrap() > 0.0);
    let cases: &[(&[&str], &str)] = &[
        (&["tokenizer", "decode", "--tokenizer", &model, "999999"], "id 999999 isn't in the vocabulary"),
        (&["tokenizer", "decode", "--tokenizer", &model, "--file", &text], "`the` isn't an id"),
        (&["bench", "tokenizer", "--tokenizer", &model, "--text", "/nowhere/text"], "/nowhere/text"),
    ];
    for (args, expected) in cases {
        let outcome = run(scene.hearth(args)).expect(1);
        assert!(outcome.stderr.contains(expected), "{args:?}: {}", outcome.stderr);
    }
}
