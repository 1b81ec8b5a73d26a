//! Runs tests/forks.c: a program of several threads that forks.

mod util;

use std::process::Command;

use util::{compile_c, crate_dir, run_within};

#[test]
fn a_child_finds_no_lock_that_another_thread_has_held() {
    let program = compile_c(&crate_dir().join("tests/forks.c"), &["-D_DEFAULT_SOURCE"]);
    run_within(120, Command::new(program));
}
