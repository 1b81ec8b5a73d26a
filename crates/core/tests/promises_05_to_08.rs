//! Promises 5 to 8 of the design, each by tests of its name, on the real system: memory, ends of
//! streams, closing, fairness. `random_pieces` tests 5 to 7 further, on the simulated one.

mod util;

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use echoloop_core::{CloseReason, ConnOptions, Deadline, ErrorKind, Event, EventLoop, LoopOptions};
use util::Random;
use util::real::{PATIENCE, Real, read_some, reason_of, write_some};

#[test]
fn promise_05_above_the_high_mark_reading_pauses_and_below_the_low_one_it_resumes() {
    let mut real = Real::new(ConnOptions::default());
    let (mut client, conn) = real.pair();
    // The client sends and does not read; we echo.
    let flood = vec![9; 1 << 20];
    let mut written = write_some(&mut client, &flood);
    real.until(|el, e| {
        written += write_some(&mut client, &flood);
        match e {
            Event::Data { conn } => {
                el.conn(conn).unwrap().send_received(usize::MAX).unwrap();
                None
            }
            Event::Congested { conn: congested } => {
                assert_eq!(congested, conn);
                Some(())
            }
            _ => None,
        }
    });
    let marks = ConnOptions::default();
    let most = marks.high_mark + (512 << 10);
    for _ in 0..50 {
        written += write_some(&mut client, &flood);
        real.el.poll(Some(Duration::from_millis(1))).unwrap();
        while let Some(e) = real.el.next_event() {
            assert!(!matches!(e, Event::Data { .. }), "read while congested");
        }
        assert!(
            real.el.buffered() <= most,
            "{} bytes wait",
            real.el.buffered()
        );
    }
    let mut got = Vec::new();
    let mut drained = false;
    let deadline = Instant::now() + PATIENCE;
    while got.len() < written {
        assert!(Instant::now() < deadline);
        read_some(&mut client, &mut got);
        real.el.poll(Some(Duration::from_millis(1))).unwrap();
        while let Some(e) = real.el.next_event() {
            match e {
                Event::Drained { .. } => drained = true,
                Event::Data { conn } => {
                    assert!(drained, "read before it was drained");
                    real.el
                        .conn(conn)
                        .unwrap()
                        .send_received(usize::MAX)
                        .unwrap();
                }
                _ => {}
            }
        }
    }
    assert!(drained);
}

#[test]
fn promise_05_send_refuses_over_the_cap_and_queues_nothing() {
    let mut real = Real::new(ConnOptions {
        send_cap: 100_000,
        ..ConnOptions::default()
    });
    let (mut client, conn) = real.pair();
    let mut view = real.el.conn(conn).unwrap();
    // One send may be larger than the cap, on an empty queue.
    let large = vec![1; 20 << 20];
    view.send(&large).unwrap();
    let waiting = view.queued();
    assert!(waiting > 100_000);
    assert_eq!(view.send(b"x").unwrap_err().kind(), ErrorKind::QueueFull);
    assert_eq!(view.queued(), waiting);
    let mut got = Vec::new();
    real.run_until(|el| {
        read_some(&mut client, &mut got);
        el.buffered() == 0
    });
    real.el.conn(conn).unwrap().send(b"x").unwrap();
    real.run_until(|_| {
        read_some(&mut client, &mut got);
        got.len() == large.len() + 1
    });
}

#[test]
fn promise_05_the_budget_of_the_loop_bounds_all_connections_together() {
    let options = LoopOptions {
        memory_budget: 4 << 20,
        ..LoopOptions::default()
    };
    let conn = ConnOptions {
        auto_pause: false,
        send_cap: 1 << 30,
        ..ConnOptions::default()
    };
    let mut real = Real::with_loop(EventLoop::new(options).unwrap(), conn);
    let pairs: Vec<_> = (0..8).map(|_| real.pair()).collect();
    let bytes = vec![0; 1 << 20];
    let mut refused = 0;
    for _ in 0..40 {
        for (_, conn) in &pairs {
            refused += u32::from(real.el.conn(*conn).unwrap().send(&bytes).is_err());
        }
    }
    assert!(refused > 0);
    // One send each may go over it, since an empty queue takes any.
    assert!(
        real.el.buffered() <= (4 << 20) + 9 * bytes.len(),
        "{}",
        real.el.buffered()
    );
}

#[test]
fn promise_06_a_peer_that_half_closes_gets_all_its_bytes_back() {
    let mut real = Real::new(ConnOptions::default());
    let (mut client, _) = real.pair();
    let input = Random::new(6).bytes(3 << 20);
    let (mut written, mut got, mut end) = (0, Vec::new(), false);
    let deadline = Instant::now() + PATIENCE;
    while !end {
        assert!(Instant::now() < deadline);
        let n = write_some(&mut client, &input[written..]);
        written += n;
        if n > 0 && written == input.len() {
            client.shutdown(Shutdown::Write).unwrap();
        }
        end = read_some(&mut client, &mut got);
        real.el.poll(Some(Duration::from_millis(1))).unwrap();
        while let Some(e) = real.el.next_event() {
            if let Event::Data { conn } = e {
                real.el
                    .conn(conn)
                    .unwrap()
                    .send_received(usize::MAX)
                    .unwrap();
            }
        }
    }
    assert!(got == input);
}

#[test]
fn promise_06_half_open_stays_until_it_is_closed_here() {
    let mut real = Real::new(ConnOptions {
        half_open: true,
        ..ConnOptions::default()
    });
    let (mut client, conn) = real.pair();
    client.shutdown(Shutdown::Write).unwrap();
    real.until(|_, e| matches!(e, Event::EndOfStream { .. }).then_some(()));
    for _ in 0..20 {
        real.el.poll(Some(Duration::from_millis(1))).unwrap();
        assert_eq!(real.el.next_event(), None);
    }
    let mut view = real.el.conn(conn).unwrap();
    view.send(b"late").unwrap();
    view.shutdown_write().unwrap();
    assert_eq!(view.send(b"later").unwrap_err().kind(), ErrorKind::Closing);
    // Both sides have finished, so nothing is left to keep it open for.
    assert_eq!(
        reason_of(real.until_closed(conn)),
        CloseReason::PeerFinished
    );
    let mut got = Vec::new();
    assert!(read_some(&mut client, &mut got));
    assert_eq!(got, b"late");
}

#[test]
fn promise_07_close_flushes_and_is_final() {
    let mut real = Real::new(ConnOptions::default());
    let (mut client, conn) = real.pair();
    let bytes = Random::new(7).bytes(8 << 20);
    // The client's own bytes are still unread here: closing carelessly would reset.
    client.write_all(b"never read").unwrap();
    let mut view = real.el.conn(conn).unwrap();
    view.send(&bytes).unwrap();
    view.close();
    view.close();
    assert_eq!(view.send(b"x").unwrap_err().kind(), ErrorKind::Closing);
    let (mut got, mut end) = (Vec::new(), false);
    real.run_until(|_| {
        end |= read_some(&mut client, &mut got);
        end
    });
    assert!(got == bytes);
    drop(client);
    assert_eq!(reason_of(real.until_closed(conn)), CloseReason::ClosedHere);
}

#[test]
fn promise_07_close_ends_within_its_deadline_and_counts_what_was_lost() {
    let close_timeout = Duration::from_millis(200);
    let mut real = Real::new(ConnOptions {
        close_timeout,
        ..ConnOptions::default()
    });
    let (_never_reads, conn) = real.pair();
    let mut view = real.el.conn(conn).unwrap();
    view.send(&vec![0; 20 << 20]).unwrap();
    let waiting = view.queued() as u64;
    view.close();
    let start = Instant::now();
    let end = real.until_closed(conn);
    assert!(start.elapsed() >= close_timeout);
    let Event::Closed { reason, unsent, .. } = end else {
        unreachable!()
    };
    assert_eq!(reason, CloseReason::TimedOut(Deadline::Close));
    assert!(unsent > 0 && unsent <= waiting);
}

#[test]
fn promise_07_abort_resets_at_once() {
    let mut real = Real::new(ConnOptions::default());
    let (mut client, conn) = real.pair();
    real.el.conn(conn).unwrap().abort();
    real.until_closed(conn);
    let error = std::io::Read::read(&mut client, &mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn promise_07_write_stall_timeout_ends_a_peer_that_takes_nothing() {
    let stall = Duration::from_millis(200);
    let options = ConnOptions {
        write_stall_timeout: Some(stall),
        ..ConnOptions::default()
    };
    let mut real = Real::new(options);
    let (_never_reads, conn) = real.pair();
    let start = Instant::now();
    real.el
        .conn(conn)
        .unwrap()
        .send(&vec![0; 20 << 20])
        .unwrap();
    assert_eq!(
        reason_of(real.until_closed(conn)),
        CloseReason::TimedOut(Deadline::WriteStall)
    );
    assert!(start.elapsed() >= stall);
}

#[test]
fn promise_08_one_connection_cannot_starve_the_rest() {
    let mut real = Real::new(ConnOptions {
        auto_pause: false,
        ..ConnOptions::default()
    });
    let (mut flood, loud) = real.pair();
    let (mut client, quiet) = real.pair();
    let bytes = vec![0; 4 << 20];
    let mut served = 0;
    let mut written = 0;
    for _ in 0..200 {
        written += write_some(&mut flood, &bytes);
        let asked = write_some(&mut client, b"ping") > 0;
        let mut loud_reads = 0;
        let mut quiet_reads = 0;
        real.el.poll(Some(Duration::from_millis(1))).unwrap();
        while let Some(e) = real.el.next_event() {
            let Event::Data { conn } = e else { continue };
            loud_reads += u32::from(conn == loud);
            quiet_reads += u32::from(conn == quiet);
            real.el.conn(conn).unwrap().consume(usize::MAX);
        }
        // Data on loopback is there when the write returns, so the turn after it must serve it.
        assert!(
            quiet_reads == 1 || !asked,
            "the quiet connection was left waiting"
        );
        assert!(
            loud_reads <= 1,
            "{loud_reads} reads from one connection in a turn"
        );
        served += quiet_reads;
    }
    assert_eq!(served, 200);
    assert!(written > bytes.len());
}
