//! The `openai` and `anthropic` Python packages against the server.
//!
//! `HEARTH_TEST_PYTHON` names a Python that has them. Without that a virtual environment is made once, below
//! `$HEARTH_HOME/cache` or cargo's target folder, with both from the package registry.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::serving::Serving;

const PACKAGES: &str = "openai==3.54.0 anthropic==2.12.0";

#[test]
fn the_openai_package_understands_every_answer_and_error() {
    check("openai_client.py");
}

#[test]
fn the_anthropic_package_understands_messages_events_tools_and_errors() {
    check("anthropic_client.py");
}

fn check(script: &str) {
    let python = std::env::var_os("HEARTH_TEST_PYTHON").map_or_else(environment, PathBuf::from);
    let serving = Serving::start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    // Proxies of the surrounding network have no part in a conversation over loopback.
    let output = Command::new(python)
        .arg(script)
        .arg(serving.running.url())
        .envs([("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ok");
}

/// Makes the environment unless it stands; two test runs at once wait for each other.
fn environment() -> PathBuf {
    let home = std::env::var_os("HEARTH_HOME").filter(|home| !home.is_empty());
    let cache = home
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), |home| Path::new(&home).join("cache"));
    fs_err::create_dir_all(&cache).unwrap();
    let lock = File::create(cache.join("test-venv.lock")).unwrap();
    lock.lock().unwrap();
    let folder = cache.join("test-venv");
    let python = folder.join("bin/python");
    let stamp = folder.join("installed");
    if fs_err::read_to_string(&stamp).is_ok_and(|installed| installed == PACKAGES) {
        return python;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(&python).args(pip).args(PACKAGES.split(' ')));
    fs_err::write(stamp, PACKAGES).unwrap();
    python
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
