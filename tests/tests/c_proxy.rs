//! `examples-c/proxy.c` between real clients and real servers, plainly and under valgrind.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;

use echoloop_tests::commands::address_of;
use echoloop_tests::patience::PATIENCE;
use echoloop_tests::tools::tool;
use echoloop_tests::{Client, Face, Process, Rig, artifacts};
use nix::sys::signal::Signal;

/// The program between a free port and `to`.
fn proxy(mut command: Command, to: &str) -> Process {
    command.args(["127.0.0.1:0", to]);
    let proxy = Process::spawn(command);
    proxy.says("listening on ", PATIENCE);
    proxy
}

/// A client's bytes come back through the proxy and a server that is reached by name, and so does the
/// end; then the proxy ends well.
#[track_caller]
fn serves_a_client(command: Command, n: u64) {
    let server = Rig::new(Face::CHooks).start();
    let mut proxy = proxy(command, &format!("localhost:{}", server.address().port()));
    let client = Client::connect(address_of(&proxy));
    client.exchange(1, n);
    client.shutdown_write();
    client.expect_end();
    // One that is still there is drained.
    let mut other = TcpStream::connect(address_of(&proxy)).expect("it listens");
    other.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
    other.write_all(b"hello").expect("it is taken");
    let mut answer = [0; 5];
    other.read_exact(&mut answer).expect("an answer");
    proxy.signal(Signal::SIGTERM);
    assert_eq!(other.read(&mut answer).expect("no reset"), 0);
    drop(other);
    assert!(proxy.wait(PATIENCE).success());
    server.stop();
}

#[test]
fn a_client_behind_the_proxy_gets_its_echo_and_its_end() {
    serves_a_client(Command::new(artifacts::c_program("proxy")), 10 << 20);
}

#[test]
fn a_client_whose_server_is_not_there_is_reset() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = free.local_addr().expect("a bound socket").to_string();
    drop(free);
    let mut proxy = proxy(Command::new(artifacts::c_program("proxy")), &nobody);
    let mut client = TcpStream::connect(address_of(&proxy)).expect("it listens");
    client
        .set_read_timeout(Some(PATIENCE))
        .expect("SO_RCVTIMEO");
    // The reset may come before any of the three, and is told once.
    let written = client.write_all(b"anybody there?");
    let finished = written.and_then(|()| client.shutdown(Shutdown::Write));
    let end = finished.and_then(|()| client.read(&mut [0; 1]));
    let end = end.expect_err("no end in order").kind();
    let reset = [
        ErrorKind::ConnectionReset,
        ErrorKind::BrokenPipe,
        ErrorKind::NotConnected,
    ];
    assert!(reset.contains(&end), "{end:?}");
    proxy.says("Connection refused", PATIENCE);
    proxy.signal(Signal::SIGTERM);
    assert!(proxy.wait(PATIENCE).success());
}

#[test]
fn the_proxy_has_no_memory_error() {
    let Some(valgrind) = tool("valgrind") else {
        return;
    };
    let mut command = Command::new(valgrind);
    command
        // No look for leaks: getaddrinfo(3) keeps what a thread that lives at the end has read.
        .args(["--quiet", "--error-exitcode=99", "--leak-check=no"])
        .arg(artifacts::c_program("proxy"));
    serves_a_client(command, 1 << 20);
}
