//! `echoloop serve` is told to end while it is being replaced, or after it was.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use echoloop_tests::commands::{address_of, echoloop, start};
use echoloop_tests::patience::{PATIENCE, until};
use echoloop_tests::{Client, Process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn who_is_stopped_while_its_successor_starts_leaves_nobody_behind() {
    let folder = std::env::temp_dir().join(format!("echoloop-stopped-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let program = folder.join("echoloop");
    // By another process: what is open for writing here may be so in a child of another test (ETXTBSY).
    let mut cp = Command::new("cp");
    cp.arg(echoloop(&[]).get_program()).arg(&program);
    assert!(Process::run(cp, PATIENCE).wait(PATIENCE).success());
    let mut serve = Command::new(&program);
    serve.args(["serve", "--tcp", "127.0.0.1:0"]);
    let mut server = Process::spawn(serve);
    let address = address_of(&server);
    Client::connect(address).echo(b"served");
    // The next version hangs when it starts.
    let next = folder.join("next");
    fs::write(&next, "#!/bin/sh\necho hangs $$ >&2\nexec sleep 60\n").unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&next, &program).unwrap();
    server.signal(Signal::SIGUSR2);
    server.says("hangs", PATIENCE);
    Client::connect(address).echo(b"served on");
    server.signal(Signal::SIGTERM);
    let status = until("the first process ends", PATIENCE, || server.ended());
    assert!(status.success(), "{status}");
    // The other one, too: it had the socket.
    until("nobody listens", PATIENCE, || {
        let refused = TcpStream::connect(address).err()?;
        (refused.kind() == ErrorKind::ConnectionRefused).then_some(())
    });
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_signal_ends_the_grace_of_who_was_replaced() {
    for workers in ["1", "2"] {
        let mut server = start(&["serve", "--tcp", "127.0.0.1:0", "--workers", workers]);
        let client = Client::connect(address_of(&server));
        server.signal(Signal::SIGUSR2);
        let said = server.says("serves now", PATIENCE);
        let successor = said.split_whitespace().find_map(|w| w.parse().ok());
        let successor = Pid::from_raw(successor.expect("a process number"));
        client.echo(b"served on");
        server.signal(Signal::SIGTERM);
        client.expect_end();
        let status = until("the first process ends", PATIENCE, || server.ended());
        assert!(status.success(), "{status}");
        kill(successor, Signal::SIGTERM).expect("it serves on");
        server.wait(PATIENCE); // And with it the output that both have.
    }
}
