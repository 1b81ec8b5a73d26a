//! Runs tests/exceptions.cpp: a C++ exception that leaves a callback ends the process, with a message.

mod util;

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use util::{crate_dir, header, library_dir, run, scratch, tool};

/// By which the library calls the program.
const BORDERS: [&str; 11] = [
    "hook",
    "on_data",
    "on_event",
    "timer",
    "watch",
    "dispatch",
    "slow handler",
    "log",
    "resolver",
    "start of a worker",
    "end of a worker",
];

fn every_border_ends_the_process(compiler: &str) {
    let Some(compiler) = tool(compiler) else {
        return;
    };
    let program = scratch("exceptions").join(compiler.file_name().unwrap());
    let library = library_dir();
    let mut cc = Command::new(&compiler);
    cc.args(["-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
        .arg("-I")
        .arg(header().parent().unwrap())
        .arg(crate_dir().join("tests/exceptions.cpp"))
        .arg("-o")
        .arg(&program)
        .arg(library.join("libecholoop.so"))
        .arg(format!("-Wl,-rpath,{}", library.display()));
    run(cc);
    for border in BORDERS {
        let outcome = Command::new("timeout")
            .args(["--foreground", "--kill-after=5", "30"])
            .arg(&program)
            .arg(border)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&outcome.stderr);
        // timeout(1) ends by the signal that its command ended by, or as a shell would tell.
        let aborted =
            outcome.status.signal() == Some(libc::SIGABRT) || outcome.status.code() == Some(134);
        assert!(aborted, "{border}: {}, {told}", outcome.status);
        assert!(
            told.contains("Rust cannot catch foreign exceptions, aborting"),
            "{border}: {told}"
        );
    }
}

#[test]
fn an_exception_of_gcc_that_leaves_a_callback_ends_the_process_with_a_message() {
    every_border_ends_the_process("g++");
}

#[test]
fn an_exception_of_clang_that_leaves_a_callback_ends_the_process_with_a_message() {
    every_border_ends_the_process("clang++");
}
