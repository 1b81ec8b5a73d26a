//! The promises of the design, each by a test of its name, on the real system.
//!
//! `random_pieces` tests 2 to 7 further, on the simulated one. Promise 10's SIGPIPE needs a C host,
//! since Rust ignores that signal: it is among the tests of the C library.

mod util;

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use echoloop_core::{
    CloseReason, ConnId, ConnOptions, ConnectOptions, Deadline, ErrorKind, Event, EventLoop,
    ListenOptions, ListenerId, LoopOptions, TimerId, TimerSpec,
};
use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::Signal;
use util::Random;
use util::real::{PATIENCE, Real, read_some, reset, write_some};

fn reason_of(event: Event) -> CloseReason {
    match event {
        Event::Closed { reason, .. } => reason,
        other => panic!("{other:?} is not an end"),
    }
}

#[test]
fn promise_01_poll_blocks_only_when_no_event_is_queued() {
    let mut real = Real::new(ConnOptions::default());
    let _clients = [real.client(), real.client()];
    real.el.poll(Some(PATIENCE)).unwrap();
    assert!(real.el.next_event().is_some());
    // One event was taken and another is queued: this would block for ever if it blocked.
    real.el.poll(None).unwrap();
    assert!(real.el.next_event().is_some());
}

#[test]
fn promise_01_a_signal_ends_poll_early_with_no_error_and_no_event() {
    let flag = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&flag)).unwrap();
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let waiting = pthread_self() as u64;
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    // Sent again and again, since nobody can tell when the loop has begun to wait.
    let sender = thread::spawn(move || {
        while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
            pthread_kill(waiting as _, Signal::SIGUSR1).unwrap();
            thread::sleep(Duration::from_millis(10));
        }
    });
    let start = Instant::now();
    el.poll(Some(PATIENCE)).unwrap();
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    sender.join().unwrap();
    assert!(start.elapsed() < PATIENCE / 2);
    assert_eq!(el.next_event(), None);
    assert!(
        flag.load(std::sync::atomic::Ordering::Relaxed),
        "the signal came"
    );
}

#[test]
fn promise_02_any_wrong_handle_is_bad_handle() {
    let mut real = Real::new(ConnOptions::default());
    let (client, conn) = real.pair();
    let timer = real.el.add_timer(TimerSpec::after(PATIENCE)).unwrap();
    let mut other = EventLoop::new(LoopOptions::default()).unwrap();
    let bad = |e: echoloop_core::Error| assert_eq!(e.kind(), ErrorKind::BadHandle);

    assert!(real.el.conn(conn).is_ok());
    bad(other.conn(conn).map(drop).unwrap_err()); // of another loop
    bad(real
        .el
        .conn(ConnId::from_raw(timer.to_raw()))
        .map(drop)
        .unwrap_err()); // of another kind
    bad(real
        .el
        .rearm_timer(TimerId::from_raw(conn.to_raw()), PATIENCE)
        .unwrap_err());
    bad(real
        .el
        .listener_addr(ListenerId::from_raw(conn.to_raw()))
        .unwrap_err());
    bad(real.el.conn(ConnId::from_raw(0)).map(drop).unwrap_err());
    for bit in 0..64 {
        bad(real
            .el
            .conn(ConnId::from_raw(conn.to_raw() ^ 1 << bit))
            .map(drop)
            .unwrap_err());
    }
    let mut random = Random::new(2);
    for _ in 0..100_000 {
        let raw = random.next();
        assert!(raw == conn.to_raw() || real.el.conn(ConnId::from_raw(raw)).is_err());
    }
    drop(client);
    real.until_closed(conn);
    real.run_until(|el| el.connection_count() == 0);
    bad(real.el.conn(conn).map(drop).unwrap_err()); // stale
    let (_client, next) = real.pair();
    bad(real.el.conn(conn).map(drop).unwrap_err()); // stale, and the slot has a new tenant
    assert!(real.el.conn(next).is_ok());
    real.el.cancel_timer(timer).unwrap();
    bad(real.el.cancel_timer(timer).unwrap_err());
}

#[test]
fn promise_02_a_loop_that_takes_the_number_of_a_dead_one_refuses_its_handles() {
    let mut old = EventLoop::new(LoopOptions::default()).unwrap();
    let timer = old.add_timer(TimerSpec::after(PATIENCE)).unwrap();
    let number = old.id().index();
    drop(old);
    // Other tests make loops at the same time, so the number may take a few tries.
    for _ in 0..100 {
        let mut new = EventLoop::new(LoopOptions::default()).unwrap();
        let fresh = new.add_timer(TimerSpec::after(PATIENCE)).unwrap();
        assert_ne!(fresh, timer);
        assert_eq!(
            new.cancel_timer(timer).unwrap_err().kind(),
            ErrorKind::BadHandle
        );
        if new.id().index() == number {
            return;
        }
    }
}

#[test]
fn promise_03_each_end_has_its_one_reason() {
    let mut real = Real::new(ConnOptions {
        max_unread: 1000,
        idle_timeout: Some(Duration::from_millis(300)),
        ..ConnOptions::default()
    });
    let (finishes, a) = real.pair();
    finishes.shutdown(Shutdown::Write).unwrap();
    assert_eq!(reason_of(real.until_closed(a)), CloseReason::PeerFinished);

    let (resets, b) = real.pair();
    reset(resets);
    assert_eq!(reason_of(real.until_closed(b)), CloseReason::Reset);

    let (_open, c) = real.pair();
    real.el.conn(c).unwrap().close();
    drop(_open);
    assert_eq!(reason_of(real.until_closed(c)), CloseReason::ClosedHere);

    let (_open, d) = real.pair();
    real.el.conn(d).unwrap().abort();
    assert_eq!(reason_of(real.until_closed(d)), CloseReason::AbortedHere);

    let (mut floods, e) = real.pair();
    floods.write_all(&[7; 3000]).unwrap();
    assert_eq!(reason_of(real.until_closed(e)), CloseReason::InputTooLarge);

    let (_silent, f) = real.pair();
    assert_eq!(
        reason_of(real.until_closed(f)),
        CloseReason::TimedOut(Deadline::Idle)
    );

    let (open, g) = real.pair();
    real.el.shut_down(Duration::from_secs(1));
    drop(open);
    assert_eq!(reason_of(real.until_closed(g)), CloseReason::ShutDown);
}

#[test]
fn promise_03_a_refused_connect_is_one_closed_that_says_so() {
    let unused = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut real = Real::new(ConnOptions::default());
    let id = real.el.connect(unused, &ConnectOptions::default()).unwrap();
    let mut events = Vec::new();
    real.until(|_, e| {
        events.push(e);
        matches!(e, Event::Closed { .. }).then_some(())
    });
    let refused = CloseReason::ConnectFailed(nix::errno::Errno::ECONNREFUSED as i32);
    assert_eq!(
        events,
        [Event::Closed {
            conn: id,
            reason: refused,
            unsent: 0
        }]
    );
    assert_eq!(
        refused.to_string(),
        "connect failed: Connection refused (ECONNREFUSED)"
    );
}

#[test]
fn promise_12_a_connect_that_nobody_answers_ends_at_its_deadline() {
    // A backlog of one that is full: Linux drops further SYNs, so the connect hangs.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    socket.listen(0).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let options = ConnectOptions {
        timeout: Some(Duration::from_millis(300)),
        ..Default::default()
    };
    let start = Instant::now();
    let mut waiting: Vec<ConnId> = (0..8)
        .map(|_| el.connect(addr, &options).unwrap())
        .collect();
    let mut timed_out = 0;
    while timed_out == 0 {
        assert!(start.elapsed() < PATIENCE);
        el.poll(Some(Duration::from_millis(50))).unwrap();
        while let Some(event) = el.next_event() {
            match event {
                Event::Connected { conn } => waiting.retain(|id| *id != conn),
                Event::Closed { conn, reason, .. } => {
                    assert!(waiting.contains(&conn));
                    assert_eq!(reason, CloseReason::TimedOut(Deadline::Connect));
                    assert!(start.elapsed() >= Duration::from_millis(300));
                    timed_out += 1;
                }
                _ => {}
            }
        }
    }
}

#[test]
fn promise_04_send_keeps_order_across_all_its_paths() {
    let mut real = Real::new(ConnOptions {
        send_cap: 1 << 30,
        ..ConnOptions::default()
    });
    let (mut client, conn) = real.pair();
    let mut random = Random::new(4);
    let mut sent = Vec::new();
    let mut got = Vec::new();
    // Small ones are gathered, large ones go straight, and a client that reads late makes a queue.
    for round in 0..400 {
        for _ in 0..random.below(5) {
            let n = match random.below(3) {
                0 => random.below(100),
                1 => random.below(9000),
                _ => random.below(200_000),
            };
            let bytes = random.bytes(n as usize);
            real.el.conn(conn).unwrap().send(&bytes).unwrap();
            sent.extend_from_slice(&bytes);
        }
        real.el.poll(Some(Duration::ZERO)).unwrap();
        while real.el.next_event().is_some() {}
        if round % 7 == 0 {
            read_some(&mut client, &mut got);
        }
    }
    real.run_until(|_| {
        read_some(&mut client, &mut got);
        got.len() >= sent.len()
    });
    assert!(got == sent);
}

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

#[test]
fn promise_09_without_descriptors_accepting_pauses_and_resumes_by_itself() {
    use echoloop_core::sys::{Sim, SimOptions};
    let sim = Sim::new(SimOptions::kind(9));
    let mut el = EventLoop::with_system(sim.clone(), LoopOptions::default()).unwrap();
    let addr = "10.0.0.2:7";
    let listener = el.listen(addr, &ListenOptions::default()).unwrap();
    let _peer = sim.connect_to(addr);
    let emfile = nix::errno::Errno::EMFILE as i32;
    sim.fail_accept(emfile);
    sim.fail_accept(emfile);
    let mut events = Vec::new();
    for _ in 0..100 {
        el.poll(None).unwrap();
        while let Some(e) = el.next_event() {
            events.push(e);
        }
    }
    assert_eq!(
        events[..2],
        [
            Event::AcceptPaused {
                listener,
                errno: emfile
            },
            Event::AcceptResumed { listener },
        ]
    );
    assert!(
        matches!(events[2..], [Event::Accepted { .. }]),
        "{events:?}"
    );
    // It waited a tenth of a second between the tries.
    assert!(el.now() >= Duration::from_millis(200), "{:?}", el.now());
}

#[test]
fn promise_10_a_dead_peer_is_an_event() {
    let mut real = Real::new(ConnOptions::default());
    let (client, conn) = real.pair();
    reset(client);
    let mut view = real.el.conn(conn).unwrap();
    // Whether the send notices or not, nothing is raised and the end is one event.
    let _ = view.send(&vec![0; 1 << 20]);
    assert_eq!(reason_of(real.until_closed(conn)), CloseReason::Reset);
}

#[test]
fn promise_13_timers_are_never_early_and_fire_in_order() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let mut random = Random::new(13);
    let mut due = std::collections::HashMap::new();
    for _ in 0..2000 {
        let delay = Duration::from_micros(random.below(200_000));
        let before = Instant::now();
        due.insert(
            el.add_timer(TimerSpec::after(delay)).unwrap(),
            before + delay,
        );
    }
    let mut last = None;
    let deadline = Instant::now() + PATIENCE;
    while !due.is_empty() {
        assert!(Instant::now() < deadline);
        el.poll(None).unwrap();
        let mut turn = Vec::new();
        while let Some(Event::Timer { timer }) = el.next_event() {
            let at = due.remove(&timer).expect("fires once");
            assert!(Instant::now() >= at, "early");
            turn.push(at);
        }
        // Within the error of reading the clock beside the loop's reading it.
        assert!(turn.is_sorted_by(|a, b| *a <= *b + Duration::from_millis(1)));
        last = turn.last().copied().or(last);
    }
    assert_eq!(
        el.live_handles(),
        0,
        "one-shot timers are gone after their event"
    );
}

#[test]
fn promise_13_periods_do_not_drift_and_missed_ones_are_skipped() {
    use echoloop_core::sys::{Sim, SimOptions};
    let sim = Sim::new(SimOptions::kind(13));
    let mut el = EventLoop::with_system(sim.clone(), LoopOptions::default()).unwrap();
    let period = Duration::from_millis(10);
    let timer = el.add_timer(TimerSpec::every(period).user_data(5)).unwrap();
    assert_eq!(el.timer_user_data(timer).unwrap(), 5);
    let mut times = Vec::new();
    while times.len() < 5 {
        el.poll(None).unwrap();
        while el.next_event().is_some() {
            times.push(el.now());
            sim.advance(Duration::from_millis(3)); // The handler takes its time.
        }
    }
    assert_eq!(times, [1, 2, 3, 4, 5].map(|n| n * period));
    sim.advance(Duration::from_millis(34)); // Three periods are missed.
    el.poll(None).unwrap();
    assert_eq!(el.next_event(), Some(Event::Timer { timer }));
    assert_eq!(el.next_event(), None, "missed periods are not made up for");
    el.poll(None).unwrap();
    assert_eq!(el.next_event(), Some(Event::Timer { timer }));
    assert_eq!(el.now(), 9 * period);
    el.cancel_timer(timer).unwrap();
    assert_eq!(el.live_handles(), 0);
}

#[test]
fn promise_13_timers_can_be_cancelled_and_re_armed_even_when_due() {
    use echoloop_core::sys::{Sim, SimOptions};
    let sim = Sim::new(SimOptions::kind(13));
    let mut el = EventLoop::with_system(sim.clone(), LoopOptions::default()).unwrap();
    let ms = Duration::from_millis;
    let [a, b, c] = [1, 2, 3].map(|n| el.add_timer(TimerSpec::after(ms(n))).unwrap());
    sim.advance(ms(5));
    el.poll(None).unwrap();
    assert_eq!(el.next_event(), Some(Event::Timer { timer: a }));
    el.cancel_timer(b).unwrap();
    el.rearm_timer(c, ms(10)).unwrap();
    el.rearm_timer(a, ms(20)).unwrap(); // A one-shot timer lives on if its handler says so.
    assert_eq!(el.next_event(), None);
    el.poll(None).unwrap();
    assert_eq!(
        (el.next_event(), el.now()),
        (Some(Event::Timer { timer: c }), ms(15))
    );
    el.poll(None).unwrap();
    assert_eq!(
        (el.next_event(), el.now()),
        (Some(Event::Timer { timer: a }), ms(25))
    );
    assert_eq!(el.next_event(), None);
    assert_eq!(
        el.rearm_timer(a, ms(1)).unwrap_err().kind(),
        ErrorKind::BadHandle
    );
}

#[test]
fn promise_13_an_idle_deadline_moves_with_the_traffic() {
    let idle = Duration::from_millis(200);
    let mut real = Real::new(ConnOptions {
        idle_timeout: Some(idle),
        ..ConnOptions::default()
    });
    let (mut client, conn) = real.pair();
    let start = Instant::now();
    let mut last = start;
    while start.elapsed() < 3 * idle {
        last = Instant::now();
        client.write_all(b"x").unwrap();
        real.until(|el, e| match e {
            Event::Data { conn } => {
                el.conn(conn).unwrap().consume(1);
                Some(())
            }
            other => panic!("{other:?} although it talks"),
        });
    }
    assert_eq!(
        reason_of(real.until_closed(conn)),
        CloseReason::TimedOut(Deadline::Idle)
    );
    assert!(last.elapsed() >= idle);
}

#[test]
fn promise_15_posts_arrive_exactly_once_and_in_order() {
    const POSTS: u64 = 10_000;
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let posters: Vec<_> = (0..4)
        .map(|poster| {
            let remote = el.remote();
            thread::spawn(move || {
                for n in 0..POSTS {
                    remote.post(poster << 32 | n).unwrap();
                }
            })
        })
        .collect();
    let mut next = [0; 4];
    let deadline = Instant::now() + PATIENCE;
    while next != [POSTS; 4] {
        assert!(Instant::now() < deadline, "{next:?}");
        el.poll(Some(PATIENCE)).unwrap();
        while let Some(Event::Posted { word }) = el.next_event() {
            let poster = (word >> 32) as usize;
            assert_eq!(word & 0xffff_ffff, next[poster]);
            next[poster] += 1;
        }
    }
    posters.into_iter().for_each(|p| p.join().unwrap());
    let remote = el.remote();
    remote.wake().unwrap();
    el.poll(None).unwrap(); // Would block for ever.
    assert_eq!(el.next_event(), None);
    drop(el);
    for result in [remote.post(1), remote.stop(), remote.wake()] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[test]
fn promise_15_stop_is_remembered_before_the_loop_runs() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let remote = el.remote();
    thread::spawn(move || remote.stop().and(remote.stop()))
        .join()
        .unwrap()
        .unwrap();
    el.poll(None).unwrap();
    assert_eq!(el.next_event(), Some(Event::Stop));
    assert_eq!(el.next_event(), None);
}

#[test]
fn promise_15_posts_are_bounded() {
    let options = LoopOptions {
        post_capacity: 3,
        ..LoopOptions::default()
    };
    let mut el = EventLoop::new(options).unwrap();
    let remote = el.remote();
    (0..3).for_each(|n| remote.post(n).unwrap());
    assert_eq!(remote.post(3).unwrap_err().kind(), ErrorKind::QueueFull);
    el.poll(None).unwrap();
    assert_eq!(el.next_event(), Some(Event::Posted { word: 0 }));
    remote.post(4).unwrap();
}

#[test]
fn promise_16_errors_carry_operation_address_name_number_and_text() {
    let real = Real::new(ConnOptions::default());
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let error = el.listen(real.addr, &ListenOptions::default()).unwrap_err();
    assert_eq!(error.operation(), "listen");
    assert_eq!(error.target(), Some(&real.addr.into()));
    assert_eq!(error.errno(), Some(nix::errno::Errno::EADDRINUSE as i32));
    let text = format!("listen {}: Address already in use (EADDRINUSE)", real.addr);
    assert_eq!(error.to_string(), text);
}
