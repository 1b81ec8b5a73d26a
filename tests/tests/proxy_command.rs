//! `echoloop proxy` between real clients and real servers.
//!
//! How pairs are made and end is tested with the hooks, in the server crate; here is what an operator sees and sets.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;

use echoloop_tests::commands::{address_of, objects, start};
use echoloop_tests::patience::{PATIENCE, until};
use echoloop_tests::{Client, Face, Pattern, Process, Rig, artifacts, probe, tools};
use nix::sys::signal::Signal;

#[test]
fn a_client_behind_the_proxy_gets_its_echo_and_its_end() {
    let server = Rig::new(Face::Rust).start();
    let mut proxy = proxy(&["127.0.0.1:0", &server.address().to_string()]);
    let client = Client::connect(address_of(&proxy));
    client.exchange(1, 10 << 20);
    client.shutdown_write();
    client.expect_end();
    proxy.signal(Signal::SIGTERM);
    assert!(proxy.wait(PATIENCE).success());
    let said = proxy.stdout();
    assert!(
        said.iter().any(|l| l == "1 connected, 0 failed, 0 gave up"),
        "{said:?}"
    );
    assert!(
        said.iter()
            .any(|l| l.starts_with("served 1 clients, 0 refused")),
        "{said:?}"
    );
    server.stop();
}

#[test]
fn tcp_and_unix_sockets_and_names_go_together() {
    let back = socket_file("back");
    let server = start(&["serve", "--unix", &back]);
    server.says("listening on", PATIENCE);
    let front = socket_file("front");
    let to_unix = proxy(&["127.0.0.1:0", &format!("unix:{back}")]);
    let port = address_of(&to_unix).port();
    let mut from_unix = proxy(&[
        &format!("unix:{front}"),
        &format!("localhost:{port}"),
        "--unix-mode",
        "600",
    ]);
    from_unix.says("listening on unix:", PATIENCE);
    let mut client = UnixStream::connect(&front).expect("it listens");
    client
        .set_read_timeout(Some(PATIENCE))
        .expect("SO_RCVTIMEO");
    client
        .write_all(b"through four sockets")
        .expect("it is taken");
    client.shutdown(Shutdown::Write).expect("it is connected");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "through four sockets");
    if tools::tool("nc").is_some() {
        let mut nc = Command::new("sh");
        nc.args(["-c", &format!("printf hello | nc -N -U {front}")]);
        assert_eq!(Process::run(nc, PATIENCE).stdout(), ["hello"]);
    }
    from_unix.signal(Signal::SIGTERM);
    assert!(from_unix.wait(PATIENCE).success());
    assert!(
        fs::metadata(&front).is_err(),
        "the file goes with its proxy"
    );
    drop(server);
}

#[test]
fn who_cannot_be_connected_is_reset_told_and_counted() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let target = nobody.local_addr().expect("a bound socket");
    drop(nobody);
    let mut proxy = proxy(&["127.0.0.1:0", &target.to_string(), "--json"]);
    let listening = until("it listens", PATIENCE, || {
        objects(&proxy).into_iter().next()
    });
    let address: SocketAddr = listening["address"]
        .as_str()
        .expect("a text")
        .parse()
        .expect("an address");
    for _ in 0..50 {
        let end = TcpStream::connect(address).and_then(|mut client| {
            client.set_read_timeout(Some(PATIENCE))?;
            client.read(&mut [0])
        });
        assert_eq!(end.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
    }
    proxy.says("ECONNREFUSED", PATIENCE);
    proxy.signal(Signal::SIGTERM);
    assert!(proxy.wait(PATIENCE).success());
    assert!(
        proxy.stderr().len() < 20,
        "the log is bounded: {:?}",
        proxy.stderr()
    );
    let last = objects(&proxy).pop().expect("the end is told");
    assert_eq!(
        (&last["event"], &last["failed"], &last["connected"]),
        (&"drained".into(), &50.into(), &0.into())
    );
}

#[test]
fn a_client_that_does_not_read_stops_the_server_and_not_the_proxy() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let target = listener.local_addr().expect("a bound socket");
    let mut proxy = proxy(&["127.0.0.1:0", &target.to_string(), "--stats", "0.1"]);
    let address = address_of(&proxy);
    let client = Client::connect(address);
    let (mut server, _) = listener.accept().expect("the proxy connects");
    let before = probe::memory(proxy.pid());
    // Sends until nobody takes any more, then the client reads all of it.
    server.set_nonblocking(true).expect("fcntl");
    let (mut pattern, mut sent) = (Pattern::new(7), 0);
    let mut chunk = pattern.take(64 << 10);
    until("nobody takes any more", PATIENCE, || {
        let mut moved = false;
        while let Ok(n) = server.write(&chunk) {
            moved = true;
            sent += n as u64;
            chunk.drain(..n);
            if chunk.is_empty() {
                chunk = pattern.take(64 << 10);
            }
            assert!(sent < 64 << 20, "somebody stores without bound");
        }
        (!moved).then_some(())
    });
    let grown = probe::memory(proxy.pid()).saturating_sub(before);
    assert!(grown < 4 << 20, "the proxy holds {grown} bytes more");
    // Others are served meanwhile.
    let other = Client::connect(address);
    let (mut of_other, _) = listener.accept().expect("the proxy connects");
    other.send(b"hello");
    of_other.read_exact(&mut [0; 5]).expect("it comes through");
    proxy.says("2 open", PATIENCE);

    drop(server);
    assert_eq!(
        client.receive_pattern_to_the_end(&mut Pattern::new(7)),
        sent
    );
    client.shutdown_write();
    drop((other, of_other));
    proxy.signal(Signal::SIGTERM);
    assert!(proxy.wait(PATIENCE).success());
}

#[test]
fn workers_share_the_clients_and_count_them_together() {
    let server = Rig::new(Face::Rust).start();
    let target = server.address().to_string();
    let mut proxy = proxy(&[
        "127.0.0.1:0",
        &target,
        "--workers",
        "2",
        "--max-connections",
        "10",
    ]);
    let address = address_of(&proxy);
    let clients = [(); 10].map(|()| Client::connect(address));
    for client in &clients {
        client.echo(b"hello");
    }
    let refused = TcpStream::connect(address).and_then(|mut client| {
        client.set_read_timeout(Some(PATIENCE))?;
        client.read(&mut [0])
    });
    assert_eq!(
        refused.expect_err("a reset").kind(),
        ErrorKind::ConnectionReset
    );
    proxy.signal(Signal::SIGTERM);
    for client in &clients {
        client.expect_end();
    }
    assert!(proxy.wait(PATIENCE).success());
    let said = proxy.stdout();
    for line in [
        "10 connected, 0 failed, 0 gave up",
        "served 10 clients, 1 refused, 0 timed out, at most 10 at a time",
        "drained: 10 closed clean, 0 aborted, 0 bytes lost",
    ] {
        assert!(said.iter().any(|l| l == line), "{line:?} in {said:?}");
    }
    server.stop();
}

#[test]
fn what_is_no_address_ends_with_2_and_says_what_is() {
    for arguments in [
        ["localhost:7007", "127.0.0.1:1"],
        ["127.0.0.1:0", "nowhere"],
        ["unix:", "127.0.0.1:1"],
    ] {
        let mut command = Face::Rust.program();
        command.arg("proxy").args(arguments);
        let mut process = Process::run(command, PATIENCE);
        assert_eq!(process.wait(PATIENCE).code(), Some(2), "{arguments:?}");
        let said = process.stderr().join("\n");
        let wrong = arguments.iter().any(|a| said.contains(a));
        assert!(wrong && said.contains("--help"), "{said}");
    }
}

fn proxy(arguments: &[&str]) -> Process {
    start(&[&["proxy"], arguments].concat())
}

fn socket_file(name: &str) -> String {
    let file = format!("proxy-{name}-{}.sock", std::process::id());
    let path = artifacts::scratch().join(file);
    path.to_str().expect("a path of plain letters").to_owned()
}
