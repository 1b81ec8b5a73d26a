//! What the tests of this crate share: where things are, C programs, deadlines.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test program uses its own part of this"
)]

pub mod faces;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of this crate.
pub fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The committed header.
pub fn header() -> PathBuf {
    crate_dir().join("../../include/echoloop.h")
}

/// A folder for what one test makes.
pub fn scratch(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The folder with the libecholoop.so of this build: that of this test program's `deps`.
pub fn library_dir() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let deps = exe.parent().unwrap();
    if deps.join("libecholoop.so").exists() {
        deps.to_path_buf()
    } else {
        deps.parent().unwrap().to_path_buf()
    }
}

/// The path of a tool, or `None` after a line on stderr that says the test is skipped; with
/// `ECHOLOOP_REQUIRE_TOOLS=1`, as in CI, a missing tool is a failure.
#[track_caller]
pub fn tool(name: &str) -> Option<PathBuf> {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// Says on stderr why a test did not run, or fails with `ECHOLOOP_REQUIRE_TOOLS=1`.
#[track_caller]
pub fn skip(why: &str) {
    let required = std::env::var_os("ECHOLOOP_REQUIRE_TOOLS").is_some_and(|v| v == "1");
    assert!(!required, "{why}");
    // Not eprintln!: the test harness would swallow what a passing test prints by it.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Compiles a C program against this build of the library, with warnings as errors.
pub fn compile_c(source: &Path, flags: &[&str]) -> PathBuf {
    let program = scratch("bin").join(source.file_stem().unwrap());
    let library = library_dir();
    let mut cc = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    cc.args([
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Werror",
        "-g",
        "-O1",
        "-pthread",
    ])
    .args(flags)
    .arg("-I")
    .arg(header().parent().unwrap())
    .arg(source)
    .arg("-o")
    .arg(&program)
    .arg(library.join("libecholoop.so"))
    .arg(format!("-Wl,-rpath,{}", library.display()));
    run(cc);
    program
}

/// Runs a program to its good end and returns what it printed.
pub fn run(mut command: Command) -> String {
    let outcome = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (out, err) = (
        String::from_utf8_lossy(&outcome.stdout),
        String::from_utf8_lossy(&outcome.stderr),
    );
    assert!(
        outcome.status.success(),
        "{command:?}: {}\n{out}\n{err}",
        outcome.status
    );
    out.into_owned()
}

/// [`run`] with a deadline in seconds.
pub fn run_within(seconds: u32, command: Command) -> String {
    let mut limited = Command::new("timeout");
    limited
        .args(["--kill-after=5", &seconds.to_string()])
        .arg(command.get_program())
        .args(command.get_args());
    run(limited)
}
