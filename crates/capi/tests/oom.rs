//! Runs tests/oom.c, which lets each allocation of a whole workload fail in turn, once, until the
//! call returns, and for many calls.
//!
//! Here it tries the first hundred of each and some of the rest; all of them with
//! `ECHOLOOP_OOM=all cargo test -p echoloop-capi --test oom -- --nocapture`, which shows the table.

mod util;

use std::process::Command;

use util::{compile_c, crate_dir, run_within};

#[test]
fn no_allocation_that_fails_ends_the_process_or_loses_a_byte_in_silence() {
    let program = compile_c(&crate_dir().join("tests/oom.c"), &["-D_GNU_SOURCE"]);
    let which = match std::env::var("ECHOLOOP_OOM") {
        Ok(all) => all,
        Err(_) => "5".to_owned(),
    };
    let mut command = Command::new(program);
    command.arg(which);
    println!("{}", run_within(600, command));
}
