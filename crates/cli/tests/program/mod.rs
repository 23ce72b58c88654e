//! Runs the real binary in a home of its own, over documents and models that the test makes.
//!
//! Nothing here reaches the network: models are named by their paths, and pulling is switched off.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hearth_testkit::{Scratch, TINY, TinyModel, tiny_embedder};

/// No line of these runs takes longer to come, even on a busy machine; a program that hangs fails the test.
const PATIENCE: Duration = Duration::from_mins(3);

/// Three documents of plain facts, one of each kind of text.
const DOCUMENTS: [(&str, &str); 3] = [
    (
        "kiln.md",
        "# The kiln\n\nThe firing temperature is 1240 degrees. The cooling time is 14 hours.\n\n\
         ## Care\n\nMaker: Arden Vale Ltd\nShelves: 9\nDoor weight: 38 kg\n\n\
         The thermocouple is type S. Call Brook Lane Service after 300 firings. The floor load is 410 kg.\n",
    ),
    (
        "pump.txt",
        "The normal pressure is 4.5 bar. The oil volume is 2 litres.\n\n\
         The warranty is 37 months. Drain the tank after 90 days. The hose length is 12 metres.\n\n\
         Voltage: 230 V\nSerial number: KP-7710\nColour: dark green\n",
    ),
    (
        "lamp.html",
        "<html><head><title>The lamp</title></head><body><h1>The lamp</h1>\
         <p>The bulb power is 60 watts. The cable length is 3 metres. The stand is made of ash.</p>\
         <table><tr><th>Part</th><th>Price</th></tr><tr><td>Shade</td><td>25 EUR</td></tr>\
         <tr><td>Switch</td><td>7 EUR</td></tr></table></body></html>",
    ),
];

/// A folder with `docs/`, a chat model, an embedder, and room for homes.
pub(crate) struct Scene {
    folder: Scratch,
}

impl Scene {
    /// With a model that is done in a second.
    pub(crate) fn new(name: &str) -> Self {
        Self::with_model(name, TINY)
    }

    /// With a model that takes some seconds, so that something can happen meanwhile.
    pub(crate) fn slow(name: &str) -> Self {
        let (hidden_size, intermediate_size) = (256, 512);
        Self::with_model(
            name,
            TinyModel { hidden_size, intermediate_size, num_layers: 4, num_heads: 8, ..TINY },
        )
    }

    fn with_model(name: &str, model: TinyModel) -> Self {
        let scene = Self { folder: Scratch::new(name).unwrap() };
        model.write(&scene.path("model")).unwrap();
        tiny_embedder(&scene.path("embedder.bin")).unwrap();
        scene.write_documents("docs");
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.path("home")
    }

    pub(crate) fn write_documents(&self, folder: &str) {
        for (name, content) in DOCUMENTS {
            self.write(&format!("{folder}/{name}"), content);
        }
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, content).unwrap();
    }

    /// `hearth` with these arguments in this scene's home, without network.
    pub(crate) fn hearth(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
        command.args(args).env("HEARTH_HOME", self.home()).env("HEARTH_OFFLINE", "1").stdin(Stdio::null());
        command.env_remove("HF_ENDPOINT").env_remove("PIP_INDEX_URL");
        command
    }

    /// `hearth up` on a folder of the scene with its models.
    pub(crate) fn up(&self, folder: &str, more: &[&str]) -> Command {
        let mut command = self.hearth(&["up", &self.text(folder)]);
        command.args(["--model", &self.text("model"), "--embedder", &self.text("embedder.bin")]).args(more);
        command
    }

    /// The only run folder of `hearth up FOLDER`.
    pub(crate) fn run_folder(&self, folder: &str) -> PathBuf {
        self.find_run_folder(folder).unwrap_or_else(|| panic!("no run of {folder}"))
    }

    pub(crate) fn find_run_folder(&self, folder: &str) -> Option<PathBuf> {
        let runs = std::fs::read_dir(self.home().join("runs")).ok()?;
        let mut found: Vec<PathBuf> = runs.map(|entry| entry.unwrap().path()).collect();
        found.retain(|path| path.to_str().unwrap().contains(&format!("/up-{folder}-")));
        assert!(found.len() <= 1, "several runs: {found:?}");
        found.pop()
    }
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Fails with everything the program said.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.stdout.lines().count(), 1, "one line of JSON: {}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

pub(crate) fn run(mut command: Command) -> Outcome {
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A program under way; it is killed if the test fails.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: String,
}

pub(crate) fn start(mut command: Command) -> Running {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (sender, lines) = channel();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || {
        for line in stderr.lines() {
            if sender.send(line.unwrap()).is_err() {
                break;
            }
        }
    });
    Running { child, lines, seen: String::new() }
}

impl Running {
    /// Waits for a line of standard error that contains `part`.
    #[track_caller]
    pub(crate) fn wait_for_line(&mut self, part: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(error) => panic!("no line with `{part}` ({error}):\n{}", self.seen),
            }
        }
    }

    /// Waits until a file is there; the program must still run then.
    #[track_caller]
    pub(crate) fn wait_for_file(&mut self, path: impl Fn() -> Option<PathBuf>) {
        let rounds = PATIENCE.as_millis() / 2;
        for _ in 0..rounds {
            if path().is_some_and(|path| path.is_file()) {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "ended before the file was there");
            std::thread::park_timeout(Duration::from_millis(2));
        }
        panic!("the file never came");
    }

    /// `kill -9`: the program gets no chance to clean up.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), None, "ended by itself before it was killed");
    }

    /// Ctrl-C.
    #[cfg(unix)]
    pub(crate) fn interrupt(&self) {
        self.signal("-INT");
    }

    /// What a system's service manager sends.
    #[cfg(unix)]
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    #[cfg(unix)]
    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    pub(crate) fn wait(mut self) -> Outcome {
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        let code = self.child.wait().unwrap().code();
        let rest: Vec<String> = self.lines.iter().collect();
        Outcome { code, stdout, stderr: format!("{}{}", self.seen, rest.join("\n")) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every file below a folder, with its content.
pub(crate) fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), fs_err::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}
