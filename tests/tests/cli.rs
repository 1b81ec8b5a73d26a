//! What `echoloop serve` says: its first screen, its figures, its log, its errors, its last words.
//!
//! What it does for its peers is in the scenarios. Numbers are compared, wording only where a person depends on it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use echoloop_tests::commands::start;
use echoloop_tests::patience::{PATIENCE, throughout, until};
use echoloop_tests::{Client, Face, Pattern, Process, Rig, Server, ServerBuilder, tools};
use nix::pty::openpty;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;

/// `nobody`, wherever there is one.
const UNPRIVILEGED: u32 = 65_534;

#[test]
fn the_first_screen_says_what_to_try_and_it_works() {
    let mut server = serve().start();
    let line = server.process().says("nc -N", PATIENCE);
    let (_, command) = line
        .split_once("try:")
        .expect("a line that begins with try:");
    let port = server.address().port().to_string();
    assert!(
        command.trim_end().ends_with(&port),
        "{command:?} names the port {port}"
    );
    if tools::tool("nc").is_some() {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]);
        assert_eq!(Process::run(shell, PATIENCE).stdout(), ["hello"]);
    }
    server.stop();
}

#[test]
fn a_standard_output_that_is_closed_or_full_is_no_concern_of_the_clients() {
    for output in ["/dev/full", "closed pipe"] {
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = port.local_addr().expect("a bound socket");
        drop(port);
        let mut serve = Face::Rust.program();
        serve.args(["serve", "--listen", &address.to_string()]);
        serve.stdin(Stdio::null()).stderr(Stdio::piped());
        if output == "/dev/full" {
            let full = File::create(output).expect("/dev/full can be opened");
            serve.stdout(full);
        } else {
            let (reader, writer) = io::pipe().expect("a pipe");
            drop(reader);
            serve.stdout(writer);
        }
        let mut server = Process::spawn_as_is(serve);
        let reached = || TcpStream::connect(address).ok();
        drop(until("the server can be reached", PATIENCE, reached));
        Client::connect(address).echo(b"hello");
        server.signal(Signal::SIGTERM);
        let status = server.wait(PATIENCE);
        assert!(
            status.success(),
            "{output}: {status}, {:?}",
            server.stderr()
        );
    }
}

#[test]
fn a_signal_right_after_the_first_line_drains() {
    for _ in 0..20 {
        let mut serve = Face::Rust.program();
        serve.args(["serve", "--listen", "127.0.0.1:0"]);
        let mut server = Process::spawn(serve);
        server.says("listening on", PATIENCE);
        server.signal(Signal::SIGTERM);
        assert!(server.wait(PATIENCE).success());
    }
}

#[test]
fn a_port_in_use_is_said_in_one_line_with_what_to_do() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = other.local_addr().expect("a bound socket").to_string();
    let said = fails_in_one_line(&["--listen", &taken]);
    assert!(
        said.contains(&taken) && said.contains("EADDRINUSE"),
        "{said}"
    );
    assert!(said.contains("another port"), "{said}");
}

#[test]
fn an_address_of_another_machine_is_said_in_one_line_with_what_to_do() {
    // 192.0.2.0/24 is for documentation (RFC 5737): no machine has it.
    let said = fails_in_one_line(&["--listen", "192.0.2.1:0"]);
    assert!(
        said.contains("192.0.2.1:0") && said.contains("EADDRNOTAVAIL"),
        "{said}"
    );
    assert!(said.contains("one of its own"), "{said}");
}

#[test]
fn what_is_no_address_is_not_understood_and_answered_with_an_example() {
    for nonsense in ["nonsense", "127.0.0.1", "127.0.0.1:99999", "[::1:7007", ""] {
        for option in ["--tcp", "--udp"] {
            let mut process = start(&["serve", option, nonsense]);
            assert_eq!(process.wait(PATIENCE).code(), Some(2), "{nonsense}");
            let said = process.stderr().join("\n");
            assert!(said.contains(&format!("'{nonsense}'")), "{said}");
            assert!(said.contains("127.0.0.1:7007"), "an example: {said}");
        }
    }
}

#[test]
fn a_unix_socket_that_cannot_be_is_said_in_one_line_with_what_to_do() {
    let long = "x".repeat(200);
    for (path, what, advice) in [
        ("/nowhere/at/all", "ENOENT", "folder"),
        ("/dev/null", "ENOTSOCK", "another path"),
        (&long, "ENAMETOOLONG", "107"),
    ] {
        let said = fails_in_one_line(&["--unix", path]);
        assert!(said.contains(what) && said.contains(advice), "{said}");
    }
}

#[test]
fn a_port_that_needs_privileges_is_said_in_one_line_with_what_to_do() {
    let first_free = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first_free = first_free.map_or(1024, |text| text.trim().parse().unwrap_or(1024));
    if first_free < 2 {
        let _ = writeln!(
            io::stderr(),
            "skipped: here anybody may listen on every port"
        );
        return;
    }
    // Root may listen anywhere and nobody may not look into root's folders: run a copy as nobody.
    let copy = std::env::temp_dir().join(format!("echoloop-{}", std::process::id()));
    // By another process: a file that is open for writing here may still be so in a child that another test forks just
    // now, and then it can't be run (ETXTBSY).
    let mut cp = Command::new("cp");
    cp.arg(Face::Rust.program().get_program()).arg(&copy);
    assert!(Process::run(cp, PATIENCE).wait(PATIENCE).success());
    let mut command = Command::new(&copy);
    command.current_dir("/");
    if geteuid().is_root() {
        command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
    }
    command.args(["serve", "--listen", "127.0.0.1:1"]);
    let process = Process::run(command, PATIENCE);
    fs::remove_file(copy).expect("made above");
    let said = one_line(process);
    assert!(
        said.contains("127.0.0.1:1") && said.contains("EACCES"),
        "{said}"
    );
    assert!(said.contains("1024"), "{said}");
}

#[test]
fn a_command_that_is_not_understood_ends_with_2_and_names_the_word() {
    for (arguments, word) in [
        (&["serve", "--frobnicate"][..], "--frobnicate"),
        (&["serve", "--idle-timeout", "soon"], "soon"),
        (&["serve", "--idle-timeout", "0"], "--idle-timeout"),
        (&["serve", "--idle-timeout", "nan"], "--idle-timeout"),
        (&["serve", "--max-connections", "0"], "--max-connections"),
        (&["serve", "--stats", "-1"], "-1"),
        (&["serve", "--unix", "@"], "abstract name is empty"),
        (&["bench", "localhost:7", "--size", "2G"], "64k"),
        (&["srve"], "srve"),
    ] {
        let mut command = Face::Rust.program();
        command.args(arguments);
        let mut process = Process::run(command, PATIENCE);
        assert_eq!(process.wait(PATIENCE).code(), Some(2), "{arguments:?}");
        let said = process.stderr().join("\n");
        assert!(
            said.contains(word) && said.contains("--help"),
            "{arguments:?}: {said}"
        );
    }
}

#[test]
fn the_debug_log_tells_the_story_of_one_client() {
    let mut server = serve()
        .env("RUST_LOG", "debug")
        .arg("--stats")
        .arg("0.2")
        .start();
    let client = Client::connect(server.address());
    client.echo(b"in parts.");
    let peer = client.local();
    client.shutdown_write();
    client.expect_end();
    server
        .process()
        .says("timed out, do some other work", PATIENCE);
    let address = server.address();
    let said = server.stop().stderr();
    tells_in_order(
        &said,
        &[
            format!("starting up on {address}"),
            "waiting for the next event".into(),
            format!("new connection from {peer}"),
            format!("received 9 bytes from {peer}"),
            format!("sending 9 bytes to {peer}"),
            format!("closing {peer} after reading no data"),
            "timed out".into(),
            "waiting for the next event".into(),
        ],
    );
}

#[test]
fn the_debug_log_tells_when_a_queue_that_was_full_is_empty() {
    let mut server = serve().env("RUST_LOG", "debug").start();
    let client = Client::connect(server.address());
    let sent = client.send_until_blocked(Pattern::new(1), 64 << 20);
    client.receive_pattern(&mut Pattern::new(1), sent);
    let empty = format!("output queue for {} is empty", client.local());
    server.process().says(&empty, PATIENCE);
    server.stop();
}

#[test]
fn without_a_terminal_the_figures_are_plain_lines() {
    let mut server = serve().arg("--stats").arg("0.2").start();
    let client = Client::connect(server.address());
    client.echo(b"hello");
    until("three lines of figures", PATIENCE, || {
        let lines = server.process().stdout();
        let figures = lines
            .iter()
            .filter(|line| line.starts_with("1 open, 1 accepted"));
        (figures.count() >= 3).then_some(())
    });
    let said = server.stop().stdout().join("\n");
    assert!(!said.contains(['\r', '\x1b']), "{said:?}");
}

#[test]
fn on_a_terminal_the_figures_are_one_live_line() {
    let terminal = openpty(None, None).expect("a pseudo terminal");
    let mut command = Face::Rust.program();
    command.args(["serve", "--listen", "127.0.0.1:0", "--stats", "0.1"]);
    command
        .stdin(Stdio::null())
        .stdout(terminal.slave)
        .stderr(Stdio::piped());
    let mut server = Process::spawn_as_is(command);

    let screen = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&screen);
    thread::spawn(move || {
        let mut terminal = File::from(terminal.master);
        let mut chunk = [0; 1024];
        // The end of a terminal is the error EIO.
        while let Ok(n @ 1..) = terminal.read(&mut chunk) {
            into.lock()
                .expect("nobody panics with the lock")
                .extend_from_slice(&chunk[..n]);
        }
    });
    until("the line is written over itself", PATIENCE, || {
        let screen = screen.lock().expect("the reader does not panic");
        let updates = String::from_utf8_lossy(&screen).matches("\r0 open").count();
        (updates >= 3).then_some(())
    });
    server.signal(Signal::SIGINT);
    assert!(server.wait(PATIENCE).success());
}

#[test]
fn one_client_too_many_is_refused_with_a_reason_and_counted() {
    let mut server = serve().arg("--max-connections").arg(2).start();
    let welcome = [(); 2].map(|()| Client::connect(server.address()));
    for client in &welcome {
        client.echo(b"hello");
    }

    // The reset may come while connect is still under way.
    let refused = TcpStream::connect(server.address()).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read(&mut [0])
    });
    match refused {
        Ok(n) => assert_eq!(n, 0, "not a byte for who was refused"),
        Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset),
    }
    server.process().says("refused 127.0.0.1:", PATIENCE);
    server
        .process()
        .says("the maximum of connections", PATIENCE);
    for client in &welcome {
        client.echo(b"still here");
    }

    let [one, _two] = welcome;
    let base = server.descriptors();
    drop(one);
    server.until_descriptors_are_back_to(base - 1);
    Client::connect(server.address()).echo(b"now there is room");
    says_totals(server, "served 3 connections, 1 refused");
}

#[test]
fn the_last_words_are_the_totals() {
    let server = serve().start();
    for _ in 0..5 {
        Client::connect(server.address()).exchange(9, 1024);
    }
    let said = says_totals(server, "served 5 connections, 0 refused");
    assert!(
        said.iter()
            .any(|l| l.starts_with("received 5.0 KiB") && l.ends_with("sent 5.0 KiB"))
    );
    assert!(
        said.iter()
            .any(|l| l.starts_with("drained:") && l.ends_with("0 bytes lost"))
    );
}

#[test]
fn a_second_sigint_ends_a_drain_at_once() {
    let mut server = serve().start();
    let hoarder = Client::connect(server.address());
    hoarder.send_until_blocked(Pattern::new(2), 64 << 20);

    let process = server.process();
    process.signal(Signal::SIGINT);
    process.says("draining", PATIENCE);
    throughout(
        "it waits for the client that does not read",
        Duration::from_millis(300),
        || process.ended().is_none(),
    );
    process.signal(Signal::SIGINT);
    let status = process.wait(Duration::from_secs(1));
    assert!(!status.success(), "bytes were lost, so it is no success");
}

fn serve() -> ServerBuilder {
    Rig::new(Face::Rust).server()
}

/// Runs `echoloop serve` with arguments that can't work; returns the one line it says.
#[track_caller]
fn fails_in_one_line(arguments: &[&str]) -> String {
    let mut command = Face::Rust.program();
    command.arg("serve").args(arguments);
    one_line(Process::run(command, PATIENCE))
}

#[track_caller]
fn one_line(mut process: Process) -> String {
    assert_eq!(process.wait(PATIENCE).code(), Some(1));
    assert_eq!(process.stdout(), [""; 0]);
    let said = process.stderr();
    assert_eq!(said.len(), 1, "one line: {said:?}");
    said[0].clone()
}

/// Stops the server and finds the line of its totals.
#[track_caller]
fn says_totals(server: Server, totals: &str) -> Vec<String> {
    let said = server.stop().stdout();
    assert!(
        said.iter().any(|line| line.starts_with(totals)),
        "{totals:?} in {said:?}"
    );
    said
}

#[track_caller]
fn tells_in_order(said: &[String], story: &[String]) {
    let mut lines = said.iter();
    for sentence in story {
        assert!(
            lines.any(|line| line.contains(sentence)),
            "{sentence:?} comes next"
        );
    }
}
