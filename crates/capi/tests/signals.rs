//! Signals from C: told by callbacks and batches, beside the handlers of the host.
//!
//! The functions are called from Rust, through the rlib, as C would call them. Each test has signals of
//! its own, as dispositions are the whole process's.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call is one that C could make"
)]

#[path = "util/told.rs"]
mod told;

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use ::echoloop::*;
use told::{FACES, Face, Loop, Told, errname, last_error};

fn watch(el: &Loop, number: c_int) -> Result<*mut echoloop_signal, c_int> {
    let mut signal = ptr::null_mut();
    match unsafe { echoloop_signal_watch(el.0, number, &mut signal) } {
        0 => Ok(signal),
        status => Err(status),
    }
}

/// Sends a signal to this thread: its handlers are over when this returns.
fn raise(number: c_int) {
    assert_eq!(unsafe { libc::raise(number) }, 0);
}

#[test]
fn each_loop_and_each_watch_is_told_once_of_a_burst() {
    for face in FACES {
        let loops = [Loop::new(), Loop::new()];
        let watches: Vec<_> = loops
            .iter()
            .flat_map(|el| [watch(el, libc::SIGUSR1), watch(el, libc::SIGUSR1)])
            .collect();
        let other = watch(&loops[0], libc::SIGWINCH).unwrap();
        for _ in 0..3 {
            raise(libc::SIGUSR1);
        }
        let mut told_of = BTreeMap::new();
        for el in &loops {
            let before = told_of.len();
            el.until(face, |told| {
                let Told::Signal { signal, number } = told else {
                    panic!("{told:?}");
                };
                assert_eq!(number, libc::SIGUSR1);
                *told_of.entry(signal.addr()).or_insert(0) += 1;
                told_of.len() == before + 2
            });
            el.turn(face, Duration::ZERO, |told| panic!("{told:?}"));
        }
        let expected = watches.iter().map(|watch| (watch.unwrap().addr(), 1));
        assert_eq!(told_of, expected.collect(), "{face:?}");
        assert_eq!(echoloop_signal_close(other), 0);
    }
}

static BEFORE: AtomicUsize = AtomicUsize::new(0);

extern "C" fn handler_of_the_host(_: c_int) {
    BEFORE.fetch_add(1, SeqCst);
}

#[test]
fn a_handler_that_the_host_had_before_is_called_too() {
    let handler = handler_of_the_host as extern "C" fn(c_int);
    assert_ne!(
        unsafe { libc::signal(libc::SIGURG, handler as usize) },
        libc::SIG_ERR
    );
    for (round, face) in FACES.into_iter().enumerate() {
        let el = Loop::new();
        let signal = watch(&el, libc::SIGURG).unwrap();
        raise(libc::SIGURG);
        el.until(face, |told| matches!(told, Told::Signal { .. }));
        assert_eq!(BEFORE.load(SeqCst), 2 * round + 1);
        // It stays when the watch has gone.
        assert_eq!(echoloop_signal_close(signal), 0);
        raise(libc::SIGURG);
        assert_eq!(BEFORE.load(SeqCst), 2 * round + 2);
    }
}

#[test]
fn a_closed_watch_tells_nothing_and_the_signal_does_nothing() {
    for face in FACES {
        let el = Loop::new();
        let (closed, open) = (watch(&el, libc::SIGUSR2), watch(&el, libc::SIGHUP));
        let closed = closed.unwrap();
        raise(libc::SIGUSR2); // It has come, and is not told.
        assert_eq!(echoloop_signal_close(closed), 0);
        assert_eq!(echoloop_signal_close(closed), ECHOLOOP_EBADHANDLE);
        raise(libc::SIGUSR2); // By default it would end the process.
        raise(libc::SIGHUP);
        el.until(face, |told| match told {
            Told::Signal { signal, .. } => {
                assert_eq!(Ok(signal), open);
                assert_eq!(echoloop_signal_close(signal), 0);
                true
            }
            other => panic!("{other:?}"),
        });
        el.turn(face, Duration::ZERO, |told| panic!("{told:?}"));
    }
}

#[test]
fn numbers_that_can_not_be_watched_are_refused() {
    let el = Loop::new();
    let never = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGSEGV,
    ];
    for number in never.into_iter().chain([0, -1, 65, c_int::MAX, c_int::MIN]) {
        assert_eq!(watch(&el, number), Err(ECHOLOOP_EINVAL), "{number}");
    }
    assert!(last_error().contains("no signal"), "{}", last_error());
    let nowhere = unsafe { echoloop_signal_watch(el.0, libc::SIGWINCH, ptr::null_mut()) };
    assert_eq!(errname(nowhere), "ECHOLOOP_ENULL");
    assert_eq!(echoloop_signal_close(ptr::null_mut()), ECHOLOOP_EBADHANDLE);
    el.turn(Face::Callbacks, Duration::ZERO, |told| panic!("{told:?}"));
}
