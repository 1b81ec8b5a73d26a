//! Promises 1 to 4 of the design, each by tests of its name, on the real system: waiting, handles,
//! ends, sends. `random_pieces` tests 2 to 7 further, on the simulated one.

mod util;

use std::io::Write;
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use echoloop_core::{
    CloseReason, ConnId, ConnOptions, ConnectOptions, Deadline, ErrorKind, Event, EventLoop,
    ListenerId, LoopOptions, TimerId, TimerSpec,
};
use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::Signal;
use util::Random;
use util::real::{PATIENCE, Real, read_some, reason_of, reset};

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
