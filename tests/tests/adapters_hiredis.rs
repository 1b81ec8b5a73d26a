//! `echoloop/adapters/hiredis.h` against hiredis itself and redis-server.

use std::net::TcpListener;

use echoloop_tests::Process;
use echoloop_tests::adapters::{Adapter, LIMIT, succeeds};
use echoloop_tests::patience::PATIENCE;
use echoloop_tests::real_servers::{Folder, Redis};

static HIREDIS: Adapter = Adapter::new("hiredis", "hiredis");

#[test]
fn ten_thousand_commands_are_answered_in_order() {
    plays("commands");
}

#[test]
fn twenty_megabytes_go_both_ways() {
    plays("large");
}

#[test]
fn a_disconnect_in_a_callback_lets_what_is_under_way_be_answered() {
    plays("disconnected");
}

#[test]
fn a_context_freed_in_a_callback_tells_all_that_is_under_way() {
    plays("freed");
}

#[test]
fn a_context_may_be_freed_by_a_timer_and_before_it_has_connected() {
    plays("freed-elsewhere");
}

#[test]
fn a_callback_may_free_its_own_context_and_another_one() {
    plays("subscribed");
}

#[test]
fn a_loop_freed_before_its_context_is_no_harm() {
    plays("loop-freed-first");
}

#[test]
fn a_server_killed_with_commands_under_way_is_told_to_each_of_them() {
    let Some(redis) = Redis::start() else { return };
    let socket = redis.socket();
    let socket = socket.to_str().expect("plain names");
    let Some(command) = HIREDIS.command("killed", &[socket]) else {
        return;
    };
    let mut program = Process::spawn(command);
    program.says("in flight", PATIENCE);
    redis.kill();
    let status = program.wait(LIMIT);
    assert!(status.success(), "{status}: {:?}", program.stderr());
}

#[test]
fn nobody_listens_and_the_context_says_so() {
    let folder = Folder::new("no-redis");
    let socket = folder.path().join("socket");
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("a bound socket").port();
    drop(free);
    let socket = socket.to_str().expect("plain names");
    HIREDIS.plays("refused", &[socket, &port.to_string()]);
}

#[test]
fn valgrind_has_nothing_to_report_on_any_scenario() {
    let Some(redis) = Redis::start() else { return };
    let socket = redis.socket();
    let socket = socket.to_str().expect("plain names");
    for scenario in [
        "disconnected",
        "freed",
        "freed-elsewhere",
        "subscribed",
        "loop-freed-first",
    ] {
        HIREDIS.plays_under_valgrind(scenario, &[socket]);
    }
}

#[test]
fn the_example_counts_and_says_when_there_is_no_server() {
    let Some(redis) = Redis::start() else { return };
    let socket = redis.socket();
    let arguments = ["1000", socket.to_str().expect("plain names")];
    let Some(counter) = HIREDIS.example("hiredis_counter", &arguments) else {
        return;
    };
    assert_eq!(succeeds(counter), ["counted to 1000"]);
    redis.kill();
    let Some(counter) = HIREDIS.example("hiredis_counter", &arguments) else {
        return;
    };
    let mut counter = Process::run(counter, LIMIT);
    assert_eq!(
        counter.wait(LIMIT).code(),
        Some(1),
        "{:?}",
        counter.stderr()
    );
}

#[track_caller]
fn plays(scenario: &str) {
    let Some(redis) = Redis::start() else { return };
    let socket = redis.socket();
    HIREDIS.plays(scenario, &[socket.to_str().expect("plain names")]);
}
