//! `echoloop/adapters/libpq.h` against libpq itself and a PostgreSQL server.

use std::net::TcpListener;

use echoloop_tests::Process;
use echoloop_tests::adapters::{Adapter, LIMIT, succeeds};
use echoloop_tests::patience::{PATIENCE, until};
use echoloop_tests::real_servers::{Folder, Postgres};

static LIBPQ: Adapter = Adapter::new("libpq", "libpq");

#[test]
fn queries_are_answered_with_all_their_results() {
    let Some(server) = Postgres::start() else {
        return;
    };
    for scenario in ["results", "sequence", "pipelined"] {
        LIBPQ.plays(scenario, &[&server.conninfo()]);
    }
}

#[test]
fn thirty_megabytes_and_copies_go_both_ways() {
    let Some(server) = Postgres::start() else {
        return;
    };
    for scenario in ["large", "copies"] {
        LIBPQ.plays(scenario, &[&server.conninfo()]);
    }
}

#[test]
fn two_hundred_notifications_come_to_who_listens_in_order() {
    let Some(server) = Postgres::start() else {
        return;
    };
    LIBPQ.plays("notifications", &[&server.conninfo()]);
}

#[test]
fn a_server_that_crashes_is_told_and_can_be_connected_to_again() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let Some(command) = LIBPQ.command("server-goes-away", &[&server.conninfo()]) else {
        return;
    };
    let mut program = Process::spawn(command);
    program.says("in flight", PATIENCE);
    server.crash_and_start_again();
    let status = program.wait(LIMIT);
    assert!(status.success(), "{status}: {:?}", program.stderr());
}

#[test]
fn an_idle_connection_that_the_server_ends_is_told_to_be_lost() {
    let Some(server) = Postgres::start() else {
        return;
    };
    LIBPQ.plays("terminated", &[&server.conninfo()]);
}

#[test]
fn a_connection_may_be_closed_or_reset_in_each_callback() {
    let Some(server) = Postgres::start() else {
        return;
    };
    for scenario in ["closed", "reset"] {
        LIBPQ.plays(scenario, &[&server.conninfo()]);
    }
}

#[test]
fn a_host_that_refuses_is_followed_by_the_next_on_a_new_socket() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("a bound socket").port();
    drop(free);
    let conninfo = server.conninfo().replacen("host=", "host=127.0.0.1,", 1);
    LIBPQ.plays("results", &[&format!("{conninfo} port={port},5432")]);
}

#[test]
fn nobody_listens_and_the_loop_tells() {
    let folder = Folder::new("no-postgres");
    let conninfo = format!("host={}", folder.path().display());
    LIBPQ.plays("refused", &[&conninfo]);
}

#[test]
fn valgrind_has_nothing_to_report_on_any_scenario() {
    let Some(server) = Postgres::start() else {
        return;
    };
    for scenario in [
        "results",
        "copies",
        "notifications",
        "terminated",
        "closed",
        "reset",
    ] {
        LIBPQ.plays_under_valgrind(scenario, &[&server.conninfo()]);
    }
}

#[test]
fn the_example_hears_also_after_a_crash_of_the_server() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let arguments = [&server.conninfo(), "news", "2"];
    let Some(command) = LIBPQ.example("libpq_listen", &arguments) else {
        return;
    };
    let mut listener = Process::spawn(command);
    listener.says("listening on news", PATIENCE);
    succeeds(server.psql("notify news, 'one'"));
    listener.says(": one", PATIENCE);
    server.crash_and_start_again();
    until("it listens once more", PATIENCE, || {
        let lines = listener.stdout();
        let listening = lines.iter().filter(|line| line.contains("listening"));
        (listening.count() == 2).then_some(())
    });
    succeeds(server.psql("notify news, 'two'"));
    listener.says(": two", PATIENCE);
    let status = listener.wait(LIMIT);
    assert!(status.success(), "{status}: {:?}", listener.stderr());
}
