//! Runs tests/descriptors.c: watches, selectors and a nested loop from C, plainly and under valgrind.

mod util;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use util::{compile_c, crate_dir, run_within};

/// The program, compiled once: a second compiler would write the file that the first test runs.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = crate_dir().join("tests/descriptors.c");
        compile_c(&source, &["-D_POSIX_C_SOURCE=200809L"])
    })
}

#[test]
fn descriptors_of_a_c_program_are_watched() {
    run_within(60, Command::new(program()));
}

#[test]
fn valgrind_has_nothing_to_report_on_watches_and_selectors() {
    let program = program();
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("valgrind is not there: skipped");
        return;
    }
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--quiet", "--error-exitcode=99", "--leak-check=full"])
        .args([
            "--show-leak-kinds=definite,possible",
            "--errors-for-leak-kinds=definite,possible",
        ])
        .arg(program);
    run_within(300, valgrind);
}
