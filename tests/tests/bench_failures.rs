//! How `echoloop bench` fails: one line, the exit code of its kind, and never a hang.

use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use echoloop_tests::bench::{
    FAILED, NOT_UNDERSTOOD, WRONG_BYTES, adds_up, bench, echo, fails, json, object, object_of,
    serve, start, tcp_server,
};
use echoloop_tests::patience::{PATIENCE, until};
use echoloop_tests::{Face, Process};
use nix::sys::signal::Signal;

#[test]
fn a_planted_wrong_byte_is_found_and_its_place_told() {
    let liar = tcp_server(|bytes, before| {
        let planted = 12_345;
        if (before..before + bytes.len() as u64).contains(&planted) {
            bytes[(planted - before) as usize] ^= 1;
        }
    });
    let target = liar.to_string();
    let said = fails(
        &[&target, "--verify", "--connections=1", "--duration=30"],
        WRONG_BYTES,
    );
    assert!(said.contains("byte 12345 "), "{said}");
    // Who does not compare does not see it.
    json(&[&target, "--connections=1", "--messages=1000"]);
}

#[test]
fn a_server_that_nobody_runs_is_said_with_every_connection_counted() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let target = port.local_addr().expect("a bound socket").to_string();
    drop(port);
    for more in [&["--churn"][..], &["--keep-going"], &["--udp"], &[]] {
        let arguments = [&[target.as_str(), "--duration=1"], more].concat();
        let said = fails(&arguments, FAILED);
        assert!(said.contains("ECONNREFUSED"), "{more:?}: {said}");
        assert!(said.contains("is a server running"), "{more:?}: {said}");
        if !more.contains(&"--churn") {
            assert!(said.contains("100 of 100 "), "{more:?}: {said}");
        }
    }
    let said = fails(&["unix:/no/such/socket"], FAILED);
    assert!(said.contains("ENOENT"), "{said}");
    let said = fails(&["no-such-host.invalid:7"], FAILED);
    assert!(said.contains("no-such-host.invalid"), "{said}");
}

#[test]
fn a_server_that_dies_ends_the_run_with_what_was_done_until_then() {
    let mut server = serve();
    let target = server.address().to_string();
    let run = start(&[&target, "--duration=60", "--json"]);
    // It is killed in the middle of the run: when it has got something to do.
    let pid = server.process().pid();
    until("the server is busy", PATIENCE, || {
        let cpu = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
        let ns: u64 = cpu.split_whitespace().next()?.parse().ok()?;
        (ns > 50_000_000).then_some(())
    });
    server.process().signal(Signal::SIGKILL);
    let (code, told) = object_of(run);
    assert_eq!(code, FAILED, "{told}");
    assert_eq!(told["failed_connections"], 100, "{told}");
    assert!(told["messages"].as_u64() > Some(0), "{told}");
    let error = told["error"].as_str().expect("a text");
    assert!(error.contains("100 of 100 connections failed"), "{error}");
    adds_up(&told);
}

#[test]
fn a_server_that_never_answers_is_given_up_after_the_patience() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let tcp = listener.local_addr().expect("a bound socket").to_string();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let udp = socket.local_addr().expect("a bound socket").to_string();
    for arguments in [
        &[&tcp, "--patience=0.3"][..],
        &[&tcp, "--patience=0.3", "--churn"],
        &[&tcp, "--patience=0.3", "--keep-going"],
        &[&udp, "--patience=0.3", "--udp"],
        &[&udp, "--udp", "--messages=100"],
    ] {
        let begin = Instant::now();
        let said = fails(arguments, FAILED);
        assert!(begin.elapsed() < Duration::from_secs(8), "{arguments:?}");
        let silent = said.contains("no answer") || said.contains("lost");
        assert!(silent, "{arguments:?}: {said}");
    }
}

#[test]
fn one_connection_that_is_cut_ends_the_run_unless_it_is_to_keep_going() {
    // The third of its connections is cut at its first message.
    let cutter = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        thread::spawn(move || {
            for (i, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                thread::spawn(move || {
                    if i == 2 {
                        let mut stream = stream;
                        drop(stream.read(&mut [0; 64]));
                    } else {
                        echo(stream, |_, _| {});
                    }
                });
            }
        });
        address.to_string()
    };
    let arguments = ["--connections=5", "--messages=2000", "--json"];
    let (code, told) = object(&[&[cutter().as_str()], &arguments[..]].concat());
    assert_eq!(
        (code, &told["failed_connections"]),
        (FAILED, &1.into()),
        "{told}"
    );
    assert!(told["messages"].as_u64() < Some(1999), "{told}");
    assert_eq!(told["failures"][0]["name"], "CLOSED", "{told}");

    let (code, told) = object(&[&[cutter().as_str(), "--keep-going"], &arguments[..]].concat());
    assert_eq!(
        (code, &told["failed_connections"]),
        (FAILED, &1.into()),
        "{told}"
    );
    assert_eq!(
        (&told["messages"], &told["unanswered"]),
        (&1999.into(), &1.into()),
        "{told}"
    );
    adds_up(&told);
}

#[test]
fn what_contradicts_itself_is_not_understood() {
    for arguments in [
        &["nonsense"][..],
        &["127.0.0.1:7", "--connections=0"],
        &["127.0.0.1:7", "--churn", "--udp"],
        &["127.0.0.1:7", "--duration=1", "--messages=1"],
        &["127.0.0.1:7", "--udp", "--size=70000"],
        &["[::1]:7", "--sources=2"],
        &["unix:/x", "--udp"],
        &["127.0.0.1:7", "--connections=1000000", "--depth=65536"],
    ] {
        let mut process = bench(arguments);
        let status = process.wait(PATIENCE);
        assert_eq!(status.code(), Some(NOT_UNDERSTOOD), "{arguments:?}");
        assert_eq!(process.stdout(), [""; 0], "{arguments:?}");
    }
}

#[test]
fn the_exit_codes_are_in_the_help() {
    for arguments in [&["--help"][..], &["bench", "--help"], &["serve", "--help"]] {
        let mut command = Face::Rust.program();
        command.args(arguments);
        let said = Process::run(command, PATIENCE).stdout().join("\n");
        assert!(
            said.contains("Exit codes:") && said.contains("  3  "),
            "{said}"
        );
    }
}
