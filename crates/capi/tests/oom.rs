//! Runs tests/oom.c, which lets each allocation of a whole workload fail in turn, once, until the
//! call returns, and for many calls.
//!
//! Here it tries the first forty of each and some of the rest; all of them with
//! `ECHOLOOP_OOM=all cargo test -p echoloop-capi --test oom -- --nocapture`, which shows the table.

mod util;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use util::{compile_c, crate_dir, run_within};

/// The program, compiled once: a second compiler would write the file that the first test runs.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compile_c(&crate_dir().join("tests/oom.c"), &["-D_GNU_SOURCE"]))
}

#[test]
fn a_process_that_may_have_no_more_memory_serves_on_and_makes_nothing_new() {
    let mut command = Command::new(program());
    command.arg("real");
    println!("{}", run_within(100, command));
}

#[test]
fn no_allocation_that_fails_ends_the_process_or_loses_a_byte_in_silence() {
    let which = match std::env::var("ECHOLOOP_OOM") {
        Ok(all) => all,
        Err(_) => "9".to_owned(),
    };
    let mut command = Command::new(program());
    command.arg(which);
    println!("{}", run_within(600, command));
}
