//! One-shot `poll` and `select`: what they find, their times, and descriptors that are dead.

mod util;

use std::fs::File;
use std::io::{Write, pipe};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use echoloop_core::{ErrorKind, Interest, PollFd, Readiness, Selection, poll, select};
use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::Signal;
use rustix::event::{EventfdFlags, eventfd};
use util::real::PATIENCE;
use util::watching::{high, high_pipe, raise_limit};

const NO_TIME: Option<Duration> = Some(Duration::ZERO);

fn numbers(fds: &[BorrowedFd<'_>]) -> Vec<i32> {
    fds.iter().map(AsRawFd::as_raw_fd).collect()
}

/// The number of a descriptor that is not open, as a program in another language would give it.
fn dead(lowest: i32) -> BorrowedFd<'static> {
    let fd = high_pipe(lowest).0.as_raw_fd();
    // SAFETY: nothing is ever read from it or written to it; that it is not open is the test.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

fn assert_empty(found: &Selection<'_>) {
    let lists = [&found.readable, &found.writable, &found.exceptional];
    assert!(lists.iter().all(|l| l.is_empty()), "{found:?}");
}

#[test]
fn poll_tells_of_each_what_it_is_ready_for() {
    let (a, mut b) = UnixStream::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    let (reader, writer) = pipe().unwrap();
    drop(writer);
    let both = Interest::READABLE | Interest::WRITABLE;
    let mut fds = [
        PollFd::new(&a, Interest::READABLE),
        PollFd::new(&a, both),
        PollFd::new(&null, both),
        PollFd::new(&reader, Interest::READABLE),
        PollFd::new(&reader, Interest::NONE),
    ];
    let ready = Readiness::READABLE.and(Readiness::WRITABLE, true);
    assert_eq!(poll(&mut fds, None).unwrap(), 4);
    assert!(fds[0].readiness().is_empty());
    assert_eq!(fds[1].readiness(), Readiness::WRITABLE);
    assert_eq!(fds[2].readiness(), ready);
    assert!(fds[3].readiness().is_hang_up() && fds[3].readiness().is_readable());
    assert!(fds[4].readiness().is_hang_up() && !fds[4].readiness().is_readable());
    b.write_all(b"x").unwrap();
    assert_eq!(poll(&mut fds, None).unwrap(), 5);
    assert_eq!(fds[0].readiness(), Readiness::READABLE);
    assert_eq!(fds[1].readiness(), ready);
    assert_eq!(fds[1].fd().as_raw_fd(), a.as_raw_fd());
}

#[test]
fn poll_marks_a_dead_descriptor_and_tells_of_the_others() {
    let (_reader, writer) = pipe().unwrap();
    let mut fds = [
        PollFd::new(&writer, Interest::WRITABLE),
        PollFd::from_borrowed(dead(6_000), Interest::NONE),
    ];
    assert_eq!(poll(&mut fds, None).unwrap(), 2);
    assert!(fds[0].readiness().is_writable() && !fds[0].readiness().is_invalid());
    assert!(fds[1].readiness().is_invalid());
}

#[test]
fn select_sorts_what_it_finds_into_three_lists() {
    let (a, b) = UnixStream::pair().unwrap();
    let (c, _d) = UnixStream::pair().unwrap();
    let all = [c.as_fd(), a.as_fd(), b.as_fd()];
    let found = select(&all, &[], &all, NO_TIME).unwrap();
    assert_empty(&found);
    (&b).write_all(b"x").unwrap();
    let found = select(&all, &all, &all, None).unwrap();
    assert_eq!(numbers(&found.readable), [a.as_raw_fd()]);
    assert_eq!(numbers(&found.writable), numbers(&all), "in their order");
    assert_empty(&Selection {
        readable: Vec::new(),
        writable: Vec::new(),
        ..found
    });
}

#[test]
fn select_finds_urgent_data_exceptional() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    let client = socket2::Socket::from(client);
    client.send_out_of_band(b"!").unwrap();
    let fds = [server.as_fd()];
    let found = select(&[], &[], &fds, Some(PATIENCE)).unwrap();
    assert_eq!(found.exceptional.len(), 1);
    let found = select(&fds, &[], &fds, Some(PATIENCE)).unwrap();
    assert_eq!((found.readable.len(), found.exceptional.len()), (0, 1));
}

#[test]
fn select_names_the_dead_descriptor_whatever_else_is_ready() {
    let (reader, writer) = pipe().unwrap();
    let (one, other) = (dead(6_100), dead(6_200));
    for lists in [
        [
            vec![reader.as_fd(), one, other],
            vec![writer.as_fd()],
            vec![],
        ],
        [vec![], vec![writer.as_fd(), one], vec![other]],
        [vec![], vec![writer.as_fd()], vec![one]],
    ] {
        let e = select(&lists[0], &lists[1], &lists[2], None).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::BadDescriptor(one.as_raw_fd()));
        assert!(e.to_string().contains(&one.as_raw_fd().to_string()), "{e}");
    }
}

#[test]
fn select_does_not_spin_on_a_hang_up_that_nobody_asked_for() {
    let (hung_up, _) = UnixStream::pair().unwrap();
    let (quiet, _peer) = UnixStream::pair().unwrap();
    let a_while = Duration::from_millis(80);
    let cpu = util::watching::cpu_time();
    let start = Instant::now();
    let found = select(&[quiet.as_fd()], &[], &[hung_up.as_fd()], Some(a_while)).unwrap();
    assert_empty(&found);
    assert!((a_while..PATIENCE).contains(&start.elapsed()));
    assert!(util::watching::cpu_time() - cpu < a_while / 4);
}

#[test]
fn times_are_kept_from_nothing_to_for_ever() {
    let (reader, mut writer) = pipe().unwrap();
    let mut fds = [PollFd::new(&reader, Interest::READABLE)];
    let reading = [reader.as_fd()];
    for time in [
        Duration::ZERO,
        Duration::from_micros(300),
        Duration::from_millis(30),
    ] {
        let start = Instant::now();
        assert_eq!(poll(&mut fds, Some(time)).unwrap(), 0);
        assert_empty(&select(&reading, &[], &[], Some(time)).unwrap());
        assert_eq!(poll(&mut [], Some(time)).unwrap(), 0);
        assert_empty(&select(&[], &[], &[], Some(time)).unwrap());
        assert!((4 * time..PATIENCE).contains(&start.elapsed()));
    }
    writer.write_all(b"x").unwrap();
    for time in [
        None,
        Some(Duration::MAX),
        Some(Duration::from_secs(1 << 40)),
    ] {
        assert_eq!(poll(&mut fds, time).unwrap(), 1);
        assert_eq!(select(&reading, &[], &[], time).unwrap().readable.len(), 1);
    }
}

#[test]
fn there_is_no_limit_of_1024() {
    raise_limit();
    let fds: Vec<OwnedFd> = (0..2000)
        .map(|_| high(eventfd(1, EventfdFlags::CLOEXEC).unwrap(), 1024))
        .collect();
    let mut entries: Vec<_> = fds
        .iter()
        .map(|fd| PollFd::new(fd, Interest::READABLE))
        .collect();
    assert_eq!(poll(&mut entries, NO_TIME).unwrap(), 2000);
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let found = select(&borrowed, &borrowed, &borrowed, NO_TIME).unwrap();
    assert_eq!((found.readable.len(), found.writable.len()), (2000, 2000));
}

#[test]
fn one_descriptor_may_be_given_more_often_than_descriptors_may_be_open() {
    let (_reader, writer) = pipe().unwrap();
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let times = soft as usize + 10; // poll(2) itself answers EINVAL.
    let mut entries = vec![PollFd::new(&writer, Interest::WRITABLE); times];
    assert_eq!(poll(&mut entries, NO_TIME).unwrap(), times);
    let found = select(&[], &vec![writer.as_fd(); times], &[], NO_TIME).unwrap();
    assert_eq!(found.writable.len(), times);
}

#[test]
fn a_signal_ends_both_early_with_nothing() {
    let flag = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&flag)).unwrap();
    let (reader, _writer) = pipe().unwrap();
    let waiting = pthread_self() as u64;
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    // Sent again and again, since nobody can tell when the wait has begun.
    let sender = thread::spawn(move || {
        while !is_over.load(Ordering::Relaxed) {
            pthread_kill(waiting as _, Signal::SIGUSR1).unwrap();
            thread::sleep(Duration::from_millis(10));
        }
    });
    let start = Instant::now();
    let mut fds = [PollFd::new(&reader, Interest::READABLE)];
    assert_eq!(poll(&mut fds, Some(PATIENCE)).unwrap(), 0);
    let found = select(&[reader.as_fd()], &[], &[], Some(PATIENCE)).unwrap();
    over.store(true, Ordering::Relaxed);
    sender.join().unwrap();
    assert_empty(&found);
    assert!(start.elapsed() < PATIENCE / 2);
    assert!(flag.load(Ordering::Relaxed));
}
