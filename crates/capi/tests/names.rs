//! Resolving names from C: lookups by callbacks and batches, and resolvers of the program's own.
//!
//! The functions are called from Rust, through the rlib, as C would call them.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call is one that C could make"
)]

#[path = "util/told.rs"]
mod told;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::net::TcpListener;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ::echoloop::*;
use told::{FACES, Face, Loop, PATIENCE, Told, c, errname, ip, last_error, text};

const FOR_EVER: i64 = -1;

fn resolve(el: &Loop, host: &str, timeout_us: i64, user: usize) -> *mut echoloop_lookup {
    let (host, mut lookup) = (c(host), ptr::null_mut());
    let user = ptr::without_provenance_mut(user);
    let status = unsafe { echoloop_resolve(el.0, host.as_ptr(), timeout_us, user, &mut lookup) };
    assert_eq!(status, 0, "{}", last_error());
    lookup
}

/// The addresses of a lookup whose event is being handled.
fn addrs(lookup: *mut echoloop_lookup) -> Vec<String> {
    let n = echoloop_lookup_count(lookup);
    assert!(n >= 0, "{}", last_error());
    let addr = |index| {
        let mut ip = echoloop_ip::default();
        assert_eq!(unsafe { echoloop_lookup_addr(lookup, index, &mut ip) }, 0);
        text(|buf, n| unsafe { echoloop_ip_text(&ip, buf, n) }).unwrap()
    };
    (0..n as usize).map(addr).collect()
}

/// What a lookup of `host` comes to: its addresses, or the status.
fn answer(el: &Loop, face: Face, host: &str, timeout_us: i64) -> Result<Vec<String>, c_int> {
    answer_to(el, face, resolve(el, host, timeout_us, 7))
}

fn answer_to(el: &Loop, face: Face, asked: *mut echoloop_lookup) -> Result<Vec<String>, c_int> {
    let mut answer = None;
    el.until(face, |told| {
        let Told::Resolved {
            lookup,
            user,
            status,
            n,
        } = told
        else {
            panic!("{told:?}");
        };
        assert_eq!((lookup, user.addr()), (asked, 7));
        answer = Some(match status {
            0 => Ok(addrs(lookup)),
            status => {
                assert_eq!(echoloop_lookup_count(lookup), status);
                Err(status)
            }
        });
        let count = answer
            .as_ref()
            .and_then(|a| a.as_ref().ok())
            .map_or(0, Vec::len);
        assert_eq!(n, count);
        true
    });
    el.turn(face, Duration::ZERO, |told| panic!("{told:?}"));
    assert_eq!(
        echoloop_lookup_count(asked),
        ECHOLOOP_EBADHANDLE,
        "{face:?}"
    );
    answer.unwrap()
}

#[test]
fn a_name_has_its_addresses_until_the_next_event() {
    for face in FACES {
        let el = Loop::new();
        let found = answer(&el, face, "localhost", FOR_EVER).unwrap();
        assert!(!found.is_empty(), "{found:?}");
        for addr in found {
            assert!(addr == "::1" || addr.starts_with("127."), "{addr}");
        }
        assert_eq!(
            answer(&el, face, "192.0.2.1", 0),
            Ok(vec!["192.0.2.1".into()])
        );
    }
}

#[test]
fn what_can_be_no_name_and_what_is_not_answered_yet_is_refused() {
    let el = Loop::new();
    let mut lookup = ptr::null_mut();
    let mut ip = echoloop_ip::default();
    for host in ["", "a b", "a/b", "fe80::1%lo"] {
        let text = c(host);
        let status =
            unsafe { echoloop_resolve(el.0, text.as_ptr(), 0, ptr::null_mut(), &mut lookup) };
        assert_eq!(status, ECHOLOOP_EINVAL, "{host:?}");
    }
    unsafe {
        let none = ptr::null_mut();
        assert_eq!(
            echoloop_resolve(el.0, ptr::null(), 0, none, &mut lookup),
            ECHOLOOP_ENULL
        );
        let name = c("localhost");
        let nowhere = ptr::null_mut();
        assert_eq!(
            echoloop_resolve(el.0, name.as_ptr(), 0, none, nowhere),
            ECHOLOOP_ENULL
        );
    }
    assert_eq!(lookup, ptr::null_mut());
    let lookup = resolve(&el, "localhost", 0, 0);
    assert_eq!(echoloop_lookup_count(lookup), ECHOLOOP_EINVAL);
    assert!(last_error().contains("under way"), "{}", last_error());
    unsafe {
        assert_eq!(echoloop_lookup_addr(lookup, 0, &mut ip), ECHOLOOP_EINVAL);
        assert_eq!(
            echoloop_lookup_addr(lookup, 0, ptr::null_mut()),
            ECHOLOOP_ENULL
        );
    }
    el.until(Face::Batches, |told| {
        let Told::Resolved {
            lookup, user, n, ..
        } = told
        else {
            panic!("{told:?}");
        };
        assert_eq!(user, ptr::null_mut());
        for index in [n, usize::MAX] {
            let status = unsafe { echoloop_lookup_addr(lookup, index, &mut ip) };
            assert_eq!(status, ECHOLOOP_EINVAL);
        }
        assert_eq!(echoloop_lookup_cancel(lookup), 0); // It is over as it is.
        true
    });
}

/// What the resolver of these tests sees and does: hosts are orders.
#[derive(Default)]
struct Book {
    calls: AtomicUsize,
    /// An answer that is over, to be used wrongly.
    kept: AtomicUsize,
    seen: Mutex<Vec<String>>,
    /// A call for "slow" says that it began, and goes on when it is told.
    slow: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

unsafe extern "C-unwind" fn ask(
    user: *mut c_void,
    host: *const c_char,
    answer: *mut echoloop_answer,
) -> c_int {
    let book = unsafe { &*user.cast::<Book>() };
    book.calls.fetch_add(1, SeqCst);
    let host = unsafe { CStr::from_ptr(host) }.to_str().unwrap();
    let add = |text: &str| unsafe { echoloop_answer_add(answer, &ip(text)) };
    let saw = |what: String| {
        book.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what)
    };
    match host {
        "three" => {
            let added = [add("10.0.0.3"), add("[::3]:99"), add("10.0.0.1")];
            saw(format!("{added:?}"));
        }
        "wrong" => {
            let [null, bad] = [ECHOLOOP_ENULL, ECHOLOOP_EBADHANDLE];
            let (good, none) = (ip("::1"), echoloop_ip::default());
            let mut got = Vec::new();
            unsafe {
                got.push(echoloop_answer_add(answer, ptr::null()) == null);
                got.push(echoloop_answer_add(ptr::null_mut(), &good) == bad);
                got.push(echoloop_answer_add(answer, &none) == ECHOLOOP_EINVAL);
                got.push(echoloop_answer_add(user.cast(), &good) == bad);
                let before = book.kept.swap(answer.addr(), SeqCst);
                let before = ptr::without_provenance_mut(before);
                got.push(echoloop_answer_add(before, &good) == bad);
                let here = answer.addr();
                let there = thread::spawn(move || {
                    let answer = ptr::without_provenance_mut(here);
                    echoloop_answer_add(answer, &good) == bad
                });
                got.push(there.join().unwrap_or(false));
            }
            saw(format!("{got:?}"));
            return add("::2");
        }
        "many" => {
            let added: Vec<c_int> = (0..1025).map(|_| add("::1")).collect();
            saw(format!("{} {}", added[1023], errname(added[1024])));
        }
        "slow" => {
            let slow = book.slow.lock().unwrap();
            let (began, go) = slow.as_ref().unwrap();
            began.send(()).unwrap();
            let _ = go.recv();
        }
        "here" => return add("127.0.0.1"),
        "empty" => {}
        // The number itself, with an address that does not count then.
        number => {
            add("10.0.0.1");
            return number.trim_start_matches('n').parse::<c_int>().unwrap_or(1);
        }
    }
    0
}

fn loop_of(book: &Book) -> Loop {
    Loop::with(&echoloop_options {
        resolve: Some(ask),
        resolve_user: ptr::from_ref(book).cast_mut().cast(),
        ..echoloop_options::default()
    })
}

fn seen(book: &Book) -> Vec<String> {
    std::mem::take(&mut book.seen.lock().unwrap())
}

#[test]
fn a_resolver_of_the_program_answers_in_its_own_order() {
    for face in FACES {
        let book = Book::default();
        let el = loop_of(&book);
        let found = answer(&el, face, "three", FOR_EVER).unwrap();
        assert_eq!(found, ["10.0.0.3", "::3", "10.0.0.1"]);
        assert_eq!(seen(&book), ["[0, 0, 0]"]);
        let many = answer(&el, face, "many", FOR_EVER).unwrap();
        assert_eq!(many.len(), 1024);
        assert_eq!(seen(&book), ["0 ECHOLOOP_ETOOMANY"]);
        assert_eq!(
            answer(&el, face, "127.0.0.9", 0),
            Ok(vec!["127.0.0.9".into()])
        );
        assert_eq!(book.calls.load(SeqCst), 2, "an address is not asked for");
    }
}

#[test]
fn a_connect_by_name_asks_the_resolver_of_the_program() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    server.set_nonblocking(true).unwrap();
    for face in FACES {
        let book = Book::default();
        let el = loop_of(&book);
        let connect = |to: String| {
            let (to, mut conn) = (c(&to), ptr::null_mut());
            let status = unsafe { echoloop_connect(el.0, to.as_ptr(), ptr::null(), &mut conn) };
            assert_eq!(status, 0, "{}", last_error());
        };
        connect(format!("here:{port}"));
        let end = Instant::now() + PATIENCE;
        while server.accept().is_err() {
            assert!(Instant::now() < end, "{face:?}");
            el.turn(face, Duration::from_millis(20), |_| ());
        }
        assert_eq!(book.calls.load(SeqCst), 1);
    }
}

#[test]
fn what_a_resolver_returns_is_why_there_is_no_address() {
    let book = Book::default();
    let el = loop_of(&book);
    let answers = [
        (
            ECHOLOOP_RESOLVER_BASE - libc::EAI_NONAME.abs(),
            "EAI_NONAME",
        ),
        (ECHOLOOP_RESOLVER_BASE - libc::EAI_AGAIN.abs(), "EAI_AGAIN"),
        (-libc::ENETUNREACH, "ENETUNREACH"),
        (ECHOLOOP_ENOMEM, "EAI_MEMORY"),
        (ECHOLOOP_EINVAL, "EAI_FAIL"),
        (1, "EAI_FAIL"),
        (c_int::MIN, "EAI_FAIL"),
        (c_int::MAX, "EAI_FAIL"),
    ];
    for (returned, name) in answers {
        let status = answer(&el, Face::Callbacks, &format!("n{returned}"), FOR_EVER);
        let status = status.unwrap_err();
        assert_eq!(errname(status), name, "{returned}");
        if !name.ends_with("FAIL") && !name.ends_with("MEMORY") {
            assert_eq!(status, returned);
        }
    }
    let none = answer(&el, Face::Batches, "empty", FOR_EVER).unwrap_err();
    assert_eq!(errname(none), "EAI_NODATA");
}

#[test]
fn an_answer_is_good_in_its_own_call_and_thread_alone() {
    let book = Book::default();
    let el = loop_of(&book);
    for _ in 0..2 {
        let found = answer(&el, Face::Callbacks, "wrong", FOR_EVER);
        assert_eq!(seen(&book), ["[true, true, true, true, true, true]"]);
        assert_eq!(found, Ok(vec!["::2".into()]));
    }
    let over = ptr::without_provenance_mut(book.kept.load(SeqCst));
    let added = unsafe { echoloop_answer_add(over, &ip("::1")) };
    assert_eq!(added, ECHOLOOP_EBADHANDLE);
}

#[test]
fn a_lookup_that_takes_too_long_is_over_and_its_late_answer_nobodys() {
    let (began, has_begun) = channel();
    let (go, going) = channel();
    let book = Box::leak(Box::new(Book::default())); // A late call is not waited for.
    *book.slow.lock().unwrap() = Some((began, going));
    for face in FACES {
        let el = loop_of(book);
        let slow = resolve(&el, "slow", 1000, 7);
        has_begun.recv_timeout(PATIENCE).unwrap(); // It is due in a turn only.
        assert_eq!(answer_to(&el, face, slow), Err(-libc::ETIMEDOUT));
        go.send(()).unwrap();
        // The thread, or another one, goes on.
        let found = answer(&el, face, "three", FOR_EVER).unwrap();
        assert_eq!(found.len(), 3);
    }
}

#[test]
fn a_lookup_that_was_cancelled_tells_nothing() {
    let (began, has_begun) = channel();
    let (go, going) = channel();
    let book = Box::leak(Box::new(Book::default())); // As above.
    *book.slow.lock().unwrap() = Some((began, going));
    for face in FACES {
        let el = loop_of(book);
        let slow = resolve(&el, "slow", FOR_EVER, 1);
        has_begun.recv_timeout(PATIENCE).unwrap();
        assert_eq!(echoloop_lookup_cancel(slow), 0);
        assert_eq!(echoloop_lookup_cancel(slow), ECHOLOOP_EBADHANDLE);
        go.send(()).unwrap();
        let found = answer(&el, face, "three", FOR_EVER).unwrap();
        assert_eq!(found.len(), 3, "nothing else was told");
    }
}

#[test]
fn a_loop_may_be_freed_in_the_callback_of_a_lookup_and_during_one() {
    let (began, has_begun) = channel();
    let (go, going) = channel();
    let book = Box::leak(Box::new(Book::default())); // As above.
    *book.slow.lock().unwrap() = Some((began, going));
    let el = loop_of(book);
    resolve(&el, "slow", FOR_EVER, 0);
    has_begun.recv_timeout(PATIENCE).unwrap();
    drop(el);
    go.send(()).unwrap();

    let el = Loop::new();
    let lookup = resolve(&el, "127.0.0.1", 0, 0);
    el.until(Face::Callbacks, |_| {
        assert_eq!(echoloop_free(el.0), 0);
        assert_eq!(
            echoloop_lookup_cancel(lookup),
            0,
            "the loop lives until the callback is over"
        );
        true
    });
    assert_eq!(echoloop_free(el.0), ECHOLOOP_EBADHANDLE);
    std::mem::forget(el);
}
