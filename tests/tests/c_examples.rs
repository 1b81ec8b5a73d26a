//! The C examples do what their first comment says, each under valgrind, which finds no error and no leak.
//!
//! Echo servers and the echo client have tests of their own (`c_programs.rs` and the scenarios), and so have the
//! examples of the adapters.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use echoloop_tests::patience::{PATIENCE, until};
use echoloop_tests::tools::tool;
use echoloop_tests::{Process, artifacts};
use nix::sys::signal::Signal;

/// Under valgrind things take their time.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn timers_beat_save_after_the_last_key_and_end() {
    let lines = run("timers", &[]);
    let told = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(told(": beat "), 8, "{lines:?}");
    assert_eq!(told(": saved after 6 keys"), 1, "{lines:?}");
    assert!(
        lines.last().is_some_and(|line| line.ends_with(": the end")),
        "{lines:?}"
    );
}

#[test]
fn two_loops_answer_all_jobs_in_order() {
    let sums = (1..=10_u64)
        .map(|i| i * 100_000)
        .map(|n| format!("1 + ... + {n} = {}", n * (n + 1) / 2));
    assert_eq!(run("two_loops", &[]), sums.collect::<Vec<_>>());
}

#[test]
fn resolve_prints_addresses_and_says_which_name_has_none() {
    let mut process = start("resolve", &["localhost", "127.0.0.1", "no name at all"]);
    let status = process.wait(LONG);
    assert_eq!(status.code(), Some(1), "one of them can't be resolved");
    let found = process.stdout();
    assert!(
        found.iter().any(|line| line == "127.0.0.1: 127.0.0.1"),
        "{found:?}"
    );
    assert!(
        found.iter().any(|line| line.starts_with("localhost: ")),
        "{found:?}"
    );
    assert!(process.stderr().join("\n").contains("no name at all"));
}

#[test]
fn pipe_watch_prints_each_line_and_ends_as_the_command_does() {
    let mut process = start("pipe_watch", &["sh", "-c", "echo one; echo two; exit 7"]);
    assert_eq!(process.wait(LONG).code(), Some(7));
    let lines = process.stdout();
    assert!(
        lines[0].ends_with("s: one") && lines[1].ends_with("s: two"),
        "{lines:?}"
    );
}

#[test]
fn udp_echo_sends_every_datagram_back() {
    let (server, addr) = serve("udp_echo");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for message in ["one", "", "three"] {
        let mut answer = [0; 16];
        socket.send_to(message.as_bytes(), addr).unwrap();
        let (n, from) = socket.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..n], from), (message.as_bytes(), addr));
    }
    let said = stop(server);
    assert!(said.contains("3 datagrams, 8 bytes, 0 dropped"), "{said}");
}

#[test]
fn chat_tells_lines_to_all_others_and_a_slow_reader_what_it_missed() {
    let (server, addr) = serve("chat");
    let mut talker = connect(addr);
    let (mut reader, slow) = (connect(addr), connect(addr));
    // All three are members once each has been heard by another.
    let mut lines = BufReader::new(reader.try_clone().unwrap());
    let mut heard = String::new();
    talker.write_all(b"hel").unwrap();
    talker.write_all(b"lo\n").unwrap();
    lines.read_line(&mut heard).unwrap();
    assert_eq!(heard, "hello\n");
    let mut slow_lines = BufReader::new(slow.try_clone().unwrap());
    heard.clear();
    slow_lines.read_line(&mut heard).unwrap();
    assert_eq!(heard, "hello\n");

    // Far more than the kernel and the high mark take; the other reader misses nothing.
    let text = [b"x".repeat(1023), b"\n".to_vec()].concat();
    let sent = 16 * 1024;
    let writer = std::thread::spawn(move || {
        (0..sent).for_each(|_| talker.write_all(&text).unwrap());
        talker
    });
    let mut all = vec![0; sent * 1024];
    lines.read_exact(&mut all).unwrap();
    let talker = writer.join().unwrap();
    let missed = slow_lines.lines().map(Result::unwrap);
    let missed = missed.map(|line| line.strip_prefix("* you have missed ").map(str::to_owned));
    let missed = missed.flatten().next().unwrap();
    let bytes: usize = missed.trim_end_matches(" bytes").parse().unwrap();
    assert!(
        bytes > 0 && bytes.is_multiple_of(1024) && bytes < all.len(),
        "{missed}"
    );

    reader.write_all(b"bye\n").unwrap();
    heard.clear();
    BufReader::new(talker).read_line(&mut heard).unwrap();
    assert_eq!(heard, "bye\n");
    stop(server);
}

#[test]
fn graceful_stop_serves_on_until_who_is_connected_has_gone() {
    let (server, addr) = serve("graceful_stop");
    let mut client = connect(addr);
    assert_eq!(ask(&mut client, b"before", 6), b"before");
    server.signal(Signal::SIGHUP);
    server.says("conn", LONG); // What is open.
    server.signal(Signal::SIGINT);
    server.says("draining", LONG);
    until("it listens no more", LONG, || {
        TcpStream::connect(addr).err()
    });
    assert_eq!(ask(&mut client, b"after", 5), b"after");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    let mut server = server;
    assert!(server.wait(LONG).success());
    let said = server.stderr().join("\n");
    assert!(
        said.contains("1 connections closed, 0 cut, 0 bytes lost"),
        "{said}"
    );
}

#[test]
fn resp_server_answers_commands_in_pieces_in_a_pipeline_and_wrong_ones() {
    let (server, addr) = serve("resp_server");
    let mut client = connect(addr);
    let pipeline = b"*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n";
    let answers = b"+PONG\r\n+OK\r\n$5\r\nhello\r\n+PONG\r\n";
    assert_eq!(ask(&mut client, pipeline, answers.len()), answers);
    for piece in pipeline.chunks(3) {
        client.write_all(piece).unwrap();
    }
    assert_eq!(ask(&mut client, b"", answers.len()), answers);
    let unknown = b"*2\r\n$3\r\nGET\r\n$4\r\nnone\r\n*1\r\n$3\r\nBAD\r\n";
    let answers = b"$-1\r\n-ERR unknown command\r\n";
    assert_eq!(ask(&mut client, unknown, answers.len()), answers);
    // A value that replaces another, and is larger than a read.
    let value = vec![b'v'; 300_000];
    let set = [
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$300000\r\n",
        &value[..],
        b"\r\n",
    ]
    .concat();
    assert_eq!(ask(&mut client, &set, 5), b"+OK\r\n");
    let got = ask(&mut client, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", 300_011);
    assert_eq!(got, [b"$300000\r\n", &value[..], b"\r\n"].concat());
    let mut rest = Vec::new();
    client.write_all(b"*9999\r\n").unwrap();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"-ERR Protocol error\r\n");
    stop(server);
}

#[test]
fn resp_server_is_driven_by_redis_benchmark() {
    let Some(benchmark) = tool("redis-benchmark") else {
        return;
    };
    let mut server = Process::spawn(command("resp_server", &["127.0.0.1:0"], false));
    let addr = listening(&mut server);
    let mut driver = Command::new(benchmark);
    driver.args([
        "-t",
        "ping,set,get",
        "-P",
        "16",
        "-c",
        "50",
        "-n",
        "20000",
        "--csv",
    ]);
    driver.args(["-p", &addr.port().to_string()]);
    let mut driver = Process::spawn(driver);
    assert!(driver.wait(LONG).success());
    let said = driver.stdout().join("\n");
    for kind in ["PING_INLINE", "PING_MBULK", "SET", "GET"] {
        assert!(said.contains(&format!("\"{kind}\"")), "{said}");
    }
    stop(server);
}

/// Runs an example to its good end; what it printed.
#[track_caller]
fn run(name: &str, args: &[&str]) -> Vec<String> {
    let mut process = start(name, args);
    let status = process.wait(LONG);
    assert!(
        status.success(),
        "{name} ended with {status}: {:?}",
        process.stderr()
    );
    process.stdout()
}

#[track_caller]
fn start(name: &str, args: &[&str]) -> Process {
    Process::spawn(command(name, args, true))
}

/// Starts a server on a free port.
#[track_caller]
fn serve(name: &str) -> (Process, SocketAddr) {
    let mut server = start(name, &["127.0.0.1:0"]);
    let addr = listening(&mut server);
    (server, addr)
}

#[track_caller]
fn listening(server: &mut Process) -> SocketAddr {
    let line = server.says("listening on ", LONG);
    line["listening on ".len()..].parse().unwrap()
}

/// Ends a server by Ctrl-C; what it said.
#[track_caller]
fn stop(mut server: Process) -> String {
    server.signal(Signal::SIGINT);
    let status = server.wait(LONG);
    let said = server.stderr().join("\n");
    assert!(status.success(), "{status}: {said}");
    said
}

fn command(name: &str, args: &[&str], watched: bool) -> Command {
    let program = artifacts::c_program(name);
    let mut command = match tool("valgrind").filter(|_| watched) {
        Some(valgrind) => {
            let mut command = Command::new(valgrind);
            // getaddrinfo(3) keeps what a thread that lives at the end has read.
            let leaks = if name == "resolve" { "no" } else { "full" };
            command.args(["--quiet", "--error-exitcode=99"]);
            command.arg(format!("--leak-check={leaks}"));
            command.arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(args);
    command
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// Sends, and reads so many bytes.
fn ask(stream: &mut TcpStream, question: &[u8], n: usize) -> Vec<u8> {
    let mut answer = vec![0; n];
    stream.write_all(question).unwrap();
    stream.read_exact(&mut answer).unwrap();
    answer
}
