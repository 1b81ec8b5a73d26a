//! The words of the tests of `echoloop bench`: runs of it, what they print, and servers to be driven.
//!
//! The servers are threads: they may misbehave, and may be of kinds that `serve` is not. Those of a connection end
//! with it, the accepting ones with the test process.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::thread;

use serde_json::Value;

use crate::patience::PATIENCE;
use crate::{Face, Process, Rig, Server};

/// The exit code of success.
pub const DONE: i32 = 0;
/// It could not start, the peer is gone, or the system refused.
pub const FAILED: i32 = 1;
/// The command was not understood.
pub const NOT_UNDERSTOOD: i32 = 2;
/// Bytes came back wrong, or were lost.
pub const WRONG_BYTES: i32 = 3;

/// `echoloop serve` on a free port.
#[track_caller]
pub fn serve() -> Server {
    Rig::new(Face::Rust).start()
}

/// The command, not yet run.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Face::Rust.program();
    command.arg("bench").args(arguments);
    command
}

/// Starts it.
#[track_caller]
pub fn start(arguments: &[&str]) -> Process {
    Process::spawn(command(arguments))
}

/// Runs to the end; a machine that does much else may need a while.
#[track_caller]
pub fn bench(arguments: &[&str]) -> Process {
    let mut process = start(arguments);
    process.wait(2 * PATIENCE);
    process
}

/// Runs with `--json` to success; the object it printed.
#[track_caller]
pub fn json(arguments: &[&str]) -> Value {
    let (code, told) = object(&[arguments, &["--json"]].concat());
    assert_eq!(code, DONE, "{arguments:?}: {told}");
    assert_eq!(told["error"], Value::Null);
    told
}

/// Runs to the end; its exit code and the object it printed.
#[track_caller]
pub fn object(arguments: &[&str]) -> (i32, Value) {
    object_of(start(arguments))
}

/// Waits for the end; its exit code and the object it printed.
#[track_caller]
pub fn object_of(mut process: Process) -> (i32, Value) {
    let status = process.wait(2 * PATIENCE);
    let said = process.stdout();
    let [line] = &said[..] else {
        panic!(
            "one line on standard output: {said:?}, {:?}",
            process.stderr()
        );
    };
    let told = serde_json::from_str(line).expect("JSON");
    (status.code().expect("it was not killed"), told)
}

/// Runs to a failure; the one line that says why.
#[track_caller]
pub fn fails(arguments: &[&str], code: i32) -> String {
    let mut process = bench(arguments);
    let said = process.stderr();
    assert_eq!(
        process.wait(PATIENCE).code(),
        Some(code),
        "{arguments:?}: {said:?}"
    );
    assert_eq!(said.len(), 1, "one line: {said:?}");
    said[0].clone()
}

/// The rows of the histogram hold every message once and touch; the quantiles rise and lie within.
#[track_caller]
pub fn adds_up(told: &Value) {
    let rows = told["histogram"].as_array().expect("an array");
    let number = |value: &Value| {
        value
            .as_u64()
            .unwrap_or_else(|| panic!("{value} in {told}"))
    };
    let counted: u64 = rows.iter().map(|row| number(&row["count"])).sum();
    assert_eq!(counted, number(&told["messages"]), "{told}");
    for pair in rows.windows(2) {
        assert_eq!(pair[0]["to_ns"], pair[1]["from_ns"], "{told}");
    }
    let latency = &told["latency_ns"];
    let quantiles = ["p50", "p90", "p99", "p99.9", "max"].map(|name| number(&latency[name]));
    assert!(quantiles.is_sorted(), "{told}");
    if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
        assert!(quantiles[0] >= number(&first["from_ns"]), "{told}");
        assert!(quantiles[4] < number(&last["to_ns"]), "{told}");
    }
}

/// A TCP echo server with a thread for each connection, which changes what it returns.
pub fn tcp_server(meddle: fn(&mut [u8], u64)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || echo(stream, meddle));
        }
    });
    address
}

/// Returns what comes, changed by `meddle`, which is told how many bytes came before.
pub fn echo(mut stream: impl Read + Write, meddle: fn(&mut [u8], u64)) {
    let mut buffer = vec![0; 64 * 1024];
    let mut before = 0;
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        meddle(&mut buffer[..n], before);
        before += n as u64;
        if stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

/// A UDP echo server that may change the datagram of a number, or swallow it by `false`.
pub fn udp_server(meddle: fn(&mut [u8], u64) -> bool) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("a bound socket");
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        for number in 0.. {
            match socket.recv_from(&mut buffer) {
                Ok((n, from)) if meddle(&mut buffer[..n], number) => {
                    // A client that has ended is none of our business.
                    let _ = socket.send_to(&buffer[..n], from);
                }
                Err(e) if e.kind() != ErrorKind::ConnectionRefused => return,
                _ => {}
            }
        }
    });
    address
}
