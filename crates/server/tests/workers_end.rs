//! The end of workers: one drain of all, with nobody lost on the way, and what a failure leaves.

mod util;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use echoloop_server::{
    CloseReason, Echo, ListenOptions, LoopOptions, Report, Server, Spread, UdpOptions,
};
use util::team::{Team, Told};
use util::{PATIENCE, echoes};

const BOTH: [Spread; 2] = [Spread::Fewest, Spread::ReusePort];
const EADDRINUSE: i32 = 98;

/// Keeps a worker in a hook until the gate is opened.
fn hold(team: &Team, worker: usize) {
    team.workers.remote(worker).unwrap().post(7).unwrap();
    team.hear(1, |told| *told == Told::Post(worker, 7));
}

#[test]
fn a_drain_of_all_workers_loses_no_byte() {
    for spread in BOTH {
        let (team, _) = Team::start(Server::builder(), 4, spread);
        let mut clients: Vec<TcpStream> = (0..40).map(|_| team.client()).collect();
        let message = vec![7; 100_000];
        for client in &mut clients {
            client.write_all(&message).unwrap();
            client.read_exact(&mut vec![0; message.len() - 1]).unwrap();
        }
        team.workers.stop();
        for mut client in clients {
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, [7]);
        }
        let report = team.workers.join().unwrap();
        assert_eq!((report.closed_clean, report.bytes_lost), (40, 0));
        assert_eq!(team.workers.join(), Ok(report), "it is remembered");
        assert_eq!(team.workers.counters().bytes_lost, 0);
        assert!(TcpStream::connect(team.addr()).is_err());
    }
}

#[test]
fn who_is_on_the_way_to_a_worker_when_a_drain_begins_is_served_in_its_grace() {
    let builder = Server::builder().drain_grace(PATIENCE);
    let (team, gate) = Team::start(builder, 2, Spread::Fewest);
    hold(&team, 1);
    let mut clients = team.accepted_clients(10);
    assert_eq!(team.open(), [5, 5], "five wait in the mailbox");
    team.workers.stop();
    for client in &mut clients {
        client.write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    }
    // Worker 0 serves its own and ends, and nobody comes any more.
    team.hear(5, |told| *told == Told::Close(0, CloseReason::PeerFinished));
    assert_eq!(team.open(), [0, 5]);
    gate.send(()).unwrap();
    for mut client in clients {
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert_eq!(back, b"hello");
    }
    let report = team.workers.join().unwrap();
    assert_eq!((report.closed_clean, report.aborted), (10, 0));
}

#[test]
fn who_is_on_the_way_to_a_worker_that_closes_is_closed_and_told() {
    let (team, gate) = Team::start(Server::builder(), 2, Spread::Fewest);
    hold(&team, 1);
    let clients = team.accepted_clients(10);
    team.workers.stop();
    gate.send(()).unwrap();
    for mut client in clients {
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "an end, no reset");
    }
    let report = team.workers.join().unwrap();
    assert_eq!((report.closed_clean, report.aborted), (10, 0));
    let closed = team.told.try_iter();
    let closed = closed.filter(|told| matches!(told, Told::Close(1, _)));
    assert_eq!(closed.count(), 5);
}

#[test]
fn stops_add_up_also_those_that_no_worker_has_seen() {
    let builder = Server::builder().drain_grace(10 * PATIENCE);
    let (team, gate) = Team::start(builder, 2, Spread::Fewest);
    let mut clients = team.served(10);
    hold(&team, 0);
    hold(&team, 1);
    // Drain, end the grace, cut.
    for _ in 0..3 {
        team.workers.stop();
    }
    gate.send(()).unwrap();
    gate.send(()).unwrap();
    for client in &mut clients {
        util::was_reset(client);
    }
    let report = team.workers.join().unwrap();
    assert_eq!(report.closed_clean, 10, "nothing was unsent");
}

#[test]
fn a_stop_of_each_worker_by_itself_is_one_stop() {
    let builder = Server::builder().drain_grace(10 * PATIENCE);
    let (team, _) = Team::start(builder, 3, Spread::Fewest);
    let mut clients = team.served(9);
    for worker in 0..3 {
        team.workers.remote(worker).unwrap().stop().unwrap();
    }
    for client in &mut clients {
        echoes(client, b"served on");
    }
    let stopper = team.workers.stopper();
    stopper.stop();
    for client in &mut clients {
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "the grace is over");
    }
    drop(clients);
    assert_eq!(team.workers.join().unwrap().closed_clean, 9);
}

#[test]
fn a_stop_of_each_worker_ends_the_grace_that_a_hook_gave() {
    let (team, _) = Team::start(Server::builder(), 2, Spread::Fewest);
    let mut clients = team.served(4);
    // As a restart has it: each is told that it was replaced.
    for worker in 0..2 {
        team.workers.remote(worker).unwrap().post(1).unwrap();
    }
    team.hear(2, |told| matches!(told, Told::Post(_, 1)));
    for client in &mut clients {
        echoes(client, b"served on");
    }
    for worker in 0..2 {
        team.workers.remote(worker).unwrap().stop().unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "the grace is over");
    }
    drop(clients);
    assert_eq!(team.workers.join().unwrap().closed_clean, 4);
}

#[test]
fn workers_whose_hooks_drain_at_the_same_time_have_one_grace() {
    let (team, gate) = Team::start(Server::builder(), 2, Spread::Fewest);
    let clients = team.served(4);
    hold(&team, 1);
    let busy = team.workers.remote(1).unwrap();
    // In one turn with a word that holds it: it does not see before that the other drains.
    busy.post(7).unwrap();
    busy.post(1).unwrap();
    gate.send(()).unwrap();
    team.hear(1, |told| *told == Told::Post(1, 7));
    team.workers.remote(0).unwrap().post(0).unwrap();
    team.hear(2, |told| matches!(told, Told::Close(0, _)));
    gate.send(()).unwrap();
    for mut client in clients {
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "the first said: none");
    }
    assert_eq!(team.workers.join().unwrap().closed_clean, 4);
}

#[test]
fn a_hook_of_one_worker_drains_all() {
    for worker in [0, 1] {
        let (team, _) = Team::start(Server::builder(), 2, Spread::Fewest);
        let clients = team.served(4);
        team.workers.remote(worker).unwrap().post(0).unwrap();
        for mut client in clients {
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
        assert_eq!(team.workers.join().unwrap().closed_clean, 4);
    }
}

#[test]
fn what_a_full_mailbox_does_not_take_stays_with_the_acceptor() {
    let event_loop = LoopOptions {
        post_capacity: 3,
        ..LoopOptions::default()
    };
    let builder = Server::builder().loop_options(event_loop);
    let (team, gate) = Team::start(builder, 2, Spread::Fewest);
    hold(&team, 1);
    let mut clients = team.accepted_clients(20);
    assert_eq!(team.open(), [17, 3]);
    gate.send(()).unwrap();
    for client in &mut clients {
        echoes(client, b"hello");
    }
    assert_eq!(team.accepted(), [17, 3]);
    team.workers.stop();
    drop(clients);
    assert_eq!(team.workers.join().unwrap().bytes_lost, 0);
}

#[test]
fn a_panic_in_one_worker_drains_the_others_and_is_told_by_join() {
    for (dying, spread) in [(0, BOTH[0]), (1, BOTH[0]), (0, BOTH[1])] {
        let (team, _) = Team::start(Server::builder(), 2, spread);
        // Of each worker at least one; the last is of the one that dies.
        let mut clients = Vec::new();
        let mut dies = loop {
            let mut client = team.served(1).remove(0);
            let told = team.hear(1, |told| matches!(told, Told::Open(..)));
            let here = matches!(told[0], Told::Open(worker, _) if worker == dying);
            if here && !clients.is_empty() {
                break client;
            }
            if !here {
                echoes(&mut client, b"hello");
                clients.push(client);
            }
        };
        dies.write_all(b"boom").unwrap();
        for mut client in clients {
            assert_eq!(client.read(&mut [0]).unwrap(), 0, "it was drained");
        }
        let panic = catch_unwind(AssertUnwindSafe(|| team.workers.join())).unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.starts_with(&format!("worker {dying} goes boom")));
        assert!(TcpStream::connect(team.addr()).is_err());
        let ended = Report {
            closed_clean: team.workers.join().unwrap().closed_clean,
            ..Report::default()
        };
        assert_eq!(team.workers.join(), Ok(ended));
    }
}

#[test]
fn dropped_workers_are_cut_and_gone() {
    let builder = Server::builder().drain_grace(10 * PATIENCE);
    let (team, _) = Team::start(builder, 3, Spread::ReusePort);
    let addr = team.addr();
    let mut clients = team.served(9);
    drop(team);
    for client in &mut clients {
        util::was_reset(client);
    }
    TcpListener::bind(addr).unwrap();
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nobody_listening() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_addr = taken.local_addr().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let free_addr = free.local_addr().unwrap();
    drop(free);
    for spread in BOTH {
        let builder = Server::builder().listen(free_addr).listen(taken_addr);
        let error = builder.start_workers(3, spread, |_| Echo).unwrap_err();
        assert_eq!(error.errno(), Some(EADDRINUSE));
        assert_eq!(error.target().unwrap().to_string(), taken_addr.to_string());
        assert!(TcpStream::connect(free_addr).is_err());
        let none = Server::builder().start_workers(0, spread, |_| Echo);
        assert_eq!(none.unwrap_err().operation(), "start workers");
    }
}

#[test]
fn a_port_is_shared_with_other_workers_only_when_asked() {
    for spread in BOTH {
        let builder = Server::builder().bind_udp("127.0.0.1:0");
        let (first, _) = Team::start(builder, 2, spread);
        let udp = first.workers.udp_addrs()[0].clone();
        let again = || Server::builder().listen(first.addr());
        let error = again().start_workers(2, spread, |_| Echo).unwrap_err();
        assert_eq!(error.errno(), Some(EADDRINUSE));
        let error = Server::builder().bind_udp(&udp);
        let error = error.start_workers(2, spread, |_| Echo).unwrap_err();
        assert_eq!(error.errno(), Some(EADDRINUSE));
    }
    let listen = ListenOptions {
        reuse_port: true,
        ..ListenOptions::default()
    };
    let udp = UdpOptions {
        reuse_port: true,
        ..UdpOptions::default()
    };
    let asked = Server::builder().listen_options(listen).udp_options(udp);
    for spread in BOTH {
        let first = asked.clone().bind_udp("127.0.0.1:0");
        let (first, _) = Team::start(first, 2, spread);
        let again = asked.clone().listen(first.addr());
        let again = again.bind_udp(&first.workers.udp_addrs()[0]);
        let (second, _) = Team::try_start(again, 2, spread).unwrap();
        drop(first);
        assert!(!second.served(4).is_empty());
    }
}

#[test]
fn a_worker_in_a_long_hook_keeps_figures_waiting_for_a_second_only() {
    let (team, gate) = Team::start(Server::builder(), 2, Spread::Fewest);
    let _clients = team.served(2);
    hold(&team, 1);
    assert_eq!(team.workers.loop_counters().accepted, 2);
    gate.send(()).unwrap();
    let start = std::time::Instant::now();
    assert_eq!(team.workers.loop_counters().adopted, 1);
    assert!(start.elapsed() < Duration::from_millis(900));
}
