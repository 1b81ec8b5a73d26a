//! What signals do to `echoloop serve`: drain, end at once, tell what is open; on one loop and on several.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use echoloop_tests::commands::{address_of, objects, start, text};
use echoloop_tests::patience::{PATIENCE, until};
use echoloop_tests::{Client, Pattern, Process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

#[test]
fn workers_share_the_clients_and_one_signal_drains_them_all() {
    for spread in ["fewest", "reuse-port"] {
        let mut server = serve(&[
            "--json",
            "--tcp",
            "127.0.0.1:0",
            "--udp",
            "127.0.0.1:0",
            "--workers",
            "2",
            "--spread",
            spread,
            "--stats",
            "0.1",
        ]);
        server.says("\"udp\"", PATIENCE);
        let told = objects(&server);
        assert_eq!(
            told.len(),
            2,
            "one line for each address, not for each worker"
        );
        let address = text(&told[0], "address").parse().expect("an address");
        let clients = [(); 40].map(|()| Client::connect(address));
        for client in &clients {
            client.echo(b"hello");
        }
        let open = until("the figures tell of all", PATIENCE, || {
            let told = objects(&server);
            let open = told.last()?["open_by_worker"].as_array()?.clone();
            let open: Vec<u64> = open.iter().filter_map(Value::as_u64).collect();
            (open.iter().sum::<u64>() == 40).then_some(open)
        });
        if spread == "fewest" {
            assert_eq!(open, [20, 20]);
        }
        server.signal(Signal::SIGUSR1);
        for worker in ["worker 0:", "worker 1:"] {
            server.says(worker, PATIENCE);
        }
        server.signal(Signal::SIGTERM);
        for client in &clients {
            client.expect_end();
        }
        assert!(server.wait(PATIENCE).success());
        let last = objects(&server).pop().expect("the end is told");
        assert_eq!(
            (&last["closed_clean"], &last["served"]),
            (&40.into(), &40.into())
        );
        assert_eq!(last["counters"]["bytes_sent"], 200);
    }
}

#[test]
fn workers_are_replaced_by_workers() {
    for spread in ["fewest", "reuse-port"] {
        let mut server = serve(&[
            "--tcp",
            "127.0.0.1:0",
            "--udp",
            "127.0.0.1:0",
            "--workers",
            "2",
            "--spread",
            spread,
        ]);
        let address = address_of(&server);
        let clients = [(); 10].map(|()| Client::connect(address));
        server.signal(Signal::SIGUSR2);
        let said = server.says("serves now", PATIENCE);
        let new = Successor::of(&said);
        for client in &clients {
            client.echo(b"served on by the old one");
        }
        let late = [(); 10].map(|()| Client::connect(address));
        for client in &late {
            client.echo(b"served by the new one");
        }
        drop(clients);
        assert!(until("the first process ends", PATIENCE, || server.ended()).success());
        server.says(
            "drained: 10 closed clean, 0 aborted, 0 bytes lost",
            PATIENCE,
        );
        let lines = server.stdout();
        let listening = lines.iter().filter(|l| l.starts_with("listening"));
        assert_eq!(listening.count(), 4, "two lines of each process: {lines:?}");
        drop((late, new));
    }
}

/// timeout(1) signals its child, then the whole group; a terminal that is closed does likewise.
#[test]
fn signals_in_the_same_moment_are_one() {
    let pairs = [
        [Signal::SIGTERM, Signal::SIGHUP],
        [Signal::SIGINT, Signal::SIGINT],
    ];
    for pair in pairs.into_iter().cycle().take(10) {
        let mut server = serve(&["--tcp", "127.0.0.1:0"]);
        Client::connect(address_of(&server)).echo(b"hello");
        for signal in pair {
            server.signal(signal);
        }
        assert!(server.wait(PATIENCE).success(), "{:?}", server.stderr());
        server.says("served 1 connections", PATIENCE);
    }
}

#[test]
fn a_second_signal_ends_workers_at_once() {
    let mut server = serve(&["--tcp", "127.0.0.1:0", "--workers", "2"]);
    let hoarder = Client::connect(address_of(&server));
    hoarder.send_until_blocked(Pattern::new(4), 64 << 20);
    server.signal(Signal::SIGTERM);
    server.says("draining", PATIENCE);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(Duration::from_secs(2)).code(), Some(130));
}

#[test]
fn sigusr1_tells_all_that_is_open_and_the_server_goes_on() {
    let mut server = serve(&["--tcp", "127.0.0.1:0"]);
    let client = Client::connect(address_of(&server));
    client.echo(b"hello");
    for _ in 0..2 {
        server.signal(Signal::SIGUSR1);
        server.says(&client.local().to_string(), PATIENCE);
    }
    server.says("bytes_received: 5", PATIENCE);
    client.echo(b"still here");
    server.signal(Signal::SIGTERM);
    assert!(server.wait(PATIENCE).success());
    assert!(
        !server.stdout().join("\n").contains("ConnId"),
        "it goes to standard error"
    );
}

#[test]
fn a_drain_that_loses_bytes_ends_with_3_and_says_what_to_do() {
    let mut server = serve(&["--tcp", "127.0.0.1:0", "--drain-deadline", "0.2"]);
    let hoarder = Client::connect(address_of(&server));
    hoarder.send_until_blocked(Pattern::new(3), 64 << 20);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(PATIENCE).code(), Some(3));
    let said = server.stderr().pop().expect("a last word");
    assert!(
        said.contains("1 connections") && said.contains("--drain-deadline"),
        "{said}"
    );
    assert!(
        server
            .stdout()
            .iter()
            .any(|l| l.starts_with("drained: 0 closed clean, 1 aborted"))
    );
}

#[test]
fn in_the_grace_of_a_drain_clients_are_served_on() {
    let mut server = serve(&["--tcp", "127.0.0.1:0", "--drain-grace", "20"]);
    let address = address_of(&server);
    let client = Client::connect(address);
    client.echo(b"before");
    server.signal(Signal::SIGTERM);
    server.says("draining", PATIENCE);
    until("nobody new is let in", PATIENCE, || {
        let refused = TcpStream::connect(address).err()?;
        (refused.kind() == ErrorKind::ConnectionRefused).then_some(())
    });
    client.echo(b"after");
    client.shutdown_write();
    client.expect_end();
    assert!(
        server.wait(Duration::from_secs(10)).success(),
        "it ends with its last client"
    );
}

/// A process that is not our child, ended at the latest with the test.
struct Successor(Pid);

impl Successor {
    fn of(said: &str) -> Self {
        let number = said.split_whitespace().find_map(|w| w.parse().ok());
        Self(Pid::from_raw(number.expect("a process number")))
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // It may have ended with its test.
        let _ = kill(self.0, Signal::SIGTERM);
    }
}

fn serve(arguments: &[&str]) -> Process {
    start(&[&["serve"], arguments].concat())
}
