//! Watches from C: both ways to receive, callbacks of their own, descriptors that die, are lent or
//! given away.
//!
//! The functions are called from Rust, through the rlib, as C would call them.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call is one that C could make"
)]

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::ptr;

use ::echoloop::*;

const PATIENCE_US: i64 = 10_000_000;

/// What callbacks were told, and what they are to do.
struct Told {
    el: *mut echoloop,
    told: Vec<(&'static str, usize, c_int)>,
    act: fn(&mut Told, *mut echoloop_watch),
}

impl Told {
    fn new(el: *mut echoloop, act: fn(&mut Told, *mut echoloop_watch)) -> Self {
        Self {
            el,
            told: Vec::new(),
            act,
        }
    }

    fn user(&mut self) -> *mut c_void {
        ptr::from_mut(self).cast()
    }

    fn take(&mut self) -> Vec<(&'static str, usize, c_int)> {
        std::mem::take(&mut self.told)
    }
}

unsafe extern "C-unwind" fn on_watch(
    user: *mut c_void,
    _: *mut echoloop_watch,
    watch_user: *mut c_void,
    readiness: c_int,
) {
    let told = unsafe { &mut *user.cast::<Told>() };
    told.told.push(("hook", watch_user.addr(), readiness));
}

unsafe extern "C-unwind" fn on_event(user: *mut c_void, event: *const echoloop_event) {
    let (told, event) = unsafe { (&mut *user.cast::<Told>(), &*event) };
    let what = match event.r#type {
        ECHOLOOP_EVENT_WATCH_DEAD => "dead",
        ECHOLOOP_EVENT_STOP => "stop",
        _ => "other",
    };
    told.told.push((what, event.user.addr(), event.status));
}

unsafe extern "C-unwind" fn own(user: *mut c_void, watch: *mut echoloop_watch, readiness: c_int) {
    let told = unsafe { &mut *user.cast::<Told>() };
    told.told.push(("own", 0, readiness));
    (told.act)(told, watch);
}

unsafe extern "C-unwind" fn other(user: *mut c_void, _: *mut echoloop_watch, readiness: c_int) {
    let told = unsafe { &mut *user.cast::<Told>() };
    told.told.push(("other", 0, readiness));
}

unsafe extern "C-unwind" fn own_timer(user: *mut c_void, timer: *mut echoloop_timer) {
    let told = unsafe { &mut *user.cast::<Told>() };
    told.told.push(("timer", 0, 0));
    if told.told.len() < 3 {
        assert_eq!(echoloop_timer_rearm(timer, 0), 0);
    }
}

fn new_loop() -> *mut echoloop {
    let el = unsafe { echoloop_new(ptr::null()) };
    assert!(!el.is_null());
    el
}

fn hooks() -> echoloop_hooks {
    echoloop_hooks {
        size: size_of::<echoloop_hooks>(),
        on_watch: Some(on_watch),
        on_event: Some(on_event),
        ..echoloop_hooks::default()
    }
}

fn options(mode: c_int, owned: c_int) -> echoloop_watch_options {
    echoloop_watch_options {
        size: size_of::<echoloop_watch_options>(),
        mode,
        owned,
    }
}

fn try_watch(
    el: *mut echoloop,
    fd: c_int,
    interest: c_int,
    options: *const echoloop_watch_options,
    user: *mut c_void,
) -> Result<*mut echoloop_watch, c_int> {
    let mut watch = ptr::null_mut();
    match unsafe { echoloop_watch_new(el, fd, interest, options, user, &mut watch) } {
        0 => Ok(watch),
        status => {
            assert!(watch.is_null(), "written on failure");
            Err(status)
        }
    }
}

fn watch(el: *mut echoloop, fd: &impl AsRawFd, interest: c_int) -> *mut echoloop_watch {
    try_watch(
        el,
        fd.as_raw_fd(),
        interest,
        ptr::null(),
        ptr::without_provenance_mut(7),
    )
    .unwrap()
}

fn own_watch(told: &mut Told, fd: &impl AsRawFd) -> *mut echoloop_watch {
    let watch = watch(told.el, fd, ECHOLOOP_READABLE);
    assert_eq!(echoloop_watch_set_user(watch, told.user()), 0);
    assert_eq!(echoloop_watch_set_callback(watch, Some(own)), 0);
    watch
}

/// One turn by callbacks, with what was told in it.
fn turn(told: &mut Told, timeout_us: i64) -> Vec<(&'static str, usize, c_int)> {
    let n = unsafe { echoloop_run_once(told.el, &hooks(), told.user(), timeout_us) };
    assert!(n >= 0, "{n}");
    told.take()
}

/// Turns by callbacks until something is told.
fn next(told: &mut Told) -> Vec<(&'static str, usize, c_int)> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let told = turn(told, 100_000);
        if !told.is_empty() {
            return told;
        }
        assert!(std::time::Instant::now() < deadline, "nothing is told");
    }
}

/// Turns by batches until there is an event.
fn batch(el: *mut echoloop, capacity: usize) -> Vec<echoloop_event> {
    let mut events = vec![unsafe { std::mem::zeroed::<echoloop_event>() }; capacity];
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let n = unsafe { echoloop_poll_batch(el, events.as_mut_ptr(), capacity, 100_000) };
        assert!(n >= 0, "{n}");
        if n > 0 {
            events.truncate(n as usize);
            return events;
        }
        assert!(std::time::Instant::now() < deadline, "nothing is told");
    }
}

fn is_open(fd: c_int) -> bool {
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// A number that is not open and that no other test will get.
fn closed_number(number: c_int) -> c_int {
    assert!(!is_open(number));
    number
}

#[test]
fn a_descriptor_is_told_as_long_as_it_is_ready_by_callbacks_and_batches_alike() {
    let el = new_loop();
    let (mut reader, mut writer) = pipe().unwrap();
    let w = watch(el, &reader, ECHOLOOP_READABLE);
    let mut told = Told::new(el, |_, _| {});
    assert_eq!(turn(&mut told, 0), []);
    writer.write_all(b"xy").unwrap();
    for _ in 0..3 {
        assert_eq!(next(&mut told), [("hook", 7, ECHOLOOP_READABLE)]);
        let events = batch(el, 4);
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].r#type, ECHOLOOP_EVENT_WATCH);
        assert_eq!(events[0].status, ECHOLOOP_READABLE);
        assert_eq!(events[0].user.addr(), 7);
        assert_eq!(unsafe { events[0].source.watch }, w);
        assert_eq!(unsafe { echoloop_dispatch(&events[0]) }, 0);
    }
    reader.read_exact(&mut [0; 2]).unwrap();
    assert_eq!(turn(&mut told, 0), []);
    drop(writer);
    let end = ECHOLOOP_READABLE | ECHOLOOP_READ_CLOSED | ECHOLOOP_HANG_UP;
    assert_eq!(next(&mut told), [("hook", 7, end)]);

    // Asked for nothing, it tells the end once.
    assert_eq!(echoloop_watch_modify(w, 0), 0);
    assert_eq!(next(&mut told), [("hook", 7, ECHOLOOP_HANG_UP)]);
    assert_eq!(turn(&mut told, 0), []);
    assert_eq!(echoloop_watch_close(w), 0);
    assert!(is_open(reader.as_raw_fd()));
    assert_eq!(echoloop_free(el), 0);
}

#[test]
fn an_edge_is_told_once_and_once_is_told_until_it_is_modified() {
    let el = new_loop();
    let mut told = Told::new(el, |_, _| {});
    let (edge, mut to_edge) = pipe().unwrap();
    let (once, mut to_once) = pipe().unwrap();
    let of = |fd: c_int, mode: c_int, user: usize| {
        let user = ptr::without_provenance_mut(user);
        try_watch(el, fd, ECHOLOOP_READABLE, &options(mode, 0), user).unwrap()
    };
    of(edge.as_raw_fd(), ECHOLOOP_WATCH_EDGE, 1);
    let w = of(once.as_raw_fd(), ECHOLOOP_WATCH_ONCE, 2);
    to_edge.write_all(b"x").unwrap();
    assert_eq!(next(&mut told), [("hook", 1, ECHOLOOP_READABLE)]);
    assert_eq!(turn(&mut told, 0), []);
    to_edge.write_all(b"x").unwrap();
    assert_eq!(next(&mut told), [("hook", 1, ECHOLOOP_READABLE)]);

    for _ in 0..2 {
        to_once.write_all(b"x").unwrap();
        assert_eq!(next(&mut told), [("hook", 2, ECHOLOOP_READABLE)]);
        to_once.write_all(b"x").unwrap();
        assert_eq!(turn(&mut told, 0), []);
        assert_eq!(echoloop_watch_modify(w, ECHOLOOP_READABLE), 0);
        assert_eq!(next(&mut told), [("hook", 2, ECHOLOOP_READABLE)]);
        assert_eq!(turn(&mut told, 0), []);
        assert_eq!(echoloop_watch_modify(w, ECHOLOOP_READABLE), 0);
    }
    assert_eq!(echoloop_free(el), 0);
}

#[test]
fn files_are_always_ready() {
    let el = new_loop();
    let null = File::open("/dev/null").unwrap();
    watch(el, &null, ECHOLOOP_READABLE | ECHOLOOP_WRITABLE);
    let mut told = Told::new(el, |_, _| {});
    let both = ECHOLOOP_READABLE | ECHOLOOP_WRITABLE;
    for _ in 0..3 {
        assert_eq!(turn(&mut told, PATIENCE_US), [("hook", 7, both)]);
    }
    assert_eq!(echoloop_free(el), 0);
}

#[test]
fn what_can_not_be_watched_is_said_and_stays_the_callers() {
    let el = new_loop();
    let (reader, _writer) = pipe().unwrap();
    let fd = reader.as_raw_fd();
    let none = ptr::null_mut();
    let refused = |fd, interest, options: &echoloop_watch_options| {
        try_watch(el, fd, interest, options, none).unwrap_err()
    };
    let closed = closed_number(999);
    for owned in [0, 1] {
        let plain = options(0, owned);
        assert_eq!(refused(-1, 1, &plain), -libc::EBADF);
        assert_eq!(refused(c_int::MIN, 1, &plain), -libc::EBADF);
        assert_eq!(refused(closed, 1, &plain), -libc::EBADF);
        assert_eq!(refused(fd, 8, &plain), ECHOLOOP_EINVAL);
        assert_eq!(refused(fd, -1, &plain), ECHOLOOP_EINVAL);
        assert_eq!(refused(fd, 1, &options(3, owned)), ECHOLOOP_EINVAL);
        assert_eq!(refused(fd, 1, &options(-1, owned)), ECHOLOOP_EINVAL);
    }
    let unset = echoloop_watch_options::default();
    assert_eq!(refused(fd, 1, &unset), ECHOLOOP_EINVAL);
    let w = watch(el, &reader, ECHOLOOP_READABLE);
    assert_eq!(refused(fd, 1, &options(0, 1)), -libc::EEXIST);
    assert!(is_open(fd), "closed by a call that failed");
    assert_eq!(echoloop_watch_modify(w, 64), ECHOLOOP_EINVAL);
    assert_eq!(echoloop_watch_release(w), ECHOLOOP_EINVAL);
    assert_eq!(echoloop_watch_fd(w), fd);
    assert_eq!(
        unsafe { echoloop_watch_new(el, fd, 1, ptr::null(), none, ptr::null_mut()) },
        ECHOLOOP_ENULL
    );
    let mut told = Told::new(el, |_, _| {});
    assert_eq!(turn(&mut told, 0), []);
    assert_eq!(echoloop_free(el), 0);
}

#[test]
fn a_closed_watch_is_a_bad_handle_everywhere() {
    let el = new_loop();
    let (reader, _writer) = pipe().unwrap();
    let w = watch(el, &reader, ECHOLOOP_READABLE);
    assert_eq!(echoloop_watch_close(w), 0);
    let again = watch(el, &reader, ECHOLOOP_READABLE);
    assert_ne!(w, again);
    let mut user = ptr::null_mut();
    for stale in [w, ptr::null_mut(), el.cast()] {
        assert_eq!(echoloop_watch_modify(stale, 1), ECHOLOOP_EBADHANDLE);
        assert_eq!(echoloop_watch_modify(stale, 99), ECHOLOOP_EBADHANDLE);
        assert_eq!(echoloop_watch_release(stale), ECHOLOOP_EBADHANDLE);
        assert_eq!(echoloop_watch_fd(stale), ECHOLOOP_EBADHANDLE);
        assert_eq!(
            unsafe { echoloop_watch_user(stale, &mut user) },
            ECHOLOOP_EBADHANDLE
        );
        let none = ptr::null_mut();
        assert_eq!(echoloop_watch_set_user(stale, none), ECHOLOOP_EBADHANDLE);
        assert_eq!(
            echoloop_watch_set_callback(stale, None),
            ECHOLOOP_EBADHANDLE
        );
        assert_eq!(echoloop_watch_close(stale), ECHOLOOP_EBADHANDLE);
    }
    assert_eq!(unsafe { echoloop_watch_user(again, &mut user) }, 0);
    assert_eq!(user.addr(), 7);
    let address = again.addr();
    std::thread::spawn(move || {
        let foreign = ptr::without_provenance_mut(address);
        assert_eq!(echoloop_watch_close(foreign), ECHOLOOP_EWRONGTHREAD);
    })
    .join()
    .unwrap();
    assert_eq!(echoloop_free(el), 0);
    assert_eq!(echoloop_watch_close(again), ECHOLOOP_EBADHANDLE);
}

#[test]
fn an_owned_descriptor_is_closed_with_its_watch_or_its_loop_or_given_back() {
    let el = new_loop();
    let of_loop = || {
        let (reader, writer) = pipe().unwrap();
        let fd = reader.into_raw_fd();
        let w = try_watch(el, fd, 1, &options(0, 1), ptr::null_mut()).unwrap();
        (w, fd, writer)
    };
    // Whether the reading end is closed can be told at the writing end.
    let is_closed = |writer: &mut std::io::PipeWriter| writer.write(b"x").is_err();
    let (w, _, mut writer) = of_loop();
    assert!(!is_closed(&mut writer));
    assert_eq!(echoloop_watch_close(w), 0);
    assert!(is_closed(&mut writer));

    let (w, fd, mut writer) = of_loop();
    assert_eq!(echoloop_watch_fd(w), fd);
    assert_eq!(echoloop_watch_set_callback(w, Some(own)), 0);
    assert_eq!(echoloop_watch_release(w), fd);
    assert_eq!(echoloop_watch_release(w), ECHOLOOP_EBADHANDLE);
    assert!(!is_closed(&mut writer));
    drop(unsafe { File::from_raw_fd(fd) });
    assert!(is_closed(&mut writer));

    let (_, _, mut writer) = of_loop();
    assert_eq!(echoloop_free(el), 0);
    assert!(is_closed(&mut writer));
}

#[test]
fn a_watch_calls_its_own_callback_in_place_of_the_hook() {
    let el = new_loop();
    let mut told = Told::new(el, |_, _| {});
    let (reader, mut writer) = pipe().unwrap();
    let (second, mut to_second) = pipe().unwrap();
    let w = own_watch(&mut told, &reader);
    watch(el, &second, ECHOLOOP_READABLE);
    writer.write_all(b"x").unwrap();
    assert_eq!(next(&mut told), [("own", 0, ECHOLOOP_READABLE)]);
    to_second.write_all(b"x").unwrap();
    let mut both = next(&mut told);
    both.sort_unstable();
    let hook = ("hook", 7, ECHOLOOP_READABLE);
    assert_eq!(both, [hook, ("own", 0, ECHOLOOP_READABLE)]);
    assert_eq!(echoloop_watch_set_callback(w, None), 0);
    assert_eq!(next(&mut told).len(), 2);
    assert!(told.told.is_empty());
    assert_eq!(echoloop_free(el), 0);
}

/// By callbacks, and by a batch with dispatch: the same.
fn tell(told: &mut Told, by_batch: bool) -> Vec<(&'static str, usize, c_int)> {
    if !by_batch {
        return next(told);
    }
    for event in batch(told.el, 8) {
        assert_eq!(unsafe { echoloop_dispatch(&event) }, 1);
    }
    told.take()
}

#[test]
fn an_own_callback_may_set_another_close_its_watch_or_free_the_loop() {
    for by_batch in [false, true] {
        let el = new_loop();
        let (reader, mut writer) = pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let mut told = Told::new(el, |_, w| {
            assert_eq!(echoloop_watch_set_callback(w, Some(other)), 0);
        });
        let w = own_watch(&mut told, &reader);
        assert_eq!(tell(&mut told, by_batch), [("own", 0, ECHOLOOP_READABLE)]);
        assert_eq!(tell(&mut told, by_batch), [("other", 0, ECHOLOOP_READABLE)]);
        assert_eq!(echoloop_watch_close(w), 0);

        told.act = |_, w| assert_eq!(echoloop_watch_close(w), 0);
        let w = own_watch(&mut told, &reader);
        assert_eq!(tell(&mut told, by_batch), [("own", 0, ECHOLOOP_READABLE)]);
        assert_eq!(echoloop_watch_close(w), ECHOLOOP_EBADHANDLE);
        assert_eq!(turn(&mut told, 0), []);

        told.act = |told, w| {
            assert_eq!(echoloop_watch_close(w), 0);
            assert_eq!(echoloop_free(told.el), 0);
            assert_eq!(echoloop_free(told.el), ECHOLOOP_EBADHANDLE);
        };
        let w = own_watch(&mut told, &reader);
        assert_eq!(tell(&mut told, by_batch), [("own", 0, ECHOLOOP_READABLE)]);
        assert_eq!(echoloop_watch_close(w), ECHOLOOP_EBADHANDLE);
        assert_eq!(echoloop_now_us(el), i64::from(ECHOLOOP_EBADHANDLE));
    }
}

#[test]
fn an_own_timer_may_be_rearmed_in_its_callback() {
    for by_batch in [false, true] {
        let el = new_loop();
        let mut told = Told::new(el, |_, _| {});
        let mut timer = ptr::null_mut();
        assert_eq!(
            unsafe { echoloop_timer_new(el, 0, 0, told.user(), &mut timer) },
            0
        );
        assert_eq!(echoloop_timer_set_callback(timer, Some(own_timer)), 0);
        while told.told.len() < 3 {
            if by_batch {
                let events = batch(el, 8);
                assert_eq!(events.len(), 1);
                assert_eq!(unsafe { echoloop_dispatch(&events[0]) }, 1);
            } else {
                let n = unsafe { echoloop_run_once(el, &hooks(), told.user(), PATIENCE_US) };
                assert!(n >= 0, "{n}");
            }
        }
        assert_eq!(turn(&mut told, 0).len(), 3);
        assert_eq!(echoloop_timer_cancel(timer), ECHOLOOP_EBADHANDLE);
        assert_eq!(echoloop_free(el), 0);
    }
}

#[test]
fn an_event_of_a_watch_that_was_ended_meanwhile_is_nobodys() {
    let el = new_loop();
    let mut told = Told::new(el, |_, _| {});
    let (reader, mut writer) = pipe().unwrap();
    let w = own_watch(&mut told, &reader);
    writer.write_all(b"x").unwrap();
    let events = batch(el, 4);
    assert_eq!(echoloop_watch_close(w), 0);
    let again = own_watch(&mut told, &reader);
    let dispatch = || unsafe { echoloop_dispatch(&events[0]) };
    assert_eq!(dispatch(), ECHOLOOP_EBADHANDLE);
    assert_eq!(told.take(), []);
    assert_ne!(w, again);
    assert_eq!(next(&mut told), [("own", 0, ECHOLOOP_READABLE)]);
    assert_eq!(echoloop_free(el), 0);
    assert_eq!(dispatch(), ECHOLOOP_EBADHANDLE);
    assert_eq!(unsafe { echoloop_dispatch(ptr::null()) }, ECHOLOOP_ENULL);
}

#[test]
fn a_dispatched_callback_is_a_callback_like_any_other() {
    let el = new_loop();
    let (reader, mut writer) = pipe().unwrap();
    writer.write_all(b"x").unwrap();
    let mut told = Told::new(el, |told, w| {
        let mut event: echoloop_event = unsafe { std::mem::zeroed() };
        event.r#type = ECHOLOOP_EVENT_WATCH;
        let poll = unsafe { echoloop_poll_batch(told.el, &mut event, 1, 0) };
        assert_eq!(poll, ECHOLOOP_EREENTRY);
        event.source.watch = w;
        assert_eq!(unsafe { echoloop_dispatch(&event) }, ECHOLOOP_EREENTRY);
        let (reader, _writer) = pipe().unwrap();
        assert_eq!(echoloop_watch_close(watch(told.el, &reader, 1)), 0);
        assert_eq!(echoloop_stop(told.el), 0);
    });
    own_watch(&mut told, &reader);
    assert_eq!(tell(&mut told, true), [("own", 0, ECHOLOOP_READABLE)]);
    let events = batch(el, 4);
    assert_eq!(events[0].r#type, ECHOLOOP_EVENT_STOP);
    assert_eq!(echoloop_free(el), 0);
}

#[test]
fn a_descriptor_that_dies_is_told_by_its_number_to_its_own_watch() {
    // By the event, by the hook, by the own callback in a run and in a batch.
    for way in ["batch", "hook", "own", "dispatch"] {
        let el = new_loop();
        let mut told = Told::new(el, |told, w| {
            assert_eq!(echoloop_watch_user_of(w), told.user());
        });
        let (reader, _writer) = pipe().unwrap();
        let fd = reader.as_raw_fd();
        // A second name keeps the pipe alive, and its number is taken away for good.
        let high = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 600) };
        let file = unsafe { File::from_raw_fd(high) };
        let w = match way {
            "own" | "dispatch" => own_watch(&mut told, &file),
            _ => watch(el, &file, ECHOLOOP_READABLE),
        };
        drop(file);
        let dead = match way {
            "batch" | "dispatch" => {
                let events = batch(el, 4);
                assert_eq!(events[0].r#type, ECHOLOOP_EVENT_WATCH_DEAD);
                assert_eq!((events.len(), events[0].status), (1, high));
                let dispatched = unsafe { echoloop_dispatch(&events[0]) };
                assert_eq!(dispatched, c_int::from(way == "dispatch"));
                told.take()
            }
            _ => next(&mut told),
        };
        match way {
            "batch" => assert_eq!(dead, []),
            "hook" => assert_eq!(dead, [("dead", 7, high)]),
            _ => assert_eq!(dead, [("own", 0, ECHOLOOP_INVALID)]),
        }
        assert_eq!(turn(&mut told, 0), []);
        assert_eq!(echoloop_watch_close(w), ECHOLOOP_EBADHANDLE);
        assert_eq!(echoloop_free(el), 0);
    }
}

fn echoloop_watch_user_of(watch: *mut echoloop_watch) -> *mut c_void {
    let mut user = ptr::null_mut();
    assert_eq!(unsafe { echoloop_watch_user(watch, &mut user) }, 0);
    user
}
