//! Workers share what comes: balance, limits, counters, all kinds of sockets.

mod util;

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use echoloop_server::{CloseReason, Server, Spread};
use util::team::{Team, Told};
use util::{PATIENCE, echoes};

const BOTH: [Spread; 2] = [Spread::Fewest, Spread::ReusePort];

#[test]
fn the_acceptor_gives_two_workers_500_each_of_1000_connections() {
    let (team, _) = Team::start(Server::builder(), 2, Spread::Fewest);
    let clients = team.served(1000);
    println!("open per worker: {:?}", team.open());
    assert_eq!(team.open(), [500, 500]);
    assert_eq!(team.accepted(), [500, 500]);
    drop(clients);
}

#[test]
fn the_kernel_gives_two_workers_1000_connections_about_evenly() {
    let (team, _) = Team::start(Server::builder(), 2, Spread::ReusePort);
    let clients = team.served(1000);
    println!("open per worker: {:?}", team.open());
    // A binomial share: sigma is 15.8, and one in 1.7 million runs is more than 5 sigma off.
    assert!(team.open()[0].abs_diff(500) <= 79, "{:?}", team.open());
    assert_eq!(team.open().iter().sum::<usize>(), 1000);
    drop(clients);
}

#[test]
fn who_leaves_one_worker_makes_room_for_those_who_come() {
    let (team, _) = Team::start(Server::builder(), 2, Spread::Fewest);
    let mut clients = team.served(200);
    // They came in turn to the two workers, so these are all of one.
    let mut place = 0;
    clients.retain(|_| {
        place += 1;
        place % 2 == 0
    });
    team.hear(100, |told| matches!(told, Told::Close(..)));
    let mut open = team.open();
    open.sort_unstable();
    assert_eq!(open, [0, 100]);
    clients.extend(team.served(60));
    let mut open = team.open();
    open.sort_unstable();
    assert_eq!(open, [60, 100]);
    clients.extend(team.served(60));
    assert_eq!(team.open(), [110, 110]);
}

#[test]
fn connections_that_end_at_once_go_round() {
    let (team, _) = Team::start(Server::builder(), 4, Spread::Fewest);
    for _ in 0..100 {
        drop(team.served(1));
        team.hear(1, |told| matches!(told, Told::Close(..)));
    }
    assert_eq!(team.open(), [0; 4]);
    assert_eq!(team.accepted(), [25; 4]);
}

#[test]
fn each_worker_has_hooks_of_its_own_which_are_told_of_its_connections_only() {
    let (team, _) = Team::start(Server::builder(), 3, Spread::Fewest);
    let mut made = team.hear(3, |told| matches!(told, Told::Made(_)));
    made.sort_by_key(|told| format!("{told:?}"));
    assert_eq!(made, [Told::Made(0), Told::Made(1), Told::Made(2)]);
    let clients = team.served(9);
    drop(clients);
    let told = team.hear(18, |told| matches!(told, Told::Open(..) | Told::Close(..)));
    let count = |wanted| told.iter().filter(|told| **told == wanted).count();
    for worker in 0..3 {
        assert_eq!(count(Told::Open(worker, worker == 0)), 3);
        let end = CloseReason::PeerFinished;
        assert_eq!(count(Told::Close(worker, end)), 3);
    }
    team.workers.stop();
    team.workers.join().unwrap();
    let more = team.told.try_iter().count();
    assert_eq!(more, 0, "nobody is told of what was passed on");
}

#[test]
fn limits_are_those_of_the_whole() {
    for spread in BOTH {
        let builder = Server::builder().max_connections(10);
        let (team, _) = Team::start(builder, 4, spread);
        let clients: Vec<TcpStream> = (0..30).map(|_| team.client()).collect();
        let refused = |told: &Told| matches!(told, Told::Refused(_));
        let told = team.hear(30, |told| matches!(told, Told::Open(..)) || refused(told));
        assert_eq!(told.iter().filter(|told| refused(told)).count(), 20);
        assert_eq!(team.open().iter().sum::<usize>(), 10);
        let counters = team.workers.counters();
        assert_eq!((counters.refused_full, counters.most_open), (20, 10));
        // Every place that becomes free is free, wherever it was.
        drop(clients);
        team.hear(10, |told| matches!(told, Told::Close(..)));
        let clients = team.served(10);
        assert_eq!(team.open().iter().sum::<usize>(), 10);
        drop(clients);
    }
}

#[test]
fn counters_are_summed_while_they_run_and_after_the_end() {
    let (team, _) = Team::start(Server::builder(), 2, Spread::Fewest);
    let mut clients = team.served(10);
    for client in &mut clients {
        echoes(client, &[1; 95]);
    }
    let sum = team.workers.loop_counters();
    assert_eq!((sum.accepted, sum.given_away, sum.adopted), (10, 5, 5));
    assert_eq!((sum.bytes_received, sum.bytes_sent), (1000, 1000));
    team.workers.stop();
    drop(clients);
    team.workers.join().unwrap();
    let sum = team.workers.loop_counters();
    assert_eq!((sum.bytes_received, sum.closed), (1000, 15));
    assert_eq!(team.workers.counters().most_open, 10);
    assert!(team.workers.is_finished());
}

#[test]
fn what_only_one_can_listen_on_is_spread_by_hand() {
    for spread in BOTH {
        let path = format!("unix:@echoloop-workers-{}-{spread:?}", std::process::id());
        let inherited = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = inherited.local_addr().unwrap();
        let builder = Server::builder().listen(path.as_str()).inherit(inherited);
        let (team, _) = Team::try_start(builder, 2, spread).unwrap();
        assert_eq!(team.workers.local_addrs().len(), 2);
        let name = SocketAddr::from_abstract_name(&path[6..]).unwrap();
        let mut unix: Vec<UnixStream> = (0..10)
            .map(|_| UnixStream::connect_addr(&name).unwrap())
            .collect();
        for client in &mut unix {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            echoes(client, b"hello");
        }
        assert_eq!(team.open(), [5, 5]);
        let mut tcp: Vec<TcpStream> = (0..10).map(|_| TcpStream::connect(addr).unwrap()).collect();
        for client in &mut tcp {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            echoes(client, b"hello");
        }
        assert_eq!(team.open(), [10, 10]);
    }
}

#[test]
fn datagrams_of_one_peer_go_to_one_worker_and_all_workers_have_some() {
    for spread in BOTH {
        let builder = Server::builder().bind_udp("127.0.0.1:0");
        let (team, _) = Team::start(builder, 2, spread);
        let to = team.workers.udp_addrs()[0].ip().unwrap();
        let mut seen = [0; 2];
        for _ in 0..64 {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut workers = Vec::new();
            for _ in 0..3 {
                client.send_to(b"ping", to).unwrap();
                let mut back = [0; 8];
                assert_eq!(client.recv_from(&mut back).unwrap(), (4, to));
                workers.extend(team.hear(1, |told| matches!(told, Told::Datagrams(_))));
            }
            assert_eq!(workers, [workers[0]; 3]);
            let Told::Datagrams(worker) = workers[0] else {
                unreachable!()
            };
            seen[worker] += 1;
        }
        // Nobody sees none but once in 2^63 runs.
        assert!(!seen.contains(&0), "{seen:?}");
    }
}

#[test]
fn a_word_is_posted_to_one_worker() {
    let (team, _) = Team::start(Server::builder(), 3, Spread::ReusePort);
    for worker in [2, 0, 1] {
        let remote = team.workers.remote(worker).unwrap();
        remote.post(40 + worker as u64).unwrap();
        let told = team.hear(1, |told| matches!(told, Told::Post(..)));
        assert_eq!(told, [Told::Post(worker, 40 + worker as u64)]);
    }
    assert!(team.workers.remote(3).is_none());
    assert_eq!(team.workers.count(), 3);
}
