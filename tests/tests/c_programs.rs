//! The C side as its users meet it: the examples by two compilers, the client, and all of it under valgrind.
//!
//! What the C servers do for their peers is in the scenarios; here the same scenarios run once more, small and watched.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use echoloop_tests::patience::PATIENCE;
use echoloop_tests::tools::tool;
use echoloop_tests::{Face, Pattern, Process, Rig, artifacts};

/// With optimisation: some warnings come of that. Every other dialect is in `crates/capi/tests/header`.
const STRICT: &str =
    "-O2 -std=c99 -Wall -Wextra -Wpedantic -Wstrict-prototypes -Wconversion -Werror";

/// Under valgrind, and for 70 MB, things take their time.
const LONG: Duration = Duration::from_secs(120);

#[test]
fn the_examples_compile_as_c99_without_a_warning_by_gcc() {
    examples_compile("gcc");
}

#[test]
fn the_examples_compile_as_c99_without_a_warning_by_clang() {
    examples_compile("clang");
}

#[test]
fn the_client_moves_seventy_megabytes_from_stdin_to_stdout_byte_for_byte() {
    let _alone = artifacts::lock("heavy");
    let server = Rig::new(Face::CHooks).start();
    client_copies(
        Command::new(artifacts::c_program("echo_client")),
        server.address(),
        70_000_000,
    );
    server.stop();
}

#[test]
fn the_client_with_nothing_to_say_ends_well() {
    let server = Rig::new(Face::CBatch).start();
    client_copies(
        Command::new(artifacts::c_program("echo_client")),
        server.address(),
        0,
    );
    server.stop();
}

#[test]
fn the_client_says_that_nobody_listens_and_fails() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = free.local_addr().expect("a bound socket");
    drop(free);
    let mut command = Command::new(artifacts::c_program("echo_client"));
    command.arg(nobody.to_string());
    let mut client = Process::run(command, PATIENCE);
    let said = client.stderr().join("\n");
    assert_eq!(client.wait(PATIENCE).code(), Some(1), "{said}");
    assert!(
        said.contains("ECONNREFUSED") || said.contains("refused"),
        "{said:?}"
    );
}

#[test]
fn the_client_has_no_memory_error_and_no_leak() {
    let Some(valgrind) = tool("valgrind") else {
        return;
    };
    let server = Rig::new(Face::CHooks).start();
    let mut client = Command::new(valgrind);
    client
        .args(["--quiet", "--error-exitcode=99", "--leak-check=full"])
        .arg(artifacts::c_program("echo_client"));
    client_copies(client, server.address(), 1_000_000);
    server.stop();
}

/// Every scenario once more, small, on the C servers watched by valgrind.
mod valgrind {
    use echoloop_tests::{Face, Rig};

    echoloop_tests::conformance_tests! {
        c_hooks => Rig::under_valgrind(Face::CHooks);
        c_batch => Rig::under_valgrind(Face::CBatch);
    }
}

/// Builds the examples by their own Makefile, with another compiler and every warning an error.
#[track_caller]
fn examples_compile(compiler: &str) {
    let Some(path) = tool(compiler) else { return };
    let folder = artifacts::scratch().join(format!("examples-{compiler}"));
    let mut make = Command::new("make");
    make.arg("--always-make")
        .arg("-C")
        .arg(artifacts::root().join("examples-c"))
        .arg(format!("CC={}", path.display()))
        .arg(format!("CFLAGS={STRICT}"))
        .arg(format!("BUILD={}", folder.display()))
        .arg(format!("LIBDIR={}", artifacts::release().display()));
    let mut process = Process::spawn(make);
    let status = process.wait(LONG);
    assert!(status.success(), "make ended with {status}");
    for program in ["echo_hooks", "echo_batch", "echo_client", "proxy"] {
        assert!(folder.join(program).is_file(), "{program} was built");
    }
}

/// Runs the client program with `n` bytes on a pipe as its input and checks what it prints.
#[track_caller]
fn client_copies(mut client: Command, server: SocketAddr, n: usize) {
    let name = format!("client-{}", server.port());
    let input = artifacts::scratch().join(&name);
    let output = artifacts::scratch().join(name + ".out");
    fs::write(&input, Pattern::new(n as u64).take(n)).expect("the target folder can be written");

    let mut cat = Command::new("cat");
    cat.arg(&input).stdout(Stdio::piped());
    // When the client ends early, cat ends by SIGPIPE.
    let mut cat = cat.spawn().expect("cat is everywhere");
    client
        .arg(server.to_string())
        .stdin(cat.stdout.take().expect("piped above"))
        .stdout(File::create(&output).expect("the target folder can be written"))
        .stderr(Stdio::piped());
    let mut client = Process::spawn_as_is(client);
    let status = client.wait(LONG);
    assert!(
        status.success(),
        "the client ended with {status}: {:?}",
        client.stderr()
    );
    cat.wait().expect("a child can be waited for");

    let printed = fs::read(&output).expect("written by the client");
    Pattern::new(n as u64).check(&printed);
    assert_eq!(printed.len(), n);
    for file in [input, output] {
        fs::remove_file(file).expect("made above");
    }
}
