//! Selectors and one-shot waits from C: modes, short arrays, threads that meet, descriptors that die.
//!
//! The functions are called from Rust, through the rlib, as C would call them.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call is one that C could make"
)]

use std::ffi::{CStr, c_int};
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use ::echoloop::*;

const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_US: i64 = 10_000_000;
const FOR_EVER: i64 = -1;

fn new_selector() -> *mut echoloop_selector {
    let mut selector = ptr::null_mut();
    assert_eq!(unsafe { echoloop_selector_new(&mut selector) }, 0);
    selector
}

fn register(selector: *mut echoloop_selector, fd: &impl AsRawFd, mode: c_int, key: u64) {
    let fd = fd.as_raw_fd();
    let registered = echoloop_selector_register(selector, fd, ECHOLOOP_READABLE, mode, key);
    assert_eq!(registered, 0);
}

fn try_wait(
    selector: *mut echoloop_selector,
    capacity: usize,
    timeout_us: i64,
) -> Result<Vec<echoloop_ready>, c_int> {
    let nothing = echoloop_ready {
        fd: -1,
        readiness: 0,
        key: 0,
    };
    let mut ready = vec![nothing; capacity];
    let n = unsafe { echoloop_selector_wait(selector, ready.as_mut_ptr(), capacity, timeout_us) };
    if n < 0 {
        return Err(n);
    }
    assert!(ready[n as usize..].iter().all(|ready| *ready == nothing));
    ready.truncate(n as usize);
    Ok(ready)
}

/// The keys of those that are ready, sorted.
fn keys(selector: *mut echoloop_selector, timeout_us: i64) -> Vec<u64> {
    let ready = try_wait(selector, 64, timeout_us).unwrap();
    let mut keys: Vec<u64> = ready.iter().map(|ready| ready.key).collect();
    keys.sort_unstable();
    keys
}

fn pipes<const N: usize>() -> [(PipeReader, PipeWriter); N] {
    std::array::from_fn(|_| pipe().unwrap())
}

#[test]
fn each_mode_tells_as_it_says() {
    let selector = new_selector();
    let [
        (mut level, mut to_level),
        (mut edge, mut to_edge),
        (mut once, mut to_once),
    ] = pipes();
    register(selector, &level, ECHOLOOP_WATCH_LEVEL, 1);
    register(selector, &edge, ECHOLOOP_WATCH_EDGE, 2);
    register(selector, &once, ECHOLOOP_WATCH_ONCE, u64::MAX);
    assert_eq!(keys(selector, 0), []);
    for writer in [&mut to_level, &mut to_edge, &mut to_once] {
        writer.write_all(b"x").unwrap();
    }
    assert_eq!(keys(selector, PATIENCE_US), [1, 2, u64::MAX]);
    assert_eq!(keys(selector, 0), [1]);
    for writer in [&mut to_edge, &mut to_once] {
        writer.write_all(b"x").unwrap();
    }
    assert_eq!(keys(selector, 0), [1, 2]);
    let fd = once.as_raw_fd();
    assert_eq!(echoloop_selector_modify(selector, fd, ECHOLOOP_READABLE), 0);
    assert_eq!(keys(selector, 0), [1, u64::MAX]);

    level.read_exact(&mut [0]).unwrap();
    assert_eq!(keys(selector, 0), []);
    drop(to_level);
    let end = try_wait(selector, 4, PATIENCE_US).unwrap();
    let expected = echoloop_ready {
        fd: level.as_raw_fd(),
        readiness: ECHOLOOP_READABLE | ECHOLOOP_READ_CLOSED | ECHOLOOP_HANG_UP,
        key: 1,
    };
    assert_eq!(end, [expected]);
    assert_eq!(echoloop_selector_unregister(selector, level.as_raw_fd()), 0);
    assert_eq!(keys(selector, 0), []);
    for reader in [&mut edge, &mut once] {
        reader.read_exact(&mut [0; 2]).unwrap();
    }
    assert_eq!(echoloop_selector_free(selector), 0);
}

#[test]
fn what_a_short_array_has_no_room_for_is_told_by_the_next_waits() {
    let selector = new_selector();
    let mut pipes: [(PipeReader, PipeWriter); 5] = pipes();
    for (n, (reader, writer)) in pipes.iter_mut().enumerate() {
        register(selector, reader, ECHOLOOP_WATCH_ONCE, n as u64);
        writer.write_all(b"x").unwrap();
    }
    let mut told = Vec::new();
    for expected in [2, 2, 1] {
        // What is left over is not waited for.
        let ready = try_wait(selector, 2, PATIENCE_US).unwrap();
        assert_eq!(ready.len(), expected);
        told.extend(ready.iter().map(|ready| ready.key));
    }
    told.sort_unstable();
    assert_eq!(told, [0, 1, 2, 3, 4]);
    assert_eq!(keys(selector, 0), []);

    // What is left over of one that was unregistered, or asked for something else, is not told.
    for (reader, _) in &pipes {
        let fd = reader.as_raw_fd();
        assert_eq!(echoloop_selector_modify(selector, fd, ECHOLOOP_READABLE), 0);
    }
    let first = try_wait(selector, 1, PATIENCE_US).unwrap()[0].key;
    let others: Vec<u64> = (0..5).filter(|n| *n != first).collect();
    let fd = |n: u64| pipes[n as usize].0.as_raw_fd();
    assert_eq!(echoloop_selector_unregister(selector, fd(others[0])), 0);
    assert_eq!(
        echoloop_selector_modify(selector, fd(others[1]), ECHOLOOP_PRIORITY),
        0
    );
    assert_eq!(keys(selector, PATIENCE_US), others[2..]);
    assert_eq!(keys(selector, 0), []);
    assert_eq!(echoloop_selector_free(selector), 0);
}

#[test]
fn files_are_ready_and_a_dead_descriptor_is_told_once_by_its_number() {
    let selector = new_selector();
    let null = File::open("/dev/null").unwrap();
    register(selector, &null, ECHOLOOP_WATCH_LEVEL, 1);
    assert_eq!(keys(selector, PATIENCE_US), [1]);
    assert_eq!(keys(selector, PATIENCE_US), [1]);
    assert_eq!(echoloop_selector_unregister(selector, null.as_raw_fd()), 0);

    let [(reader, _writer)] = pipes();
    let high = unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 700) };
    let file = unsafe { File::from_raw_fd(high) };
    register(selector, &file, ECHOLOOP_WATCH_LEVEL, 2);
    drop(file);
    let dead = echoloop_ready {
        fd: high,
        readiness: ECHOLOOP_INVALID,
        key: 2,
    };
    assert_eq!(try_wait(selector, 4, PATIENCE_US).unwrap(), [dead]);
    assert_eq!(keys(selector, 0), []);
    assert_eq!(echoloop_selector_unregister(selector, high), -libc::ENOENT);
    assert_eq!(echoloop_selector_free(selector), 0);
}

#[test]
fn what_is_wrong_with_a_call_is_said() {
    let selector = new_selector();
    let [(reader, _writer)] = pipes();
    let fd = reader.as_raw_fd();
    let on = |fd, interest, mode| echoloop_selector_register(selector, fd, interest, mode, 0);
    assert_eq!(on(-1, 1, 0), -libc::EBADF);
    assert_eq!(on(998, 1, 0), -libc::EBADF);
    assert_eq!(on(fd, 1 | ECHOLOOP_HANG_UP, 0), ECHOLOOP_EINVAL);
    assert_eq!(on(fd, 1, 3), ECHOLOOP_EINVAL);
    assert_eq!(echoloop_selector_modify(selector, fd, 1), -libc::ENOENT);
    assert_eq!(echoloop_selector_unregister(selector, fd), -libc::ENOENT);
    assert_eq!(echoloop_selector_unregister(selector, -7), -libc::ENOENT);
    assert_eq!(on(fd, 1, 0), 0);
    assert_eq!(on(fd, 1, 0), -libc::EEXIST);
    assert_eq!(echoloop_selector_modify(selector, fd, -1), ECHOLOOP_EINVAL);
    let wait = |capacity| unsafe { echoloop_selector_wait(selector, ptr::null_mut(), capacity, 0) };
    assert_eq!(wait(1), ECHOLOOP_ENULL);
    assert_eq!(try_wait(selector, 0, 0), Err(ECHOLOOP_EINVAL));
    let nowhere = unsafe { echoloop_selector_new(ptr::null_mut()) };
    assert_eq!(nowhere, ECHOLOOP_ENULL);

    assert_eq!(echoloop_selector_free(selector), 0);
    let el = unsafe { echoloop_new(ptr::null()) };
    for wrong in [selector, ptr::null_mut(), el.cast()] {
        assert_eq!(
            echoloop_selector_register(wrong, fd, 1, 0, 0),
            ECHOLOOP_EBADHANDLE
        );
        assert_eq!(echoloop_selector_modify(wrong, fd, 1), ECHOLOOP_EBADHANDLE);
        assert_eq!(echoloop_selector_unregister(wrong, fd), ECHOLOOP_EBADHANDLE);
        assert_eq!(try_wait(wrong, 1, 0), Err(ECHOLOOP_EBADHANDLE));
        assert_eq!(echoloop_selector_wake(wrong), ECHOLOOP_EBADHANDLE);
        assert_eq!(echoloop_selector_free(wrong), ECHOLOOP_EBADHANDLE);
    }
    let selector = new_selector();
    assert_eq!(echoloop_free(selector.cast()), ECHOLOOP_EBADHANDLE);
    assert_eq!(
        i64::from(ECHOLOOP_EBADHANDLE),
        echoloop_now_us(selector.cast())
    );
    assert_eq!(echoloop_selector_free(selector), 0);
    assert_eq!(echoloop_free(el), 0);
}

#[test]
fn a_wake_ends_the_wait_of_now_or_the_next_one() {
    let selector = new_selector();
    assert_eq!(echoloop_selector_wake(selector), 0);
    let before = Instant::now();
    assert_eq!(keys(selector, PATIENCE_US), []);
    assert!(before.elapsed() < PATIENCE);
    for timeout_us in [FOR_EVER, i64::MAX, i64::MIN] {
        let waits = waiter(selector, timeout_us);
        assert_eq!(echoloop_selector_wake(selector), 0);
        assert_eq!(waits.recv_timeout(PATIENCE), Ok(Ok(0)));
    }
    let before = Instant::now();
    assert_eq!(keys(selector, 20_000), []);
    assert!(before.elapsed() >= Duration::from_millis(20));
    assert_eq!(echoloop_selector_free(selector), 0);
}

/// A thread that waits on a selector; what comes of it.
fn waiter(selector: *mut echoloop_selector, timeout_us: i64) -> Receiver<Result<usize, c_int>> {
    let address = selector.addr();
    let (told, outcome) = channel();
    thread::spawn(move || {
        let selector = ptr::without_provenance_mut(address);
        let waited = try_wait(selector, 8, timeout_us);
        told.send(waited.map(|ready| ready.len())).unwrap();
    });
    let deadline = Instant::now() + PATIENCE;
    while echoloop_selector_unregister(selector, -1) != ECHOLOOP_EREENTRY {
        assert!(Instant::now() < deadline, "nobody waits");
        thread::yield_now();
    }
    outcome
}

#[test]
fn while_a_thread_waits_others_may_wake_and_free_and_no_more() {
    let selector = new_selector();
    let [(reader, mut writer)] = pipes();
    let fd = reader.as_raw_fd();
    register(selector, &reader, ECHOLOOP_WATCH_LEVEL, 7);
    let waits = waiter(selector, FOR_EVER);
    let busy = ECHOLOOP_EREENTRY;
    assert_eq!(echoloop_selector_register(selector, 0, 1, 0, 0), busy);
    assert_eq!(echoloop_selector_modify(selector, fd, 1), busy);
    assert_eq!(echoloop_selector_unregister(selector, fd), busy);
    assert_eq!(try_wait(selector, 1, 0), Err(busy));
    writer.write_all(b"x").unwrap();
    assert_eq!(waits.recv_timeout(PATIENCE), Ok(Ok(1)));
    assert_eq!(echoloop_selector_modify(selector, fd, 0), 0);

    let waits = waiter(selector, FOR_EVER);
    assert_eq!(echoloop_selector_free(selector), 0);
    let ended = waits.recv_timeout(PATIENCE);
    assert_eq!(ended, Ok(Err(ECHOLOOP_ECLOSED)));
    assert_eq!(echoloop_selector_wake(selector), ECHOLOOP_EBADHANDLE);
}

#[test]
fn any_thread_may_have_its_turn_with_a_selector() {
    let selector = new_selector();
    let [(reader, mut writer)] = pipes();
    writer.write_all(b"x").unwrap();
    let address = selector.addr();
    let fd = reader.as_raw_fd();
    thread::spawn(move || {
        let selector = ptr::without_provenance_mut(address);
        assert_eq!(echoloop_selector_register(selector, fd, 1, 0, 7), 0);
    })
    .join()
    .unwrap();
    assert_eq!(keys(selector, PATIENCE_US), [7]);
    let freed = thread::spawn(move || {
        echoloop_selector_free(ptr::without_provenance_mut::<echoloop_selector>(address))
    });
    assert_eq!(freed.join().unwrap(), 0);
}

fn pollfd(fd: c_int, interest: c_int) -> echoloop_pollfd {
    echoloop_pollfd {
        fd,
        interest,
        readiness: 99,
        reserved: 0,
    }
}

fn poll(fds: &mut [echoloop_pollfd], timeout_us: i64) -> c_int {
    unsafe { echoloop_poll(fds.as_mut_ptr(), fds.len(), timeout_us) }
}

#[test]
fn poll_tells_of_each_entry_what_it_is_ready_for() {
    let [(reader, mut writer), (silent, _open)] = pipes();
    writer.write_all(b"x").unwrap();
    let (readable, writable) = (ECHOLOOP_READABLE, ECHOLOOP_WRITABLE);
    let mut fds = [
        pollfd(silent.as_raw_fd(), readable),
        pollfd(-1, readable),
        pollfd(reader.as_raw_fd(), readable),
        pollfd(c_int::MIN, 0),
        pollfd(writer.as_raw_fd(), writable),
        pollfd(997, readable),
        pollfd(reader.as_raw_fd(), 0),
    ];
    assert_eq!(poll(&mut fds, PATIENCE_US), 3);
    let found: Vec<c_int> = fds.iter().map(|entry| entry.readiness).collect();
    assert_eq!(found, [0, 0, readable, 0, writable, ECHOLOOP_INVALID, 0]);

    let before = Instant::now();
    assert_eq!(poll(&mut fds[..2], 20_000), 0);
    assert_eq!(poll(&mut [], 20_000), 0);
    assert!(before.elapsed() >= Duration::from_millis(40));
    assert_eq!(unsafe { echoloop_poll(ptr::null_mut(), 0, 0) }, 0);
    assert_eq!(
        unsafe { echoloop_poll(ptr::null_mut(), 1, 0) },
        ECHOLOOP_ENULL
    );
    let beyond = unsafe { echoloop_poll(fds.as_mut_ptr(), usize::MAX, 0) };
    assert_eq!(beyond, ECHOLOOP_EINVAL);
    let mut wrong = [pollfd(silent.as_raw_fd(), 1), pollfd(-1, 8)];
    assert_eq!(poll(&mut wrong, 0), ECHOLOOP_EINVAL);
    assert_eq!(wrong[0].readiness, 99, "written on failure");
}

fn select(lists: [&mut [c_int]; 3], timeout_us: i64) -> c_int {
    let [readers, writers, exceptional] = lists;
    unsafe {
        echoloop_select(
            readers.as_mut_ptr(),
            readers.len(),
            writers.as_mut_ptr(),
            writers.len(),
            exceptional.as_mut_ptr(),
            exceptional.len(),
            timeout_us,
        )
    }
}

#[test]
fn select_leaves_those_that_are_ready_and_names_the_dead() {
    let [(reader, mut writer), (silent, open)] = pipes();
    let (ready, silent) = (reader.as_raw_fd(), silent.as_raw_fd());
    let (to_ready, to_silent) = (writer.as_raw_fd(), open.as_raw_fd());
    writer.write_all(b"x").unwrap();
    let mut readers = [silent, ready, -1, silent, ready];
    let mut writers = [to_ready, to_silent];
    let mut exceptional = [ready];
    let lists = [&mut readers[..], &mut writers, &mut exceptional];
    assert_eq!(select(lists, PATIENCE_US), 4);
    assert_eq!(readers, [-1, ready, -1, -1, ready]);
    assert_eq!(writers, [to_ready, to_silent]);
    assert_eq!(exceptional, [-1]);

    let before = Instant::now();
    let mut none = [silent];
    assert_eq!(select([&mut none, &mut [], &mut []], 20_000), 0);
    assert_eq!(none, [-1]);
    assert!(before.elapsed() >= Duration::from_millis(20));

    let mut dead = [ready, 996];
    assert_eq!(select([&mut dead, &mut [], &mut []], 0), -libc::EBADF);
    assert_eq!(dead, [ready, 996], "written on failure");
    let text = unsafe { CStr::from_ptr(echoloop_last_error()) };
    assert!(text.to_str().unwrap().contains("996"), "{text:?}");

    let wrong = |readers, n| unsafe {
        echoloop_select(readers, n, ptr::null_mut(), 0, ptr::null_mut(), 0, 0)
    };
    assert_eq!(wrong(ptr::null_mut(), 1), ECHOLOOP_ENULL);
    assert_eq!(wrong(dead.as_mut_ptr(), usize::MAX), ECHOLOOP_EINVAL);
    assert_eq!(wrong(ptr::null_mut(), 0), 0);
}
