//! What a loop tells of itself through the C functions: counters, times, slow callbacks, the dump, the
//! version and what it can do.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call is one that C could make"
)]

mod util;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ptr;
use std::thread;
use std::time::Duration;

use ::echoloop::*;

/// Serves echo to one client that sends `message` once, to its end, with these callbacks.
fn serve_one(el: *mut echoloop, hooks: &echoloop_hooks, message: &'static [u8]) {
    let mut listener = ptr::null_mut();
    let any = c"127.0.0.1:0".as_ptr();
    assert_eq!(
        unsafe { echoloop_listen(el, any, ptr::null(), &mut listener) },
        0
    );
    let mut text = [0u8; ECHOLOOP_ADDR_MAX];
    let len = unsafe { echoloop_listener_addr(listener, text.as_mut_ptr().cast(), text.len()) };
    let addr = String::from_utf8(text[..len as usize].to_vec()).unwrap();
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(message).unwrap();
        let mut back = vec![0; message.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, message);
    });
    let user = ptr::without_provenance_mut(el.addr());
    assert_eq!(unsafe { echoloop_run(el, hooks, user) }, 0);
    client.join().unwrap();
    assert_eq!(echoloop_listener_close(listener), 0);
}

unsafe extern "C-unwind" fn echo(
    _: *mut c_void,
    conn: *mut echoloop_conn,
    data: *const u8,
    len: usize,
) -> usize {
    assert_eq!(unsafe { echoloop_conn_send(conn, data.cast(), len) }, 0);
    len
}

/// The user pointer is the loop.
unsafe extern "C-unwind" fn stop(user: *mut c_void, _: *mut echoloop_conn, _: c_int, _: u64) {
    assert_eq!(echoloop_stop(ptr::without_provenance_mut(user.addr())), 0);
}

fn hooks() -> echoloop_hooks {
    echoloop_hooks {
        size: size_of::<echoloop_hooks>(),
        on_data: Some(echo),
        on_close: Some(stop),
        ..Default::default()
    }
}

fn new_loop() -> *mut echoloop {
    let el = unsafe { echoloop_new(ptr::null()) };
    assert!(!el.is_null());
    el
}

fn counters(el: *mut echoloop) -> echoloop_counters {
    let mut counters = echoloop_counters {
        size: size_of::<echoloop_counters>(),
        ..Default::default()
    };
    assert_eq!(unsafe { echoloop_counters_get(el, &mut counters) }, 0);
    counters
}

/// The names of the fields in the text of a struct with derived Debug.
fn names(debug: &str) -> Vec<&str> {
    let words = debug.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    words.filter_map(|word| word.strip_suffix(':')).collect()
}

#[test]
fn every_count_of_core_and_server_is_in_the_header() {
    let header = std::fs::read_to_string(util::header()).unwrap();
    let core = format!("{:?}", echoloop_core::Counters::default());
    let server = format!("{:?}", ::echoloop_server::ServerCounters::default());
    for (debug, name) in [
        (&core, "echoloop_counters"),
        (&server, "echoloop_server_counters"),
    ] {
        let begin = header.find(&format!("struct {name} {{")).unwrap();
        let (fields, _) = header[begin..].split_once("\n}").unwrap();
        assert!(names(debug).len() > 6, "{debug}");
        for field in names(debug) {
            assert!(
                fields.contains(&format!("uint64_t {field};")),
                "{field} of {name}"
            );
        }
    }
}

#[test]
fn counters_tell_what_was_done() {
    let el = new_loop();
    serve_one(el, &hooks(), b"hello");
    let c = counters(el);
    assert_eq!((c.accepted, c.closed, c.connections), (1, 1, 0));
    assert_eq!((c.bytes_received, c.bytes_sent), (5, 5));
    assert_eq!((c.reads, c.sends), (1, 1));
    assert!(c.turns >= 2);
    assert_eq!(echoloop_free(el), 0);
}

#[test]
fn a_struct_of_an_older_header_is_filled_as_far_as_it_reaches() {
    let el = new_loop();
    serve_one(el, &hooks(), b"hello");
    let older = std::mem::offset_of!(echoloop_counters, bytes_received);
    let mut counters = echoloop_counters {
        size: older,
        bytes_received: 77,
        sends: 78,
        ..Default::default()
    };
    assert_eq!(unsafe { echoloop_counters_get(el, &mut counters) }, 0);
    assert_eq!((counters.size, counters.accepted), (older, 1));
    assert_eq!((counters.bytes_received, counters.sends), (77, 78));
    assert_eq!(echoloop_free(el), 0);
}

#[test]
fn metrics_tell_where_the_time_went() {
    let el = new_loop();
    let mut metrics = echoloop_metrics {
        size: size_of::<echoloop_metrics>(),
        ..unsafe { std::mem::zeroed() }
    };
    assert_eq!(unsafe { echoloop_metrics_get(el, &mut metrics) }, 0);
    assert_eq!((metrics.turn.count, metrics.waiting.sum_ns), (0, 0));
    assert_eq!(metrics.handler.p999_ns, 0);
    let mut timer = ptr::null_mut();
    let none = ptr::null_mut();
    assert_eq!(
        unsafe { echoloop_timer_new(el, 3_000, 0, none, &mut timer) },
        0
    );
    serve_one(el, &hooks(), b"hello");
    let mut event = [unsafe { std::mem::zeroed::<echoloop_event>() }];
    while counters(el).timers_fired == 0 {
        let n = unsafe { echoloop_poll_batch(el, event.as_mut_ptr(), 1, 20_000_000) };
        assert!(n >= 0);
    }
    assert_eq!(
        unsafe { echoloop_poll_batch(el, event.as_mut_ptr(), 1, 0) },
        0
    );
    assert_eq!(unsafe { echoloop_metrics_get(el, &mut metrics) }, 0);
    for of in [metrics.waiting, metrics.turn, metrics.timer_lag] {
        assert!(of.count > 0 && of.sum_ns >= of.max_ns && of.max_ns > 0);
        let rising = [of.p50_ns, of.p90_ns, of.p99_ns, of.p999_ns, of.max_ns];
        assert!(rising.is_sorted(), "{rising:?}");
    }
    assert!(metrics.waiting.sum_ns + metrics.turn.sum_ns >= 3_000_000);
    assert_eq!(echoloop_free(el), 0);
}

/// What the slow handler was told, and what a call on the loop got in there.
struct Slow {
    el: usize,
    told: Vec<(u32, i64, c_int)>,
}

unsafe extern "C-unwind" fn tell_slow(
    user: *mut c_void,
    event: *const echoloop_event,
    took_us: i64,
) {
    let (slow, event) = unsafe { (&mut *user.cast::<Slow>(), &*event) };
    assert!(event.user.is_null() && event.data.is_null() && event.len == 0);
    let mut counters = echoloop_counters {
        size: size_of::<echoloop_counters>(),
        ..Default::default()
    };
    let el = ptr::without_provenance_mut(slow.el);
    let got = unsafe { echoloop_counters_get(el, &mut counters) };
    slow.told.push((event.r#type, took_us, got));
}

unsafe extern "C-unwind" fn slow_echo(
    user: *mut c_void,
    conn: *mut echoloop_conn,
    data: *const u8,
    len: usize,
) -> usize {
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(20) {
        std::hint::spin_loop();
    }
    unsafe { echo(user, conn, data, len) }
}

#[test]
fn a_callback_that_holds_the_loop_is_told_with_its_event() {
    let el = new_loop();
    let mut slow = Slow {
        el: el.addr(),
        told: Vec::new(),
    };
    let user: *mut c_void = ptr::from_mut(&mut slow).cast();
    let set =
        |threshold, callback| unsafe { echoloop_set_slow_handler(el, threshold, callback, user) };
    let slowly = echoloop_hooks {
        on_data: Some(slow_echo),
        ..hooks()
    };
    assert_eq!(set(20_000, Some(tell_slow)), 0);
    serve_one(el, &slowly, b"hello");
    let data: Vec<_> = slow
        .told
        .drain(..)
        .filter(|told| told.0 == ECHOLOOP_EVENT_DATA)
        .collect();
    assert_eq!(data.len(), 1);
    assert!(data[0].1 >= 20_000, "{data:?}");
    assert_eq!(data[0].2, ECHOLOOP_EREENTRY, "the loop is lent meanwhile");
    assert!(counters(el).slow_handlers >= 1);
    for none in [(20_000, None), (-1, Some(tell_slow as _))] {
        assert_eq!(set(0, Some(tell_slow)), 0);
        assert_eq!(set(none.0, none.1), 0);
        serve_one(el, &slowly, b"hello");
        assert!(slow.told.is_empty());
    }
    assert_eq!(set(0, Some(tell_slow)), 0);
    assert_eq!(echoloop_free(el), 0);
    assert!(slow.told.is_empty(), "nothing is called by a free");
}

fn dump(el: *mut echoloop) -> String {
    let length = unsafe { echoloop_dump(el, ptr::null_mut(), 0) };
    assert!(length > 0);
    let mut buf = vec![b'x'; length as usize + 1000];
    let written = unsafe { echoloop_dump(el, buf.as_mut_ptr().cast(), buf.len()) };
    assert!(written > 0 && (written as usize) < buf.len());
    let text = CStr::from_bytes_until_nul(&buf).unwrap().to_str().unwrap();
    assert_eq!(text.len(), written as usize);
    text.to_owned()
}

#[test]
fn a_dump_has_what_is_open_and_is_written_as_far_as_it_fits() {
    let el = new_loop();
    let mut listener = ptr::null_mut();
    let any = c"127.0.0.1:0".as_ptr();
    assert_eq!(
        unsafe { echoloop_listen(el, any, ptr::null(), &mut listener) },
        0
    );
    let text = dump(el);
    assert!(
        text.contains("1 listeners") && text.contains("127.0.0.1:"),
        "{text}"
    );
    for capacity in [1, 2, 30, text.len() / 2] {
        let mut part = vec![b'x'; capacity + 1];
        let length = unsafe { echoloop_dump(el, part.as_mut_ptr().cast(), capacity) };
        // Times in it differ from call to call, and their lengths.
        assert!(length as usize > text.len() / 2);
        assert_eq!(part[capacity], b'x', "nothing beyond the capacity");
        let fit = CStr::from_bytes_until_nul(&part).unwrap().to_bytes();
        assert!(
            fit.len() < capacity && fit.len() + 4 >= capacity,
            "{capacity}"
        );
        assert_eq!(
            fit[..fit.len().min(30)],
            text.as_bytes()[..fit.len().min(30)]
        );
    }
    assert_eq!(
        unsafe { echoloop_dump(el, ptr::null_mut(), 7) },
        ECHOLOOP_ENULL
    );
    assert_eq!(echoloop_free(el), 0);
}

unsafe extern "C-unwind" fn dump_inside(
    user: *mut c_void,
    conn: *mut echoloop_conn,
    data: *const u8,
    len: usize,
) -> usize {
    let text = dump(ptr::without_provenance_mut(user.addr()));
    assert!(text.contains("handling data of"), "{text}");
    unsafe { echo(user, conn, data, len) }
}

#[test]
fn a_dump_in_a_callback_says_what_is_handled() {
    let el = new_loop();
    let dumping = echoloop_hooks {
        on_data: Some(dump_inside),
        ..hooks()
    };
    serve_one(el, &dumping, b"hello");
    assert_eq!(echoloop_free(el), 0);
}

fn has(feature: &str) -> c_int {
    let feature = CString::new(feature).unwrap();
    unsafe { echoloop_has(feature.as_ptr()) }
}

#[test]
fn features_are_asked_by_name() {
    let documented = std::fs::read_to_string(util::header()).unwrap();
    let (before, _) = documented.split_once("int echoloop_has(").unwrap();
    let comment = &before[before.rfind("/**").unwrap()..];
    let listed: Vec<&str> = comment
        .lines()
        .filter_map(|line| line.trim_start_matches([' ', '*', '-']).strip_prefix('"'))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(listed.len() > 15, "{listed:?}");
    let answers: Vec<(&str, c_int)> = listed.iter().map(|name| (*name, has(name))).collect();
    println!("{answers:?}");
    for (name, answer) in answers {
        // A name that the function does not know would be 0 too. Linux has all of them save where
        // IPv6 is switched off.
        assert!(answer == 1 || name == "ipv6" && answer == 0, "{name}");
    }
    for unknown in ["", "UNIX", "udp-", "quic", "unix "] {
        assert_eq!(has(unknown), 0, "{unknown}");
    }
    assert_eq!(unsafe { echoloop_has(ptr::null()) }, 0);
    assert_eq!(
        unsafe { echoloop_has(c"\xff".as_ptr() as *const c_char) },
        0
    );
}
