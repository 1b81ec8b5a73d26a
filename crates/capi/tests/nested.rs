//! A loop within a program's own poll(2): its descriptor and its next deadline, as C has them.
//!
//! The functions are called from Rust, through the rlib, as C would call them.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call is one that C could make"
)]

use std::ffi::{c_int, c_void};
use std::ptr;
use std::time::{Duration, Instant};

use ::echoloop::*;

const PATIENCE_MS: c_int = 10_000;

fn new_loop() -> *mut echoloop {
    let el = unsafe { echoloop_new(ptr::null()) };
    assert!(!el.is_null());
    el
}

fn timer(el: *mut echoloop, delay_us: i64) -> *mut echoloop_timer {
    let mut timer = ptr::null_mut();
    let made = unsafe { echoloop_timer_new(el, delay_us, 0, ptr::null_mut(), &mut timer) };
    assert_eq!(made, 0);
    timer
}

fn remote(el: *mut echoloop) -> *mut echoloop_remote {
    let mut remote = ptr::null_mut();
    assert_eq!(unsafe { echoloop_remote_new(el, &mut remote) }, 0);
    remote
}

/// The program's own wait. Answers whether the descriptor is readable.
fn asks(fd: c_int, timeout_ms: c_int) -> bool {
    let mut entry = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    unsafe { libc::poll(&mut entry, 1, timeout_ms) > 0 }
}

fn batch(el: *mut echoloop, capacity: usize) -> Vec<u32> {
    let mut events = vec![unsafe { std::mem::zeroed::<echoloop_event>() }; capacity];
    let n = unsafe { echoloop_poll_batch(el, events.as_mut_ptr(), capacity, 0) };
    assert!(n >= 0, "{n}");
    events[..n as usize].iter().map(|e| e.r#type).collect()
}

/// Takes turns as often as the descriptor asks, until it asks no more; all that was told.
fn rest(el: *mut echoloop, fd: c_int) -> Vec<u32> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut told = Vec::new();
    while asks(fd, 20) {
        told.extend(batch(el, 16));
        assert!(Instant::now() < deadline, "never at rest");
    }
    told
}

fn next_deadline(el: *mut echoloop) -> Option<i64> {
    let mut us = -1;
    match unsafe { echoloop_next_deadline(el, &mut us) } {
        0 => None,
        1 => Some(us),
        status => panic!("{status}"),
    }
}

#[test]
fn the_descriptor_is_readable_exactly_when_a_turn_has_something_to_tell() {
    let el = new_loop();
    let fd = echoloop_fd(el);
    assert!(fd >= 0);
    assert_eq!(rest(el, fd), []);
    assert_eq!(echoloop_fd(el), fd);

    let before = Instant::now();
    timer(el, 30_000);
    assert!(asks(fd, PATIENCE_MS));
    assert!(before.elapsed() >= Duration::from_millis(30));
    assert_eq!(rest(el, fd), [ECHOLOOP_EVENT_TIMER]);

    let remote = remote(el);
    assert_eq!(echoloop_remote_post(remote, ptr::null_mut()), 0);
    assert_eq!(rest(el, fd), [ECHOLOOP_EVENT_POSTED]);
    assert_eq!(echoloop_remote_stop(remote), 0);
    assert_eq!(rest(el, fd), [ECHOLOOP_EVENT_STOP]);
    // Known to nobody but the C functions.
    assert_eq!(echoloop_stop(el), 0);
    assert_eq!(rest(el, fd), [ECHOLOOP_EVENT_STOP]);
    assert_eq!(echoloop_remote_free(remote), 0);
    assert_eq!(echoloop_free(el), 0);
}

#[test]
fn a_batch_that_leaves_events_behind_leaves_the_descriptor_readable() {
    let el = new_loop();
    let fd = echoloop_fd(el);
    let remote = remote(el);
    for _ in 0..3 {
        assert_eq!(echoloop_remote_post(remote, ptr::null_mut()), 0);
    }
    for _ in 0..3 {
        assert!(asks(fd, 0), "asleep with an event at hand");
        assert_eq!(batch(el, 1), [ECHOLOOP_EVENT_POSTED]);
    }
    assert_eq!(rest(el, fd), []);
    assert_eq!(echoloop_remote_free(remote), 0);
    assert_eq!(echoloop_free(el), 0);
}

unsafe extern "C-unwind" fn stop(user: *mut c_void, _: *mut c_void) {
    assert_eq!(echoloop_stop(user.cast()), 0);
}

#[test]
fn a_run_that_is_stopped_half_way_leaves_the_descriptor_readable() {
    let el = new_loop();
    let fd = echoloop_fd(el);
    let remote = remote(el);
    for _ in 0..2 {
        assert_eq!(echoloop_remote_post(remote, ptr::null_mut()), 0);
    }
    let hooks = echoloop_hooks {
        size: size_of::<echoloop_hooks>(),
        on_post: Some(stop),
        ..echoloop_hooks::default()
    };
    assert_eq!(unsafe { echoloop_run(el, &hooks, el.cast()) }, 0);
    assert!(asks(fd, 0), "asleep with an event at hand");
    assert_eq!(rest(el, fd), [ECHOLOOP_EVENT_POSTED]);
    assert_eq!(echoloop_remote_free(remote), 0);
    assert_eq!(echoloop_free(el), 0);
}

#[test]
fn the_next_deadline_is_that_of_the_first_timer() {
    let el = new_loop();
    assert_eq!(next_deadline(el), None);
    timer(el, 60_000_000);
    let sooner = timer(el, 20_000_000);
    let left = next_deadline(el).unwrap();
    assert!((1..=20_000_000).contains(&left), "{left}");
    assert_eq!(echoloop_timer_cancel(sooner), 0);
    let left = next_deadline(el).unwrap();
    assert!((20_000_001..=60_000_000).contains(&left), "{left}");

    assert_eq!(echoloop_stop(el), 0);
    assert_eq!(next_deadline(el), Some(0));
    assert_eq!(batch(el, 4), [ECHOLOOP_EVENT_STOP]);
    assert_ne!(next_deadline(el), Some(0));

    let unwritable = unsafe { echoloop_next_deadline(el, ptr::null_mut()) };
    assert_eq!(unwritable, ECHOLOOP_ENULL);
    assert_eq!(echoloop_free(el), 0);
    let mut us = 7;
    let gone = unsafe { echoloop_next_deadline(el, &mut us) };
    assert_eq!((gone, us), (ECHOLOOP_EBADHANDLE, 7));
    assert_eq!(echoloop_fd(el), ECHOLOOP_EBADHANDLE);
}

#[test]
fn who_waits_for_the_next_deadline_finds_the_timer_due() {
    let el = new_loop();
    for _ in 0..20 {
        timer(el, 1_500);
        let us = next_deadline(el).unwrap();
        std::thread::sleep(Duration::from_micros(us as u64)); // The wait of a program without poll(2).
        assert_eq!(next_deadline(el), Some(0));
        assert_eq!(batch(el, 4), [ECHOLOOP_EVENT_TIMER]);
        assert_eq!(batch(el, 4), []);
        assert_eq!(next_deadline(el), None);
    }
    assert_eq!(echoloop_free(el), 0);
}
