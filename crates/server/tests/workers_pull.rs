//! Workers that are driven by a program's own loop over `next_event`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use echoloop_server::{
    Error, ErrorKind, Event, Report, Server, ServerBuilder, ServerEvent, Spread, Workers,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Serves echo by pulled events, at most `at_once` of them between two waits.
fn echo(mut server: Server) -> Result<Report, Error> {
    loop {
        if let Some(report) = server.report() {
            return Ok(report);
        }
        // Nobody stops a worker's wait but what it is told: one that slept on would show as a hang.
        server.poll(None)?;
        while let Some(event) = server.next_event() {
            match event {
                ServerEvent::Loop(Event::Stop) => server.stop(),
                ServerEvent::Loop(Event::Data { conn }) => {
                    let mut conn = server.event_loop().conn(conn)?;
                    let bytes = conn.received().to_vec();
                    conn.consume(bytes.len());
                    let _ = conn.send(&bytes);
                }
                _ => {}
            }
        }
    }
}

fn start(builder: ServerBuilder, spread: Spread) -> Workers {
    let builder = builder.listen("127.0.0.1:0");
    builder
        .start_workers_with(3, spread, |_, server| echo(server))
        .unwrap()
}

fn clients(workers: &Workers, n: usize) -> Vec<TcpStream> {
    let addr = workers.local_addrs()[0].ip().unwrap();
    let client = |_| {
        let mut client = TcpStream::connect(addr).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(&mut client);
        client
    };
    (0..n).map(client).collect()
}

fn exchange(client: &mut TcpStream) {
    client.write_all(b"hello").unwrap();
    let mut back = [0; 5];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
}

#[test]
fn pulled_workers_serve_count_and_drain_together() {
    for spread in [Spread::Fewest, Spread::ReusePort] {
        let workers = start(Server::builder(), spread);
        let mut clients = clients(&workers, 9);
        assert_eq!(workers.loop_counters().bytes_received, 45);
        assert!(!workers.is_finished());
        workers.stop();
        for client in &mut clients {
            assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "closed in order");
        }
        drop(clients);
        let report = workers.join().unwrap();
        assert_eq!((report.closed_clean, report.aborted), (9, 0), "{spread:?}");
        assert!(workers.is_finished());
        assert_eq!(workers.join(), Ok(report), "it is remembered");
        assert_eq!(workers.loop_counters().bytes_received, 45, "of the last");
    }
}

#[test]
fn a_stop_of_one_pulled_loop_is_a_stop_of_all() {
    let builder = Server::builder().drain_grace(Duration::from_secs(3600));
    let workers = start(builder, Spread::Fewest);
    let mut clients = clients(&workers, 3);
    let addr = workers.local_addrs()[0].ip().unwrap();
    workers.remote(2).unwrap().stop().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(addr).is_ok() {
        assert!(Instant::now() < deadline);
    }
    for client in &mut clients {
        exchange(client); // Within the grace.
    }
    workers.remote(2).unwrap().stop().unwrap();
    for client in &mut clients {
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "the grace is over");
    }
    drop(clients);
    assert_eq!(workers.join().unwrap().aborted, 0);
}

#[test]
fn several_threads_may_wait_for_the_end_and_all_is_cut_when_asked() {
    let workers = start(Server::builder(), Spread::Fewest);
    let clients = clients(&workers, 6);
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..3).map(|_| scope.spawn(|| workers.join())).collect();
        workers.abort_all();
        let reports: Vec<_> = waiting.into_iter().map(|w| w.join().unwrap()).collect();
        assert!(
            reports
                .iter()
                .all(|report| *report == reports[0] && report.is_ok())
        );
    });
    drop(clients);
}

#[test]
fn work_that_fails_drains_the_others() {
    let builder = Server::builder().listen("127.0.0.1:0");
    let workers = builder
        .start_workers_with(3, Spread::Fewest, |worker, server| match worker {
            1 => Err(Error::new("work", ErrorKind::Closed)),
            _ => echo(server),
        })
        .unwrap();
    assert_eq!(workers.join().unwrap_err().kind(), ErrorKind::Closed);
    assert!(workers.is_finished());
}
