//! `echoloop serve` whose outputs nobody reads: clients are served, signals obeyed, restarts come through.

use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use echoloop_tests::commands::echoloop;
use echoloop_tests::patience::{PATIENCE, until};
use echoloop_tests::{Client, Process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Short of the time for which last words wait, by far.
const AT_ONCE: Duration = Duration::from_secs(4);

#[test]
fn a_log_that_nobody_reads_stops_neither_clients_nor_signals() {
    let path = std::env::temp_dir().join(format!("echoloop-unread-{}", std::process::id()));
    let mut serve = echoloop(&["serve", "--drain-grace", "100", "--max-connections", "1"]);
    serve.arg("--unix").arg(&path);
    let (_unread, writer) = io::pipe().expect("a pipe");
    fill(&writer);
    serve.stdin(Stdio::null()).stdout(Stdio::null());
    serve.stderr(writer);
    let mut server = Process::spawn_as_is(serve);
    let connect = || UnixStream::connect(&path).ok();
    let client = until("it listens", PATIENCE, connect);
    client.set_read_timeout(Some(AT_ONCE)).unwrap();
    let echo = || {
        (&client).write_all(b"served").unwrap();
        (&client).read_exact(&mut [0; 6]).expect("an answer");
    };
    for _ in 0..3 {
        echo();
        // This is logged, once a second.
        let refused = until("somebody comes", PATIENCE, connect);
        let end = (&refused).read(&mut [0]);
        assert!(matches!(end, Ok(0) | Err(_)), "it was refused");
    }
    echo();
    server.signal(Signal::SIGTERM);
    until("nobody new is let in", PATIENCE, || {
        connect().is_none().then_some(())
    });
    echo();
    // What comes in the same moment as the first is no second one.
    let ended = until("a second one ends it at once", AT_ONCE, || {
        server.signal(Signal::SIGTERM);
        server.ended()
    });
    assert_eq!(ended.code(), Some(130));
    let _ = std::fs::remove_file(&path);
}

#[test]
fn a_restart_needs_nobody_who_reads() {
    let mut serve = echoloop(&["serve", "--tcp", "127.0.0.1:0"]);
    let (mut reader, writer) = io::pipe().expect("a pipe");
    serve.stdin(Stdio::null()).stderr(Stdio::piped());
    serve.stdout(writer.try_clone().expect("a descriptor"));
    let mut server = Process::spawn_as_is(serve);
    let address = first_address(&mut reader);
    Client::connect(address).echo(b"served by the first");
    fill(&writer);
    server.signal(Signal::SIGUSR2);
    let said = server.says("serves now", PATIENCE);
    let new = said.split_whitespace().find_map(|w| w.parse().ok());
    let new = Pid::from_raw(new.expect("a process number"));
    Client::connect(address).echo(b"served by the second");
    // It ends although its last words find no room.
    let status = until("the first process ends", PATIENCE, || server.ended());
    assert!(status.success(), "{status}");
    Client::connect(address).echo(b"served on");
    kill(new, Signal::SIGTERM).expect("it runs");
    until("the second ends", PATIENCE, || {
        let refused = TcpStream::connect(address).err()?;
        (refused.kind() == ErrorKind::ConnectionRefused).then_some(())
    });
}

/// That of the first line.
fn first_address(reader: &mut PipeReader) -> SocketAddr {
    let mut said = Vec::new();
    while !said.ends_with(b"what happens\n") {
        let mut byte = [0];
        reader.read_exact(&mut byte).expect("a first screen");
        said.push(byte[0]);
    }
    let said = String::from_utf8(said).expect("a text");
    let word = said.split_whitespace().nth(2).expect("listening on ...");
    word.parse().expect("an address")
}

/// Leaves no room in a pipe. It is non-blocking only meanwhile, for all who have it.
fn fill(mut pipe: &PipeWriter) {
    rustix::io::ioctl_fionbio(pipe, true).expect("it is a pipe");
    for size in [4096, 1] {
        while pipe.write(&vec![b'.'; size]).is_ok() {}
    }
    rustix::io::ioctl_fionbio(pipe, false).expect("it is a pipe");
}
