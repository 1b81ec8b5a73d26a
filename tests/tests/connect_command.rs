//! `echoloop connect` with real standard streams: pipes, files, terminals, slow, closed and gone ones.

use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use echoloop_tests::patience::{PATIENCE, throughout, until};
use echoloop_tests::{Face, Pattern, Process, Rig, artifacts, probe};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;
use socket2::{Domain, Socket, Type};

/// No more than this may a client hold of what it passes on.
const BOUND: u64 = 8 << 20;

#[test]
fn what_goes_in_comes_back_from_an_echo_and_both_ends_end() {
    let server = Rig::new(Face::Rust).start();
    for n in [0, 1, 64 << 20] {
        let (mut client, mut input, mut output) = piped_both(&[&server.address().to_string()]);
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut pattern = Pattern::new(n);
                let mut left = n as usize;
                while left > 0 {
                    let chunk = pattern.take(left.min(64 << 10));
                    input.write_all(&chunk).expect("the client takes it");
                    left -= chunk.len();
                }
            });
            assert_eq!(checked(&mut output, n), n);
        });
        assert!(client.wait(PATIENCE).success());
    }
    server.stop();
}

#[test]
fn files_and_dev_null_are_inputs_and_outputs_too() {
    let server = Rig::new(Face::Rust).start();
    let address = server.address().to_string();
    let (from, to) = (scratch("input"), scratch("output"));
    let bytes = Pattern::new(5).take(3_000_000);
    fs::write(&from, &bytes).expect("the target folder can be written");
    let mut command = connect(&[&address]);
    command.stdin(File::open(&from).expect("written above"));
    command.stdout(File::create(&to).expect("the target folder can be written"));
    assert!(Process::spawn_as_is(command).wait(PATIENCE).success());
    assert!(fs::read(&to).expect("it was created") == bytes);

    let mut command = connect(&[&address]);
    command
        .stdin(File::open(&from).expect("written above"))
        .stdout(Stdio::null());
    assert!(Process::spawn_as_is(command).wait(PATIENCE).success());
    let mut nothing = Process::run(connect(&[&address]), PATIENCE);
    assert!(nothing.wait(PATIENCE).success());
    assert_eq!(nothing.stdout(), [""; 0]);
    // A closed standard input is one that has ended.
    let mut shell = Command::new("sh");
    let program = Face::Rust.program().get_program().to_owned();
    shell
        .arg("-c")
        .arg(format!("\"$0\" connect {address} <&-"))
        .arg(program);
    assert!(Process::run(shell, PATIENCE).wait(PATIENCE).success());
    for path in [from, to] {
        fs::remove_file(path).expect("it is there");
    }
}

#[test]
fn a_peer_that_does_not_read_stops_the_input_and_not_the_memory() {
    let (listener, address) = listener();
    let (mut client, mut input) = piped(&[&address]);
    let (mut peer, _) = listener.accept().expect("it connects");
    nonblocking(&input);
    let mut sent = 0;
    until("nobody takes any more", PATIENCE, || {
        let before = sent;
        while let Ok(n) = input.write(&[b'x'; 4096]) {
            sent += n;
            assert!(sent < 64 << 20, "somebody stores without bound");
        }
        (sent == before).then_some(())
    });
    let held = probe::memory(client.pid());
    assert!(held < BOUND, "it holds {held} bytes");
    // In the other direction bytes go through all the same.
    peer.write_all(b"not read yet\n").expect("it is taken");
    client.says("not read yet", PATIENCE);
    drop(input);
    let mut received = Vec::new();
    peer.read_to_end(&mut received)
        .expect("all of it and the end");
    assert_eq!(received.len(), sent);
    drop(peer);
    assert!(client.wait(PATIENCE).success());
}

#[test]
fn an_output_that_nobody_reads_stops_the_peer_and_not_the_memory() {
    let (listener, address) = listener();
    let (mut client, mut input, mut output) = piped_both(&[&address]);
    let (mut peer, _) = listener.accept().expect("it connects");
    peer.set_nonblocking(true).expect("fcntl");
    let (mut pattern, mut sent) = (Pattern::new(9), 0);
    let mut chunk = pattern.take(64 << 10);
    until("nobody takes any more", PATIENCE, || {
        let before = sent;
        while let Ok(n) = peer.write(&chunk) {
            sent += n as u64;
            chunk.drain(..n);
            if chunk.is_empty() {
                chunk = pattern.take(64 << 10);
            }
            assert!(sent < 64 << 20, "somebody stores without bound");
        }
        (sent == before).then_some(())
    });
    let held = probe::memory(client.pid());
    assert!(held < BOUND, "it holds {held} bytes");
    // In the other direction bytes go through all the same.
    peer.set_nonblocking(false).expect("fcntl");
    input.write_all(b"still here").expect("it is taken");
    let mut said = [0; 10];
    peer.read_exact(&mut said).expect("it comes through");
    assert_eq!(&said, b"still here");

    peer.shutdown(Shutdown::Write).expect("it is connected");
    drop(input);
    assert_eq!(checked(&mut output, 9), sent);
    assert!(client.wait(PATIENCE).success());
}

#[test]
fn a_peer_that_finishes_first_gets_all_that_is_still_said() {
    let (listener, address) = listener();
    let (mut client, mut input) = piped(&[&address]);
    let (mut peer, _) = listener.accept().expect("it connects");
    peer.write_all(b"I am done\n").expect("it is taken");
    peer.shutdown(Shutdown::Write).expect("it is connected");
    client.says("I am done", PATIENCE);
    throughout("it waits for its input", Duration::from_millis(200), || {
        client.ended().is_none()
    });
    input.write_all(b"I am not").expect("it is taken");
    drop(input);
    let mut said = String::new();
    peer.read_to_string(&mut said).expect("it comes through");
    assert_eq!(said, "I am not");
    assert!(client.wait(PATIENCE).success());
}

#[test]
fn an_output_that_is_closed_ends_it_with_a_word() {
    let server = Rig::new(Face::Rust).start();
    let (mut client, mut input, output) = piped_both(&[&server.address().to_string()]);
    drop(output);
    // Nothing to write, no trouble yet.
    throughout("it goes on", Duration::from_millis(100), || {
        client.ended().is_none()
    });
    input.write_all(b"hello").expect("it is taken");
    let said = fails(&mut client);
    assert!(
        said.contains("standard output") && said.contains("EPIPE"),
        "{said}"
    );
    drop(input);
    server.stop();
}

#[test]
fn a_peer_that_resets_is_told_and_what_was_lost() {
    let (listener, address) = listener();
    let (mut client, input) = piped(&[&address]);
    let (peer, _) = listener.accept().expect("it connects");
    socket2::SockRef::from(&peer)
        .set_linger(Some(Duration::ZERO))
        .expect("SO_LINGER");
    drop(peer);
    let said = fails(&mut client);
    assert!(said.contains(&address) && said.contains("reset"), "{said}");
    drop(input);
}

#[test]
fn what_cannot_be_reached_is_said_in_one_line() {
    let (listener, address) = listener();
    drop(listener);
    let said = fails(&mut Process::run(connect(&[&address]), PATIENCE));
    assert!(
        said.contains(&address) && said.contains("ECONNREFUSED"),
        "{said}"
    );
    let said = fails(&mut Process::run(
        connect(&["unix:/nonexistent/x"]),
        PATIENCE,
    ));
    assert!(
        said.contains("unix:/nonexistent/x") && said.contains("ENOENT"),
        "{said}"
    );
    let mut nonsense = Process::run(connect(&["nonsense"]), PATIENCE);
    assert_eq!(nonsense.wait(PATIENCE).code(), Some(2));
}

#[test]
fn a_peer_that_does_not_answer_is_given_up_in_time() {
    // A backlog that is full answers nobody.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    listener.bind(&any.into()).expect("a free port");
    listener.listen(0).expect("it listens");
    let at = listener
        .local_addr()
        .expect("it is bound")
        .as_socket()
        .expect("an address");
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&at, Duration::from_millis(300)) {
        waiting.push(stream);
        assert!(waiting.len() < 100);
    }
    let said = fails(&mut Process::run(
        connect(&[&at.to_string(), "--connect-timeout", "0.2"]),
        PATIENCE,
    ));
    assert!(
        said.contains("timed out") && said.contains("--connect-timeout"),
        "{said}"
    );

    let server = Rig::new(Face::Rust).start();
    let (mut client, _input) = piped(&[&server.address().to_string(), "--idle-timeout", "0.2"]);
    let said = fails(&mut client);
    assert!(
        said.contains("idle") && said.contains("--idle-timeout"),
        "{said}"
    );
}

#[test]
fn by_name_and_verbose_it_says_what_was_tried() {
    let server = Rig::new(Face::Rust).start();
    let target = format!("localhost:{}", server.address().port());
    let mut client = Process::run(connect(&[&target, "--verbose"]), PATIENCE);
    assert!(client.wait(PATIENCE).success());
    let said = client.stderr().join("\n");
    assert!(
        said.contains(&format!("tried {}", server.address())),
        "{said}"
    );
    assert!(
        said.contains(&format!("connected to {}", server.address())),
        "{said}"
    );
}

#[test]
fn on_a_terminal_one_types_and_reads_and_ctrl_d_ends() {
    let server = Rig::new(Face::Rust).start();
    let terminal = openpty(None, None).expect("a pseudo terminal");
    let mut command = connect(&[&server.address().to_string()]);
    let shells = terminal.slave.try_clone().expect("a descriptor");
    command.stdin(terminal.slave.try_clone().expect("a descriptor"));
    command.stdout(terminal.slave).stderr(Stdio::piped());
    let mut client = Process::spawn_as_is(command);
    let mut keyboard = File::from(terminal.master.try_clone().expect("a descriptor"));
    keyboard.write_all(b"hello\n").expect("it is typed");
    nonblocking(&terminal.master);
    let mut screen = Vec::new();
    let mut look = |wanted: usize| {
        until("the line is on the screen", PATIENCE, || {
            let mut chunk = [0; 1024];
            if let Ok(n) = nix::unistd::read(&terminal.master, &mut chunk) {
                screen.extend_from_slice(&chunk[..n]);
            }
            let shown = String::from_utf8_lossy(&screen).matches("hello").count();
            (shown >= wanted).then_some(())
        });
    };
    // Once as it is typed, which the terminal does, and once from the server.
    look(2);
    assert!(!is_nonblocking(&shells), "the terminal is the shell's too");
    keyboard.write_all(b"\x04").expect("Ctrl-D");
    assert!(client.wait(PATIENCE).success());
    assert!(!is_nonblocking(&shells));
    server.stop();
}

#[test]
fn pipes_of_others_are_left_as_they_are() {
    let server = Rig::new(Face::Rust).start();
    let (their_input, mut input) = io::pipe().expect("a pipe");
    let (mut output, their_output) = io::pipe().expect("a pipe");
    let (kept_in, kept_out) = (copy(&their_input), copy(&their_output));
    let mut command = connect(&[&server.address().to_string()]);
    command.stdin(their_input).stdout(their_output);
    let mut client = Process::spawn_as_is(command);
    input.write_all(b"hello").expect("it is taken");
    output.read_exact(&mut [0; 5]).expect("it comes back");
    assert!(!is_nonblocking(&kept_in) && !is_nonblocking(&kept_out));
    drop(input);
    assert!(client.wait(PATIENCE).success());
    assert!(!is_nonblocking(&kept_in) && !is_nonblocking(&kept_out));
}

fn connect(arguments: &[&str]) -> Command {
    let mut command = Face::Rust.program();
    command.arg("connect").args(arguments);
    command
}

/// A client whose output is collected by lines, and its input.
#[track_caller]
fn piped(arguments: &[&str]) -> (Process, PipeWriter) {
    let (reader, writer) = io::pipe().expect("a pipe");
    let mut command = connect(arguments);
    command
        .stdin(reader)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    (Process::spawn_as_is(command), writer)
}

/// A client with both ends of it.
#[track_caller]
fn piped_both(arguments: &[&str]) -> (Process, PipeWriter, PipeReader) {
    let (their_input, input) = io::pipe().expect("a pipe");
    let (output, their_output) = io::pipe().expect("a pipe");
    let mut command = connect(arguments);
    command
        .stdin(their_input)
        .stdout(their_output)
        .stderr(Stdio::piped());
    (Process::spawn_as_is(command), input, output)
}

/// Reads the pattern to the end; answers how many bytes came.
#[track_caller]
fn checked(output: &mut PipeReader, seed: u64) -> u64 {
    let mut pattern = Pattern::new(seed);
    let mut room = vec![0; 64 << 10];
    let mut received = 0;
    loop {
        match output.read(&mut room).expect("a pipe can be read") {
            0 => return received,
            n => {
                pattern.check(&room[..n]);
                received += n as u64;
            }
        }
    }
}

/// It has failed, with the one line that is returned.
#[track_caller]
fn fails(client: &mut Process) -> String {
    assert_eq!(client.wait(PATIENCE).code(), Some(1));
    let said = client.stderr();
    assert_eq!(said.len(), 1, "one line: {said:?}");
    said[0].clone()
}

#[track_caller]
fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket").to_string();
    (listener, address)
}

fn scratch(name: &str) -> PathBuf {
    artifacts::scratch().join(format!("connect-{name}-{}", std::process::id()))
}

fn nonblocking(fd: &impl AsFd) {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("fcntl");
}

fn is_nonblocking(fd: &impl AsFd) -> bool {
    let flags = fcntl(fd, FcntlArg::F_GETFL).expect("fcntl");
    OFlag::from_bits_truncate(flags).contains(OFlag::O_NONBLOCK)
}

fn copy(fd: &impl AsFd) -> std::os::fd::OwnedFd {
    fd.as_fd().try_clone_to_owned().expect("a descriptor")
}
