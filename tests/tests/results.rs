//! Commands whose output is their result, where the disk is full or the reader has had enough.

use std::fs::File;
use std::io;
use std::process::{Command, Stdio};

use echoloop_tests::Process;
use echoloop_tests::commands::{address_of, echoloop, start};
use echoloop_tests::patience::PATIENCE;

#[test]
fn results_that_the_disk_has_no_room_for_are_a_failure() {
    each_result(|mut command| {
        let full = File::create("/dev/full").expect("it can be opened");
        command.stdout(full).stderr(Stdio::piped());
        let mut process = Process::spawn_as_is(command);
        assert_eq!(process.wait(PATIENCE).code(), Some(1));
        process.says("ENOSPC", PATIENCE);
    });
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    each_result(|mut command| {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        command.stdout(writer).stderr(Stdio::piped());
        let mut process = Process::spawn_as_is(command);
        assert!(process.wait(PATIENCE).success(), "{:?}", process.stderr());
        assert_eq!(process.stderr(), [""; 0]);
    });
}

/// Every command whose output is its result.
fn each_result(run: impl Fn(Command)) {
    let server = start(&["serve", "--tcp", "127.0.0.1:0"]);
    let address = address_of(&server).to_string();
    let bench = ["bench", &address, "--messages", "10"];
    for arguments in [
        &bench[..],
        &[&bench[..], &["--json"]].concat(),
        &["man"],
        &["completions", "bash"],
    ] {
        run(echoloop(arguments));
    }
}
