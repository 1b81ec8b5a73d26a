//! `echoloop/adapters/glib.h` against GLib itself.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use nix::sys::signal::Signal;

use echoloop_tests::Process;
use echoloop_tests::adapters::{Adapter, LIMIT};
use echoloop_tests::patience::PATIENCE;

static GLIB: Adapter = Adapter::new("glib", "glib-2.0");

#[test]
fn a_timer_due_while_glib_sleeps_fires_within_five_milliseconds() {
    GLIB.plays("timer-wakes-glib", &[]);
}

#[test]
fn glib_goes_on_while_the_loop_is_busy() {
    GLIB.plays("both-go-on", &[]);
}

#[test]
fn connections_have_all_their_events() {
    GLIB.plays("connections", &[]);
}

#[test]
fn a_source_destroyed_in_a_callback_has_no_further_turn() {
    GLIB.plays("destroyed", &[]);
}

#[test]
fn a_loop_freed_in_its_own_callback_ends_its_source() {
    GLIB.plays("freed", &[]);
}

#[test]
fn valgrind_has_nothing_to_report_on_any_scenario() {
    for scenario in ["both-go-on", "connections", "destroyed", "freed"] {
        GLIB.plays_under_valgrind(scenario, &[]);
    }
}

#[test]
fn the_example_echoes_and_ends_by_a_signal() {
    let Some(command) = GLIB.example("glib_echo", &["127.0.0.1:0"]) else {
        return;
    };
    let mut server = Process::spawn(command);
    let line = server.says("listening on ", PATIENCE);
    let address: SocketAddr = line["listening on ".len()..].parse().expect("an address");
    let mut client = TcpStream::connect(address).expect("it listens");
    client.set_read_timeout(Some(PATIENCE)).expect("not zero");
    client.write_all(b"hello").expect("it reads");
    client.shutdown(Shutdown::Write).expect("it is connected");
    let mut echo = String::new();
    client.read_to_string(&mut echo).expect("it answers");
    assert_eq!(echo, "hello");
    server.signal(Signal::SIGTERM);
    let status = server.wait(LIMIT);
    assert!(status.success(), "{status}: {:?}", server.stderr());
}
