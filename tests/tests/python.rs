//! Runs the Python package's own tests in a clean virtual environment where `pip install ./python` was run.
//!
//! They say what they test; this file only makes `cargo test` cover them, and prints their closing lines.

use std::io::{self, Write};
use std::process::Command;
use std::time::Duration;

use echoloop_tests::{Process, artifacts};

const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn the_python_package_passes_its_own_tests() {
    let mut python = Command::new(artifacts::python());
    python
        .args(["-m", "unittest", "discover", "--start-directory"])
        .arg(artifacts::root().join("python/tests"))
        // Not from the sources: what was installed is what is tested.
        .current_dir(artifacts::scratch());
    let mut tests = Process::spawn(python);
    let status = tests.wait(LIMIT);
    let said = tests.stderr();
    assert!(status.success(), "python's tests ended with {status}");

    let ran = said.iter().rfind(|line| line.starts_with("Ran "));
    let ran = ran.expect("unittest says how many tests it ran");
    assert!(!ran.starts_with("Ran 0 "), "no test was found");
    let verdict = said.last().map_or("", String::as_str);
    // Not println!: the test harness would swallow what a passing test prints by it.
    let _ = writeln!(io::stderr(), "python: {ran}: {verdict}");
}
