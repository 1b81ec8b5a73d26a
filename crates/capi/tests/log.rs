//! The log callback, and what a bug in the library does to the standard error of its host: nothing.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call is one that C could make"
)]

mod util;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ::echoloop::*;

/// The log is the whole process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lines that were told.
type Lines = Mutex<Vec<(c_int, String, String)>>;

unsafe extern "C-unwind" fn collect(
    user: *mut c_void,
    level: c_int,
    target: *const c_char,
    text: *const c_char,
) {
    let lines = unsafe { &*user.cast::<Lines>() };
    let [target, text] = [target, text].map(|text| unsafe { CStr::from_ptr(text) });
    lines.lock().unwrap().push((
        level,
        target.to_str().unwrap().to_owned(),
        text.to_str().unwrap().to_owned(),
    ));
}

fn set(level: c_int, lines: &Lines) -> c_int {
    let user = ptr::from_ref(lines).cast_mut().cast();
    unsafe { echoloop_set_log(level, Some(collect), user) }
}

fn off() {
    assert_eq!(
        unsafe { echoloop_set_log(ECHOLOOP_LOG_OFF, None, ptr::null_mut()) },
        0
    );
}

fn taken(lines: &Lines) -> Vec<(c_int, String, String)> {
    std::mem::take(&mut lines.lock().unwrap())
}

fn new_server() -> *mut echoloop_server {
    let server = unsafe { echoloop_server_new(ptr::null()) };
    assert!(!server.is_null());
    server
}

/// Makes a line at level debug, in the middle of a call.
fn drain_and_free(server: *mut echoloop_server) {
    assert_eq!(echoloop_server_drain(server), 0);
    assert_eq!(echoloop_server_free(server), 0);
}

#[test]
fn lines_up_to_the_level_are_told_with_target_and_text() {
    let _alone = alone();
    let lines = Lines::default();
    for (level, told) in [
        (ECHOLOOP_LOG_TRACE, 1),
        (ECHOLOOP_LOG_DEBUG, 1),
        (ECHOLOOP_LOG_INFO, 0),
        (ECHOLOOP_LOG_OFF, 0),
    ] {
        assert_eq!(set(level, &lines), 0);
        drain_and_free(new_server());
        off();
        let taken = taken(&lines);
        assert_eq!(taken.len(), told, "{level}: {taken:?}");
        if let Some((level, target, text)) = taken.first() {
            assert_eq!(*level, ECHOLOOP_LOG_DEBUG);
            assert!(target.starts_with("echoloop_server"), "{target}");
            assert_eq!(text, "draining 0 connections");
        }
    }
}

#[test]
fn without_a_callback_or_a_level_nothing_is_told() {
    let _alone = alone();
    let lines = Lines::default();
    assert_eq!(set(ECHOLOOP_LOG_TRACE, &lines), 0);
    let none = unsafe { echoloop_set_log(ECHOLOOP_LOG_TRACE, None, ptr::null_mut()) };
    assert_eq!(none, 0);
    drain_and_free(new_server());
    assert_eq!(taken(&lines), []);
    for no_level in [-1, 6, c_int::MIN, c_int::MAX] {
        assert_eq!(set(no_level, &lines), ECHOLOOP_EINVAL, "{no_level}");
    }
    drain_and_free(new_server());
    assert_eq!(taken(&lines), []);
}

/// What calls got that a log callback made, against the rules.
struct Calls {
    server: *mut echoloop_server,
    got: Vec<c_int>,
}

unsafe extern "C-unwind" fn call_back(
    user: *mut c_void,
    _: c_int,
    _: *const c_char,
    _: *const c_char,
) {
    let calls = unsafe { &mut *user.cast::<Calls>() };
    let el = echoloop_server_loop(calls.server);
    let mut event = unsafe { std::mem::zeroed::<echoloop_event>() };
    let hooks = echoloop_hooks {
        size: size_of::<echoloop_hooks>(),
        ..Default::default()
    };
    let none = ptr::null_mut();
    let mut timer = ptr::null_mut();
    calls.got = unsafe {
        vec![
            echoloop_server_drain(calls.server),
            echoloop_server_run(calls.server, ptr::null(), none, ptr::null_mut()),
            echoloop_server_run(calls.server, &hooks, none, ptr::null_mut()),
            echoloop_poll_batch(el, &mut event, 1, -1),
            echoloop_run_once(el, &hooks, none, -1),
            echoloop_timer_new(el, 0, 0, none, &mut timer),
            echoloop_after_fork(el),
            echoloop_server_free(calls.server),
            echoloop_set_log(ECHOLOOP_LOG_OFF, None, none),
        ]
    };
    // The line that comes of this, on another loop, is dropped: else this would never end.
    drain_and_free(new_server());
    assert!(echoloop_live_handles() > 0);
}

#[test]
fn a_callback_that_calls_back_is_refused_and_does_no_harm() {
    let _alone = alone();
    let server = new_server();
    let mut calls = Calls {
        server,
        got: Vec::new(),
    };
    let user = ptr::from_mut(&mut calls).cast();
    assert_eq!(
        unsafe { echoloop_set_log(ECHOLOOP_LOG_DEBUG, Some(call_back), user) },
        0
    );
    assert_eq!(echoloop_server_drain(server), 0);
    off();
    assert_eq!(calls.got[..6], [ECHOLOOP_EREENTRY; 6], "{:?}", calls.got);
    assert_eq!(calls.got[6], 0, "made in this process");
    assert_eq!(calls.got[7..], [ECHOLOOP_EREENTRY; 2]);
    assert_eq!(echoloop_server_free(server), 0);
}

unsafe extern "C-unwind" fn let_it_be_freed(
    user: *mut c_void,
    _: c_int,
    _: *const c_char,
    _: *const c_char,
) {
    let server = user.cast::<echoloop_server>();
    let bits = server.addr();
    // Another thread's free is queued, and must not be done in the middle of the call.
    let freed = thread::spawn(move || echoloop_server_free(ptr::without_provenance_mut(bits)));
    assert_eq!(freed.join().unwrap(), 0);
    assert_eq!(echoloop_server_drain(server), ECHOLOOP_EREENTRY);
}

#[test]
fn a_loop_that_another_thread_frees_while_a_line_is_told_is_freed_after_the_call() {
    let _alone = alone();
    let before = echoloop_live_handles();
    let server = new_server();
    let user = server.cast();
    assert_eq!(
        unsafe { echoloop_set_log(ECHOLOOP_LOG_DEBUG, Some(let_it_be_freed), user) },
        0
    );
    assert_eq!(echoloop_server_drain(server), 0);
    off();
    assert_eq!(echoloop_live_handles(), before + 1);
    assert_eq!(echoloop_server_drain(server), ECHOLOOP_EBADHANDLE);
    assert_eq!(echoloop_live_handles(), before);
}

/// A user of the log that must not be told anything once it is gone.
#[derive(Default)]
struct Listener {
    told: AtomicUsize,
    gone: AtomicBool,
}

unsafe extern "C-unwind" fn listen(
    user: *mut c_void,
    _: c_int,
    _: *const c_char,
    _: *const c_char,
) {
    let listener = unsafe { &*user.cast::<Listener>() };
    listener.told.fetch_add(1, Ordering::Relaxed);
    thread::yield_now();
    assert!(!listener.gone.load(Ordering::Relaxed), "called too late");
}

#[test]
fn a_callback_that_was_replaced_is_called_no_more() {
    let _alone = alone();
    let listeners: Vec<Listener> = (0..200).map(|_| Listener::default()).collect();
    let done = Arc::new(AtomicBool::new(false));
    let loggers: Vec<_> = (0..3)
        .map(|_| {
            let done = Arc::clone(&done);
            thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    drain_and_free(new_server());
                }
            })
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    for pair in listeners.windows(2) {
        let user = ptr::from_ref(&pair[1]).cast_mut().cast();
        let set = unsafe { echoloop_set_log(ECHOLOOP_LOG_DEBUG, Some(listen), user) };
        assert_eq!(set, 0);
        pair[0].gone.store(true, Ordering::Relaxed);
        while pair[1].told.load(Ordering::Relaxed) == 0 {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
    }
    off();
    listeners[199].gone.store(true, Ordering::Relaxed);
    done.store(true, Ordering::Relaxed);
    for logger in loggers {
        logger.join().unwrap();
    }
}

/// What a child of this test program does, and how it is told; it tells its lines on standard output.
const CHILD: &str = "ECHOLOOP_TEST_OF_A_PANIC";

unsafe extern "C-unwind" fn print(
    _: *mut c_void,
    level: c_int,
    target: *const c_char,
    text: *const c_char,
) {
    let [target, text] = [target, text].map(|text| unsafe { CStr::from_ptr(text) });
    println!("told {level} {target:?} {text:?}");
}

fn panic_in_a_call() {
    let el = unsafe { echoloop_new(ptr::null()) };
    assert_eq!(panic_inside(el), ECHOLOOP_EPANIC);
    println!(
        "{}",
        unsafe { CStr::from_ptr(echoloop_last_error()) }
            .to_str()
            .unwrap()
    );
    assert_eq!(echoloop_stop(el), ECHOLOOP_EPANIC);
    assert_eq!(echoloop_free(el), 0);
}

#[test]
fn child() {
    let Some(what) = std::env::var_os(CHILD) else {
        return;
    };
    if what != "silent" {
        let print = Some(print as _);
        assert_eq!(
            unsafe { echoloop_set_log(ECHOLOOP_LOG_ERROR, print, ptr::null_mut()) },
            0
        );
    }
    match what.to_str().unwrap() {
        // A program in C has no handler for stack overflows by which a main in Rust is known.
        "c" => {
            unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
            panic_in_a_call();
            let helper = thread::spawn(|| panic!("of a helper thread"));
            assert!(helper.join().is_err());
        }
        "rust" => {
            panic_in_a_call();
            assert!(thread::spawn(|| panic!("of the program")).join().is_err());
        }
        _ => panic_in_a_call(),
    }
}

/// Standard output and standard error of a child.
fn run_child(what: &str) -> (String, String) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "child", "--nocapture", "--test-threads=4"])
        .env(CHILD, what)
        .env("RUST_BACKTRACE", "1");
    let outcome = child.output().unwrap();
    let [out, err] = [outcome.stdout, outcome.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(outcome.status.success(), "{what}:\n{out}\n{err}");
    (out, err)
}

#[test]
fn a_panic_is_told_to_the_log_and_not_printed() {
    let (out, err) = run_child("rust");
    let line = "told 1 \"panic\" \"provoked by a test, at ";
    assert!(out.contains(line), "{out}");
    assert!(out.contains("src/guard.rs:"), "{out}");
    assert!(out.contains("panic: bug inside echoloop"), "{out}");
    assert!(out.contains("provoked by a test"), "{out}");
    // What is not the library's is the program's to print.
    assert!(err.contains("of the program"), "{err}");
    assert!(
        !err.contains("provoked") && !out.contains("of the program"),
        "{err}"
    );
}

#[test]
fn a_panic_without_a_log_is_silent() {
    let (out, err) = run_child("silent");
    assert_eq!(err, "");
    assert!(!out.contains("told"), "{out}");
}

#[test]
fn in_a_program_that_is_not_in_rust_nothing_is_printed_at_all() {
    let (out, err) = run_child("c");
    assert_eq!(err, "");
    assert!(
        out.contains("told 1 \"panic\" \"of a helper thread, at "),
        "{out}"
    );
}
