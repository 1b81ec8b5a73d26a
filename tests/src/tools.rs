//! Tools that a machine may lack: nc, valgrind, a second compiler.
//!
//! A test that needs one says so and passes; with `ECHOLOOP_REQUIRE_TOOLS=1`, as in CI, it fails instead, so that a
//! missing tool can't hide a missing test.

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;

/// The path of a tool, or `None` after a line on stderr that says the test is skipped.
///
/// # Panics
/// When the tool is absent and `ECHOLOOP_REQUIRE_TOOLS=1`.
#[track_caller]
pub fn tool(name: &str) -> Option<PathBuf> {
    let found = env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// Says on stderr why a test did not run.
///
/// # Panics
/// When `ECHOLOOP_REQUIRE_TOOLS=1`.
#[track_caller]
pub fn skip(why: &str) {
    let required = env::var_os("ECHOLOOP_REQUIRE_TOOLS").is_some_and(|v| v == "1");
    assert!(!required, "{why}, and ECHOLOOP_REQUIRE_TOOLS=1 asks for it");
    // Not eprintln!: the test harness would swallow what a passing test prints by it.
    let _ = writeln!(io::stderr(), "skipped: {why}");
}
