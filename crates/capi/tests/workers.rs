//! One server on several threads, through the C functions: its callbacks, its end, and misuse from all
//! sides.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call is one that C could make"
)]

use std::ffi::{CStr, CString, c_int, c_void};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use ::echoloop::*;

const PATIENCE: Duration = Duration::from_secs(20);
const SPREADS: [c_int; 2] = [ECHOLOOP_SPREAD_FEWEST, ECHOLOOP_SPREAD_REUSE_PORT];

/// Live handles are the whole process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle as other threads take it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Team(usize);

impl Team {
    fn new(options: echoloop_server_options) -> Self {
        let options = echoloop_server_options {
            size: size_of::<echoloop_server_options>(),
            ..options
        };
        let mut out = ptr::null_mut();
        assert_eq!(unsafe { echoloop_workers_new(&options, &mut out) }, 0);
        Self(out.addr())
    }

    /// Listens, and starts.
    fn start(self, n: usize, spread: c_int, story: Option<&Story>) -> Self {
        self.listen();
        assert_eq!(self.try_start(n, spread, story), 0, "{}", last_error());
        self
    }

    fn listen(self) {
        let any = c"127.0.0.1:0".as_ptr();
        assert_eq!(unsafe { echoloop_workers_listen(self.raw(), any) }, 0);
    }

    fn try_start(self, n: usize, spread: c_int, story: Option<&Story>) -> c_int {
        let hooks = echoloop_hooks {
            size: size_of::<echoloop_hooks>(),
            on_open: Some(on_open),
            on_data: Some(on_data),
            on_post: Some(on_post),
            ..Default::default()
        };
        let Some(story) = story else {
            let none = ptr::null_mut();
            let hooks = ptr::null();
            return unsafe {
                echoloop_workers_start(self.raw(), n, spread, hooks, None, None, none)
            };
        };
        let user = ptr::from_ref(story).cast_mut().cast();
        let (start, end) = (Some(on_start as _), Some(on_end as _));
        unsafe { echoloop_workers_start(self.raw(), n, spread, &hooks, start, end, user) }
    }

    fn raw(self) -> *mut echoloop_workers {
        ptr::without_provenance_mut(self.0)
    }

    fn addr(self, i: usize) -> String {
        let mut text = [0u8; ECHOLOOP_ADDR_MAX];
        let len =
            unsafe { echoloop_workers_addr(self.raw(), i, text.as_mut_ptr().cast(), text.len()) };
        assert!(len > 0, "{len}");
        String::from_utf8(text[..len as usize].to_vec()).unwrap()
    }

    /// Connects, and has something come back.
    fn client(self) -> TcpStream {
        let mut client = TcpStream::connect(self.addr(0)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(&mut client);
        client
    }

    fn stop(self) -> c_int {
        echoloop_workers_stop(self.raw())
    }

    fn join(self) -> (c_int, echoloop_report) {
        let mut report = echoloop_report {
            size: size_of::<echoloop_report>(),
            ..Default::default()
        };
        let status = unsafe { echoloop_workers_join(self.raw(), &mut report) };
        (status, report)
    }

    fn open(self, worker: usize) -> u64 {
        let mut open = 0;
        let got = unsafe { echoloop_workers_load(self.raw(), worker, &mut open, ptr::null_mut()) };
        assert_eq!(got, 0);
        open
    }

    fn free(self) -> c_int {
        echoloop_workers_free(self.raw())
    }
}

fn exchange(client: &mut TcpStream) {
    client.write_all(b"hello").unwrap();
    let mut back = [0; 5];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
}

fn last_error() -> String {
    let text = unsafe { CStr::from_ptr(echoloop_last_error()) };
    text.to_str().unwrap().to_owned()
}

/// What all workers of a test have told, and what a callback is to try.
#[derive(Default)]
struct Story {
    told: Mutex<Vec<Told>>,
    tries: Option<fn(&Member)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Told {
    Start(usize, ThreadId),
    /// On which thread, and whether by a listener of its own.
    Open(usize, ThreadId, bool),
    Post(usize, usize),
    End(usize, ThreadId),
}

impl Story {
    fn tell(&self, told: Told) {
        self.told.lock().unwrap().push(told);
    }

    /// Waits until so many of a kind were told.
    fn wait(&self, n: usize, kind: fn(&Told) -> bool) -> Vec<Told> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.told.lock().unwrap().clone();
            let found: Vec<Told> = told.iter().filter(|told| kind(told)).cloned().collect();
            if found.len() >= n {
                return found;
            }
            assert!(Instant::now() < deadline, "{told:?}");
            thread::yield_now();
        }
    }
}

/// The user pointer of one worker's callbacks.
struct Member {
    worker: usize,
    el: *mut echoloop,
    story: *const Story,
}

unsafe extern "C-unwind" fn on_start(
    user: *mut c_void,
    worker: usize,
    el: *mut echoloop,
) -> *mut c_void {
    let story: *const Story = user.cast_const().cast();
    unsafe { &*story }.tell(Told::Start(worker, thread::current().id()));
    // A loop of this thread like any other.
    assert!(echoloop_now_us(el) >= 0);
    Box::into_raw(Box::new(Member { worker, el, story })).cast()
}

unsafe extern "C-unwind" fn on_end(user: *mut c_void, worker: usize) {
    let member = unsafe { Box::from_raw(user.cast::<Member>()) };
    assert_eq!(member.worker, worker);
    unsafe { &*member.story }.tell(Told::End(worker, thread::current().id()));
}

unsafe extern "C-unwind" fn on_open(
    user: *mut c_void,
    conn: *mut echoloop_conn,
    listener: *mut echoloop_listener,
) {
    let member = unsafe { &*user.cast::<Member>() };
    let (story, here) = (unsafe { &*member.story }, thread::current().id());
    assert_eq!(echoloop_conn_queued(conn), 0);
    story.tell(Told::Open(member.worker, here, !listener.is_null()));
}

unsafe extern "C-unwind" fn on_data(
    user: *mut c_void,
    conn: *mut echoloop_conn,
    data: *const u8,
    len: usize,
) -> usize {
    let member = unsafe { &*user.cast::<Member>() };
    if let Some(tries) = unsafe { &*member.story }.tries {
        tries(member);
    }
    let sent = unsafe { echoloop_conn_send(conn, data.cast(), len) };
    assert!(sent == 0 || sent == ECHOLOOP_EPANIC, "{sent}");
    len
}

unsafe extern "C-unwind" fn on_post(user: *mut c_void, word: *mut c_void) {
    let member = unsafe { &*user.cast::<Member>() };
    unsafe { &*member.story }.tell(Told::Post(member.worker, word.addr()));
}

#[test]
fn each_worker_has_callbacks_on_a_thread_and_a_loop_of_its_own() {
    let _alone = alone();
    for spread in SPREADS {
        let before = echoloop_live_handles();
        let story = Story::default();
        let team = Team::new(Default::default()).start(3, spread, Some(&story));
        assert_eq!(echoloop_workers_count(team.raw()), 3);
        let clients: Vec<TcpStream> = (0..9).map(|_| team.client()).collect();
        let opened = story.wait(9, |told| matches!(told, Told::Open(..)));
        let started = story.wait(3, |told| matches!(told, Told::Start(..)));
        for told in &opened {
            let Told::Open(worker, here, _) = told else {
                unreachable!()
            };
            assert!(started.contains(&Told::Start(*worker, *here)), "{told:?}");
        }
        if spread == ECHOLOOP_SPREAD_FEWEST {
            assert_eq!([0, 1, 2].map(|worker| team.open(worker)), [3; 3]);
            let by_others = opened
                .iter()
                .filter(|told| matches!(told, Told::Open(_, _, false)));
            assert_eq!(by_others.count(), 6);
        }
        assert_eq!(echoloop_workers_is_finished(team.raw()), 0);
        assert_eq!(team.stop(), 0);
        for mut client in clients {
            assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "closed in order");
        }
        let (status, report) = team.join();
        assert_eq!((status, report.closed_clean, report.bytes_lost), (0, 9, 0));
        assert_eq!(echoloop_workers_is_finished(team.raw()), 1);
        let mut ended = story.wait(3, |told| matches!(told, Told::End(..)));
        for told in &mut ended {
            if let Told::End(worker, here) = *told {
                *told = Told::Start(worker, here);
            }
            assert!(started.contains(told));
        }
        assert!(team.addr(0).starts_with("127.0.0.1:"), "also after the end");
        assert_eq!(team.join().1.closed_clean, 9, "it is remembered");
        assert_eq!(team.free(), 0);
        assert_eq!(team.free(), ECHOLOOP_EBADHANDLE);
        assert_eq!(echoloop_live_handles(), before);
    }
}

#[test]
fn without_callbacks_they_echo_and_count_together() {
    let _alone = alone();
    let team = Team::new(echoloop_server_options {
        max_connections: 4,
        ..Default::default()
    });
    team.start(2, ECHOLOOP_SPREAD_FEWEST, None);
    let clients: Vec<TcpStream> = (0..4).map(|_| team.client()).collect();
    let mut refused = TcpStream::connect(team.addr(0)).unwrap();
    refused.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(refused.read(&mut [0; 1]).is_err(), "reset");
    let mut c = echoloop_server_counters {
        size: size_of::<echoloop_server_counters>(),
        ..Default::default()
    };
    assert_eq!(
        unsafe { echoloop_workers_counters_get(team.raw(), &mut c) },
        0
    );
    assert_eq!((c.refused, c.refused_full, c.most_open), (1, 1, 4));
    let mut c = echoloop_counters {
        size: size_of::<echoloop_counters>(),
        ..Default::default()
    };
    assert_eq!(
        unsafe { echoloop_workers_loop_counters_get(team.raw(), &mut c) },
        0
    );
    assert_eq!((c.bytes_received, c.bytes_sent, c.connections), (20, 20, 4));
    let (mut open, mut accepted) = (0, 0);
    let load = |worker, open: &mut u64, accepted: &mut u64| unsafe {
        echoloop_workers_load(team.raw(), worker, open, accepted)
    };
    assert_eq!(load(1, &mut open, &mut accepted), 0);
    assert_eq!((open, accepted), (2, 2));
    for none in [2, usize::MAX] {
        assert_eq!(load(none, &mut open, &mut accepted), ECHOLOOP_EINVAL);
    }
    drop(clients);
    assert_eq!(team.free(), 0);
}

#[test]
fn sockets_of_all_kinds_are_served() {
    let _alone = alone();
    let story = Story::default();
    let team = Team::new(Default::default());
    let udp = c"127.0.0.1:0".as_ptr();
    assert_eq!(unsafe { echoloop_workers_bind_udp(team.raw(), udp) }, 0);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let inherited = listener.local_addr().unwrap();
    let fd = listener.into_raw_fd();
    assert_eq!(unsafe { echoloop_workers_inherit(team.raw(), fd) }, 0);
    team.start(2, ECHOLOOP_SPREAD_REUSE_PORT, Some(&story));
    assert_eq!(team.addr(0), inherited.to_string());
    let mut clients: Vec<TcpStream> = (0..4).map(|_| team.client()).collect();
    let second = team.addr(1);
    clients.push(TcpStream::connect(&second).unwrap());
    story.wait(5, |told| matches!(told, Told::Open(..)));
    let mut text = [0u8; ECHOLOOP_ADDR_MAX];
    let (buf, room) = (text.as_mut_ptr().cast(), text.len());
    let len = unsafe { echoloop_workers_udp_addr(team.raw(), 0, buf, room) };
    let bound = std::str::from_utf8(&text[..len as usize]).unwrap();
    assert!(UdpSocket::bind(bound).is_err(), "it is taken");
    drop(clients);
    assert_eq!(team.free(), 0);
    assert!(
        TcpStream::connect(inherited).is_err(),
        "no duplicate is left"
    );
}

#[test]
fn a_word_is_posted_to_one_worker_and_its_remote_outlives_it() {
    let _alone = alone();
    let before = echoloop_live_handles();
    let story = Story::default();
    let team = Team::new(Default::default()).start(3, ECHOLOOP_SPREAD_FEWEST, Some(&story));
    let mut remotes = [ptr::null_mut(); 3];
    for (worker, out) in remotes.iter_mut().enumerate() {
        let made = unsafe { echoloop_workers_remote(team.raw(), worker, out) };
        assert_eq!(made, 0);
        let word = ptr::without_provenance_mut(40 + worker);
        assert_eq!(echoloop_remote_post(*out, word), 0);
    }
    let mut posted = story.wait(3, |told| matches!(told, Told::Post(..)));
    posted.sort_by_key(|told| format!("{told:?}"));
    assert_eq!(
        posted,
        [Told::Post(0, 40), Told::Post(1, 41), Told::Post(2, 42)]
    );
    let mut none = ptr::null_mut();
    let got = unsafe { echoloop_workers_remote(team.raw(), 3, &mut none) };
    assert_eq!((got, none.is_null()), (ECHOLOOP_EINVAL, true));
    assert_eq!(echoloop_remote_stop(remotes[1]), 0, "a stop of all");
    assert_eq!(team.join().0, 0);
    assert_eq!(team.free(), 0);
    for remote in remotes {
        assert_eq!(
            echoloop_remote_post(remote, ptr::null_mut()),
            ECHOLOOP_ECLOSED
        );
        assert_eq!(echoloop_remote_free(remote), 0);
    }
    assert_eq!(echoloop_live_handles(), before);
}

#[test]
fn the_second_stop_ends_the_grace_and_the_third_cuts() {
    let _alone = alone();
    let team = Team::new(echoloop_server_options {
        drain_grace_us: 3_600_000_000,
        drain_deadline_us: -1,
        ..Default::default()
    });
    team.start(2, ECHOLOOP_SPREAD_FEWEST, None);
    let mut clients: Vec<TcpStream> = (0..4).map(|_| team.client()).collect();
    let addr = team.addr(0);
    assert_eq!(team.stop(), 0);
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(&addr).is_ok() {
        assert!(Instant::now() < deadline);
    }
    clients.iter_mut().for_each(exchange);
    assert_eq!(team.stop(), 0);
    for client in &mut clients {
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "closed in order");
    }
    assert_eq!(team.stop(), 0);
    assert_eq!(team.join().0, 0);
    assert_eq!(team.stop(), 0, "there is nothing left to stop");
    assert_eq!(team.free(), 0);
}

#[test]
fn a_bug_in_one_worker_drains_the_others_and_is_told_by_join() {
    let _alone = alone();
    let before = echoloop_live_handles();
    let story = Story {
        tries: Some(|member| {
            if member.worker == 1 {
                assert_eq!(panic_inside(member.el), ECHOLOOP_EPANIC);
            }
        }),
        ..Default::default()
    };
    let team = Team::new(Default::default()).start(3, ECHOLOOP_SPREAD_FEWEST, Some(&story));
    let mut clients: Vec<TcpStream> = Vec::new();
    for _ in 0..3 {
        let client = TcpStream::connect(team.addr(0)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        story.wait(clients.len() + 1, |told| matches!(told, Told::Open(..)));
        clients.push(client);
    }
    for client in &mut clients {
        let _ = client.write_all(b"hello");
    }
    let (status, report) = team.join();
    assert_eq!(
        (status, report.closed_clean),
        (ECHOLOOP_EPANIC, 0),
        "nothing is written"
    );
    assert!(
        last_error().contains("the others were drained"),
        "{}",
        last_error()
    );
    story.wait(3, |told| matches!(told, Told::End(..)));
    assert_eq!(team.join().0, ECHOLOOP_EPANIC, "it is remembered");
    drop(clients);
    assert_eq!(team.free(), 0);
    assert_eq!(echoloop_live_handles(), before);
}

/// What a callback may not do to its own worker: the workers, for it.
static INSIDE: Mutex<Option<Team>> = Mutex::new(None);

#[test]
fn what_would_wait_for_the_very_worker_is_refused_in_its_callbacks() {
    let _alone = alone();
    let story = Story {
        tries: Some(|member| {
            let team = INSIDE.lock().unwrap().unwrap();
            let mut event = unsafe { std::mem::zeroed::<echoloop_event>() };
            let polled = unsafe { echoloop_poll_batch(member.el, &mut event, 1, -1) };
            assert_eq!(polled, ECHOLOOP_EREENTRY);
            assert_eq!(echoloop_free(member.el), ECHOLOOP_EINVAL);
            assert!(
                last_error().contains("belongs to workers"),
                "{}",
                last_error()
            );
            // Its server has no handle that anybody was told; one that is made up is refused too.
            let kind = 0b1111 << 1;
            let made_up = ptr::without_provenance_mut(member.el.addr() & !kind | 5 << 1);
            assert!(!echoloop_server_loop(made_up).is_null());
            assert_eq!(echoloop_server_free(made_up), ECHOLOOP_EINVAL);
            assert_eq!(team.join().0, ECHOLOOP_EREENTRY);
            assert_eq!(team.free(), ECHOLOOP_EREENTRY);
            let mut c = echoloop_counters {
                size: size_of::<echoloop_counters>(),
                ..Default::default()
            };
            let got = unsafe { echoloop_workers_loop_counters_get(team.raw(), &mut c) };
            assert_eq!(got, ECHOLOOP_EREENTRY);
            let mut c = echoloop_server_counters {
                size: size_of::<echoloop_server_counters>(),
                ..Default::default()
            };
            let got = unsafe { echoloop_workers_counters_get(team.raw(), &mut c) };
            assert_eq!(got, ECHOLOOP_EREENTRY);
            // What does not wait is fine.
            assert_eq!(echoloop_workers_count(team.raw()), 2);
            assert_eq!(team.open(member.worker), 1);
            assert_eq!(team.stop(), 0);
        }),
        ..Default::default()
    };
    let team = Team::new(Default::default());
    *INSIDE.lock().unwrap() = Some(team);
    team.start(2, ECHOLOOP_SPREAD_FEWEST, Some(&story));
    let client = team.client();
    drop(client);
    assert_eq!(team.join().0, 0);
    assert_eq!(team.free(), 0);
}

#[test]
fn a_loop_of_a_worker_is_not_another_threads() {
    let _alone = alone();
    static LOOP: Mutex<usize> = Mutex::new(0);
    let story = Story {
        tries: Some(|member| *LOOP.lock().unwrap() = member.el.addr()),
        ..Default::default()
    };
    let team = Team::new(Default::default()).start(1, ECHOLOOP_SPREAD_FEWEST, Some(&story));
    let client = team.client();
    let el = ptr::without_provenance_mut(*LOOP.lock().unwrap());
    assert_eq!(echoloop_stop(el), ECHOLOOP_EWRONGTHREAD);
    assert_eq!(echoloop_free(el), ECHOLOOP_EINVAL);
    assert_eq!(team.free(), 0, "cuts, and waits");
    drop(client);
    assert_eq!(echoloop_stop(el), ECHOLOOP_EBADHANDLE);
}

#[test]
fn a_free_answers_who_waits_and_waits_for_callbacks_under_way() {
    let _alone = alone();
    for spread in SPREADS {
        let story = Story::default();
        let team = Team::new(Default::default()).start(2, spread, Some(&story));
        let clients: Vec<TcpStream> = (0..4).map(|_| team.client()).collect();
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..2).map(|_| scope.spawn(move || team.join().0)).collect();
            assert_eq!(scope.spawn(move || team.free()).join().unwrap(), 0);
            assert_eq!(
                story
                    .told
                    .lock()
                    .unwrap()
                    .iter()
                    .filter(|t| matches!(t, Told::End(..)))
                    .count(),
                2
            );
            for waiting in waiting {
                // One that comes too late finds no workers.
                let status = waiting.join().unwrap();
                assert!(status == 0 || status == ECHOLOOP_EBADHANDLE, "{status}");
            }
        });
        drop(clients);
    }
}

#[test]
fn before_the_start_there_are_settings_and_after_it_there_are_none() {
    let _alone = alone();
    let before = echoloop_live_handles();
    let team = Team::new(Default::default());
    assert_eq!(echoloop_live_handles(), before + 1);
    let raw = team.raw();
    for early in [
        team.stop(),
        team.join().0,
        echoloop_workers_count(raw),
        echoloop_workers_is_finished(raw),
        unsafe { echoloop_workers_load(raw, 0, ptr::null_mut(), ptr::null_mut()) },
    ] {
        assert_eq!(early, ECHOLOOP_EINVAL);
    }
    team.listen();
    assert_eq!(
        team.try_start(0, ECHOLOOP_SPREAD_FEWEST, None),
        ECHOLOOP_EINVAL
    );
    for spread in [-1, 2] {
        assert_eq!(team.try_start(1, spread, None), ECHOLOOP_EINVAL);
    }
    for many in [MAX_WORKERS + 1, usize::MAX] {
        let got = team.try_start(many, ECHOLOOP_SPREAD_FEWEST, None);
        assert_eq!(got, ECHOLOOP_ETOOMANY);
    }
    assert_eq!(team.try_start(1, ECHOLOOP_SPREAD_FEWEST, None), 0);
    assert_eq!(
        team.try_start(1, ECHOLOOP_SPREAD_FEWEST, None),
        ECHOLOOP_EINVAL
    );
    let any = c"127.0.0.1:0".as_ptr();
    assert_eq!(
        unsafe { echoloop_workers_listen(raw, any) },
        ECHOLOOP_EINVAL
    );
    assert_eq!(
        unsafe { echoloop_workers_bind_udp(raw, any) },
        ECHOLOOP_EINVAL
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let late = unsafe { echoloop_workers_inherit(raw, listener.as_raw_fd()) };
    assert_eq!(late, ECHOLOOP_EINVAL);
    assert!(listener.try_clone().is_ok(), "still the program's");
    assert_eq!(team.free(), 0);
    assert_eq!(echoloop_live_handles(), before);
}

/// There are no more loops than that in a process.
const MAX_WORKERS: usize = 1 << 11;

#[test]
fn a_start_that_fails_leaves_nothing_and_may_be_tried_again() {
    let _alone = alone();
    const EADDRINUSE: c_int = 98; // Linux, errno(3)
    let before = echoloop_live_handles();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for spread in SPREADS {
        let story = Story::default();
        let team = Team::new(Default::default());
        let text = CString::new(addr.clone()).unwrap();
        let asked = unsafe { echoloop_workers_listen(team.raw(), text.as_ptr()) };
        assert_eq!(asked, 0);
        let got = team.try_start(3, spread, Some(&story));
        assert_eq!(got, -EADDRINUSE);
        assert!(last_error().contains(&addr), "{}", last_error());
        assert!(story.told.lock().unwrap().is_empty());
        assert_eq!(team.try_start(3, spread, Some(&story)), -EADDRINUSE);
        assert_eq!(team.free(), 0);
    }
    assert_eq!(echoloop_live_handles(), before);
}

#[test]
fn a_child_of_a_fork_has_a_handle_that_can_only_be_freed() {
    let _alone = alone();
    let team = Team::new(Default::default()).start(2, ECHOLOOP_SPREAD_FEWEST, None);
    let client = team.client();
    // The child calls this library, which allocates nothing there, and ends by _exit(2).
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let refused = [team.stop(), echoloop_workers_count(team.raw())];
        let well = refused == [ECHOLOOP_EFORKED; 2]
            && team.free() == 0
            && team.free() == ECHOLOOP_EBADHANDLE;
        unsafe { libc::_exit(if well { 0 } else { 1 }) };
    }
    let mut status = 0;
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0);
    let mut client = client;
    exchange(&mut client);
    drop(client);
    assert_eq!(team.free(), 0);
}
