//! The options of `echoloop serve`: where it listens, whom it refuses, how it drains, what it tells a script.
//!
//! What a person reads is in `cli`; that the limits themselves are right is tested where they are, in the server crate.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use echoloop_tests::commands::{address_of, objects, start, text};
use echoloop_tests::patience::{PATIENCE, keep_up, until};
use echoloop_tests::{Client, Face, Process, artifacts};
use nix::sys::signal::Signal;
use serde_json::Value;

#[test]
fn tcp_udp_and_unix_sockets_echo_side_by_side() {
    let path = socket_file("all");
    let unix = path.to_str().expect("a path of plain letters");
    let mut server = serve(&[
        "--tcp",
        "127.0.0.1:0",
        "--listen",
        "[::1]:0",
        "--udp",
        "127.0.0.1:0",
        "--unix",
        unix,
        "--unix-mode",
        "600",
    ]);
    server.says("try:", PATIENCE);
    let said = server.stdout();
    let told: Vec<&str> = said
        .iter()
        .filter_map(|l| l.strip_prefix("listening on "))
        .collect();
    let [v4, v6, file, udp] = told[..] else {
        panic!("a line for each address: {said:?}");
    };
    Client::connect(v4.parse().expect("an address")).echo(b"hello");
    Client::connect(v6.parse().expect("an address")).echo(b"hello");
    assert_eq!(file, format!("unix:{unix}"));
    let mode = fs::metadata(&path)
        .expect("the socket has a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    echoes(UnixStream::connect(&path).expect("it listens"), |s| {
        s.shutdown(Shutdown::Write)
    });

    let udp: SocketAddr = udp
        .strip_prefix("udp ")
        .expect("says udp")
        .parse()
        .expect("an address");
    let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    client
        .set_read_timeout(Some(PATIENCE))
        .expect("SO_RCVTIMEO");
    client.send_to(b"a datagram", udp).expect("it is taken");
    let mut answer = [0; 64];
    let (n, from) = client.recv_from(&mut answer).expect("an answer");
    assert_eq!((&answer[..n], from), (&b"a datagram"[..], udp));

    server.signal(Signal::SIGTERM);
    assert!(server.wait(PATIENCE).success());
    assert!(
        server
            .stdout()
            .iter()
            .any(|l| l.starts_with("received 1 datagrams, sent 1"))
    );
    assert!(!path.exists(), "the file goes with its server");
}

#[test]
fn a_server_on_a_unix_socket_alone_says_what_to_try() {
    let path = socket_file("alone");
    let unix = path.to_str().expect("a path of plain letters");
    let server = serve(&["--unix", unix]);
    assert!(
        server
            .says("try:", PATIENCE)
            .ends_with(&format!("nc -N -U {unix}"))
    );
    assert!(
        !server.stdout().join("\n").contains("7007"),
        "no more than was asked for"
    );
    let server = serve(&["--unix", &format!("@echoloop-{}", std::process::id())]);
    assert!(
        server
            .says("listening on", PATIENCE)
            .contains("unix:@echoloop-")
    );
}

#[test]
fn a_script_gets_one_object_a_line_and_nothing_else() {
    let mut server = serve(&[
        "--json",
        "--tcp",
        "127.0.0.1:0",
        "--udp",
        "127.0.0.1:0",
        "--stats",
        "0.1",
    ]);
    server.says("\"stats\"", PATIENCE);
    let address = text(&objects(&server)[0], "address")
        .parse()
        .expect("an address");
    Client::connect(address).echo(b"hello");
    until("the figures tell of the client", PATIENCE, || {
        let told = objects(&server);
        told.iter()
            .any(|o| o["served"] == 1 && o["counters"]["bytes_sent"] == 5)
            .then_some(())
    });
    server.signal(Signal::SIGTERM);
    assert!(server.wait(PATIENCE).success());

    let told = objects(&server);
    let events: Vec<&str> = told.iter().map(|o| text(o, "event")).collect();
    assert_eq!(events[..2], ["listening", "listening"]);
    assert_eq!(
        [text(&told[0], "transport"), text(&told[1], "transport")],
        ["tcp", "udp"]
    );
    assert!(
        events[2..events.len() - 1].iter().all(|e| *e == "stats"),
        "{events:?}"
    );
    let last = told.last().expect("some were told");
    assert_eq!(text(last, "event"), "drained");
    assert_eq!(
        (&last["bytes_lost"], &last["served"], &last["most_open"]),
        (&0.into(), &1.into(), &1.into())
    );
    assert_eq!(last["counters"]["accepted"], 1);
}

#[test]
fn the_refused_are_counted_by_reason() {
    let mut server = serve(&[
        "--json",
        "--tcp",
        "127.0.0.1:0",
        "--max-connections",
        "3",
        "--max-per-peer",
        "2",
    ]);
    server.says("listening", PATIENCE);
    let address: SocketAddr = text(&objects(&server)[0], "address")
        .parse()
        .expect("an address");
    let welcome = [(); 2].map(|()| Client::connect(address));
    for client in &welcome {
        client.echo(b"hello");
    }
    was_refused(address);
    server.says("this address has its maximum", PATIENCE);
    drop(welcome);
    server.signal(Signal::SIGTERM);
    assert!(server.wait(PATIENCE).success());
    let last = objects(&server).pop().expect("the end is told");
    assert_eq!(last["refused"]["max_per_peer"], 1);
    assert_eq!(last["refused"]["max_connections"], 0);
    assert_eq!(last["served"], 2);
}

#[test]
fn who_comes_above_the_rate_is_refused() {
    // A token comes in 1,000 seconds: the burst is all there is.
    let server = serve(&["--tcp", "127.0.0.1:0", "--accept-rate", "1:2"]);
    let address = address_of(&server);
    let _welcome = [(); 2].map(|()| Client::connect(address));
    let refused = until("somebody is refused", PATIENCE, || {
        let _ = TcpStream::connect(address);
        server
            .stderr()
            .into_iter()
            .find(|line| line.contains("refused"))
    });
    assert!(refused.contains("too fast"), "{refused}");
}

#[test]
fn figures_that_nobody_reads_stop_nobody() {
    let mut command = Face::Rust.program();
    command.args([
        "serve",
        "--tcp",
        "127.0.0.1:0",
        "--json",
        "--stats",
        "0.001",
    ]);
    let (mut reader, writer) = io::pipe().expect("a pipe");
    command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped());
    let mut server = Process::spawn_as_is(command);
    let mut first = Vec::new();
    while first.last() != Some(&b'\n') {
        let mut byte = [0];
        reader.read_exact(&mut byte).expect("a first line");
        first.push(byte[0]);
    }
    let first: Value = serde_json::from_slice(&first).expect("an object");
    let client = Client::connect(text(&first, "address").parse().expect("an address"));
    // What a pipe holds is full after a hundred lines, and so is the room for more soon after.
    client.exchange(1000, 1024);
    let mut before = 0;
    until("the pipe is full", PATIENCE, || {
        client.echo(b"served");
        let waiting = rustix::io::ioctl_fionread(&reader).expect("it is a pipe");
        let full = waiting > 32 << 10 && waiting == before;
        before = waiting;
        full.then_some(())
    });
    // Long enough for the room behind the pipe to be full, too.
    keep_up(Duration::from_millis(5), Duration::from_millis(500), || {
        client.echo(b"served");
    });
    drop(reader);
    server.signal(Signal::SIGTERM);
    assert!(server.wait(PATIENCE).success());
}

#[test]
fn who_sends_above_the_rate_is_slowed_down_and_loses_nothing() {
    let server = serve(&["--tcp", "127.0.0.1:0", "--receive-rate", "1M:64k"]);
    let client = Client::connect(address_of(&server));
    let start = Instant::now();
    client.exchange(6, 576 << 10);
    let took = start.elapsed();
    assert!(
        took >= Duration::from_millis(490),
        "512 KiB after the burst in {took:?}"
    );
}

#[test]
fn who_is_silent_from_the_start_or_has_lived_its_time_is_closed() {
    for deadline in ["--first-byte-timeout", "--idle-timeout", "--lifetime"] {
        let server = serve(&["--tcp", "127.0.0.1:0", deadline, "0.3"]);
        let silent = Client::connect(address_of(&server));
        silent.expect_end();
    }
    let server = serve(&["--tcp", "127.0.0.1:0", "--first-byte-timeout", "0.3"]);
    let (busy, silent) = (
        Client::connect(address_of(&server)),
        Client::connect(address_of(&server)),
    );
    busy.echo(b"a first byte");
    silent.expect_end();
    busy.echo(b"still here");
}

#[test]
fn an_option_with_a_senseless_value_is_refused_with_an_example() {
    for (arguments, example) in [
        (["--accept-rate", "0"], "100:500"),
        (["--accept-rate", "5:"], "100:500"),
        (["--receive-rate", "1T"], "64k"),
        (["--workers", "0"], "1..=1024"),
        (["--unix-mode", "888"], "660"),
        (["--drain-deadline", "x"], "30"),
        (["--max-per-peer", "0"], "1.."),
    ] {
        let mut command = Face::Rust.program();
        command.arg("serve").args(arguments);
        let mut process = Process::run(command, PATIENCE);
        assert_eq!(process.wait(PATIENCE).code(), Some(2), "{arguments:?}");
        let said = process.stderr().join("\n");
        assert!(
            said.contains(arguments[0]) && said.contains(example),
            "{said}"
        );
    }
}

fn socket_file(name: &str) -> PathBuf {
    artifacts::scratch().join(format!("{name}-{}.sock", std::process::id()))
}

#[track_caller]
fn was_refused(address: SocketAddr) {
    let answer = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read(&mut [0])
    });
    match answer {
        Ok(n) => assert_eq!(n, 0, "not a byte for who was refused"),
        Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset),
    }
}

#[track_caller]
fn echoes<S: Read + Write>(mut stream: S, finish: impl Fn(&S) -> io::Result<()>) {
    stream.write_all(b"hello").expect("it is taken");
    finish(&stream).expect("it is connected");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "hello");
}

fn serve(arguments: &[&str]) -> Process {
    start(&[&["serve"], arguments].concat())
}
