//! What the C functions do when all is well: both ways to receive, unread bytes, panics, drains.
//!
//! The functions are called from Rust, through the rlib, as C would call them.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call is one that C could make"
)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_int, c_void};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ptr;
use std::thread;
use std::time::Duration;

use ::echoloop::*;

/// Everything that was told, in order, by connection: "open", data, "end", "close 1".
struct Story {
    told: BTreeMap<usize, Vec<String>>,
    data: Vec<u8>,
    el: usize,
    /// How much of what is offered is used; the rest is left, or put back.
    uses: fn(&[u8]) -> usize,
    open: usize,
}

impl Story {
    fn new(el: *mut echoloop, uses: fn(&[u8]) -> usize) -> Self {
        Self {
            told: BTreeMap::new(),
            data: Vec::new(),
            el: el.addr(),
            uses,
            open: 0,
        }
    }

    fn tell(&mut self, conn: *mut echoloop_conn, what: String) {
        self.told.entry(conn.addr()).or_default().push(what);
    }

    /// One line for each connection.
    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.told.values().map(|told| told.join(", ")).collect();
        lines.sort();
        lines
    }
}

unsafe extern "C-unwind" fn on_open(
    user: *mut c_void,
    conn: *mut echoloop_conn,
    _: *mut echoloop_listener,
) {
    let story = unsafe { &mut *user.cast::<Story>() };
    story.open += 1;
    story.tell(conn, "open".into());
}

unsafe extern "C-unwind" fn on_data(
    user: *mut c_void,
    conn: *mut echoloop_conn,
    data: *const u8,
    len: usize,
) -> usize {
    let story = unsafe { &mut *user.cast::<Story>() };
    let bytes = unsafe { std::slice::from_raw_parts(data, len) };
    let used = (story.uses)(bytes);
    if used <= len {
        story.data.extend_from_slice(&bytes[..used]);
        assert_eq!(unsafe { echoloop_conn_send(conn, data.cast(), used) }, 0);
    }
    used
}

unsafe extern "C-unwind" fn on_end_of_stream(user: *mut c_void, conn: *mut echoloop_conn) {
    unsafe { &mut *user.cast::<Story>() }.tell(conn, "end".into());
    assert_eq!(
        unsafe { echoloop_conn_send(conn, c"bye".as_ptr().cast(), 3) },
        0
    );
}

unsafe extern "C-unwind" fn on_close(
    user: *mut c_void,
    conn: *mut echoloop_conn,
    reason: c_int,
    unsent: u64,
) {
    let story = unsafe { &mut *user.cast::<Story>() };
    story.tell(conn, format!("close {reason} {unsent}"));
    story.open -= 1;
    if story.open == 0 {
        echoloop_stop(ptr::without_provenance_mut(story.el));
    }
}

unsafe extern "C-unwind" fn on_error(
    user: *mut c_void,
    status: c_int,
    text: *const std::ffi::c_char,
) {
    let text = unsafe { CStr::from_ptr(text) }.to_str().unwrap();
    unsafe { &mut *user.cast::<Story>() }.tell(ptr::null_mut(), format!("{status} {text}"));
}

fn hooks() -> echoloop_hooks {
    echoloop_hooks {
        size: size_of::<echoloop_hooks>(),
        on_open: Some(on_open),
        on_data: Some(on_data),
        on_end_of_stream: Some(on_end_of_stream),
        on_close: Some(on_close),
        on_error: Some(on_error),
        ..echoloop_hooks::default()
    }
}

fn new_loop() -> *mut echoloop {
    let el = unsafe { echoloop_new(ptr::null()) };
    assert!(!el.is_null());
    el
}

fn listen(el: *mut echoloop) -> String {
    let mut listener = ptr::null_mut();
    let addr = CString::new("127.0.0.1:0").unwrap();
    assert_eq!(
        unsafe { echoloop_listen(el, addr.as_ptr(), ptr::null(), &mut listener) },
        0
    );
    let mut text = [0u8; ECHOLOOP_ADDR_MAX];
    let len = unsafe { echoloop_listener_addr(listener, text.as_mut_ptr().cast(), text.len()) };
    String::from_utf8(text[..len as usize].to_vec()).unwrap()
}

/// Serves by callbacks until all that were open have closed.
fn serve_by_callbacks(el: *mut echoloop, story: &mut Story) {
    let user = ptr::from_mut(story).cast();
    assert_eq!(unsafe { echoloop_run(el, &hooks(), user) }, 0);
}

/// Does the same by batches of at most `capacity` events.
fn serve_by_batches(el: *mut echoloop, story: &mut Story, capacity: usize) {
    let mut events = vec![unsafe { std::mem::zeroed::<echoloop_event>() }; capacity];
    loop {
        let n = unsafe { echoloop_poll_batch(el, events.as_mut_ptr(), capacity, 10_000_000) };
        assert!(n >= 0, "{n}");
        for event in &events[..n as usize] {
            let user = ptr::from_mut(story).cast();
            match event.r#type {
                ECHOLOOP_EVENT_OPENED => unsafe {
                    on_open(user, event.conn, event.source.listener)
                },
                ECHOLOOP_EVENT_DATA => unsafe {
                    let used = on_data(user, event.conn, event.data, event.len);
                    let rest = event.data.add(used);
                    assert_eq!(
                        echoloop_conn_unread(event.conn, rest.cast(), event.len - used),
                        0
                    );
                },
                ECHOLOOP_EVENT_END_OF_STREAM => unsafe { on_end_of_stream(user, event.conn) },
                ECHOLOOP_EVENT_CLOSED => unsafe {
                    on_close(user, event.conn, event.status, event.source.unsent);
                },
                ECHOLOOP_EVENT_STOP => return,
                other => panic!("event {other}"),
            }
        }
    }
}

/// Clients that send `size` bytes in pieces, half-close, and want all back and a "bye".
fn clients(addr: &str, count: usize, size: usize, piece: usize) -> Vec<thread::JoinHandle<()>> {
    let one = |addr: String| {
        move || {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            let sent: Vec<u8> = (0..size).map(|i| (i * 7 / 3) as u8).collect();
            let mut writer = stream.try_clone().unwrap();
            let to_send = sent.clone();
            let writing = thread::spawn(move || {
                to_send
                    .chunks(piece)
                    .for_each(|piece| writer.write_all(piece).unwrap());
                writer.shutdown(Shutdown::Write).unwrap();
            });
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            writing.join().unwrap();
            assert_eq!(back.len(), size + 3);
            assert!(back[..size] == sent && back.ends_with(b"bye"));
        }
    };
    (0..count)
        .map(|_| thread::spawn(one(addr.to_owned())))
        .collect()
}

fn all_of(bytes: &[u8]) -> usize {
    bytes.len()
}

/// Uses whole records of three bytes, and leaves the rest unread.
fn records(bytes: &[u8]) -> usize {
    bytes.len() / 3 * 3
}

#[test]
fn batches_and_callbacks_tell_the_same_story() {
    for (size, piece, uses) in [
        (5, 5, all_of as fn(&[u8]) -> usize),
        (300_000, 999, records),
        (3_000_000, 100_000, records),
    ] {
        let story = |serve: &dyn Fn(*mut echoloop, &mut Story)| {
            let el = new_loop();
            let addr = listen(el);
            let mut story = Story::new(el, uses);
            let running = clients(&addr, 3, size, piece);
            serve(el, &mut story);
            while story.told.len() < 3 {
                serve(el, &mut story);
            }
            running
                .into_iter()
                .for_each(|client| client.join().unwrap());
            assert_eq!(echoloop_free(el), 0);
            (story.lines(), story.data.len())
        };
        let by_callbacks = story(&serve_by_callbacks);
        assert_eq!(
            by_callbacks,
            (vec!["open, end, close 1 0".to_owned(); 3], 3 * size)
        );
        for capacity in [1, 2, 256] {
            let by_batches = story(&|el, story| serve_by_batches(el, story, capacity));
            assert_eq!(by_batches, by_callbacks, "capacity {capacity}");
        }
    }
}

#[test]
fn a_panic_inside_poisons_that_loop_and_no_other() {
    let (el, other) = (new_loop(), new_loop());
    std::panic::set_hook(Box::new(|_| {})); // The message is expected.
    let status = panic_inside(el);
    let _ = std::panic::take_hook();
    assert_eq!(status, ECHOLOOP_EPANIC);
    let mut event = unsafe { std::mem::zeroed() };
    assert_eq!(
        unsafe { echoloop_poll_batch(el, &mut event, 1, 0) },
        ECHOLOOP_EPANIC
    );
    assert_eq!(echoloop_now_us(el), ECHOLOOP_EPANIC.into());
    assert_eq!(echoloop_stop(el), ECHOLOOP_EPANIC);
    assert_eq!(unsafe { echoloop_poll_batch(other, &mut event, 1, 0) }, 0);
    assert_eq!(echoloop_free(el), 0);
    assert_eq!(echoloop_free(el), ECHOLOOP_EBADHANDLE);
    assert_eq!(echoloop_free(other), 0);
}

#[test]
fn a_panic_in_a_call_from_a_callback_ends_the_run() {
    unsafe extern "C-unwind" fn provoke(user: *mut c_void, _: *mut echoloop_timer, _: *mut c_void) {
        assert_eq!(panic_inside(user.cast()), ECHOLOOP_EPANIC);
    }
    let el = new_loop();
    let mut timer = ptr::null_mut();
    assert_eq!(
        unsafe { echoloop_timer_new(el, 0, 0, ptr::null_mut(), &mut timer) },
        0
    );
    let hooks = echoloop_hooks {
        on_timer: Some(provoke),
        ..hooks()
    };
    assert_eq!(
        unsafe { echoloop_run(el, &hooks, el.cast()) },
        ECHOLOOP_EPANIC
    );
    assert_eq!(echoloop_free(el), 0);
}

#[test]
fn on_data_that_returns_too_much_is_reported_and_counts_as_all() {
    let el = new_loop();
    let addr = listen(el);
    let mut story = Story::new(el, |bytes| bytes.len() + 1);
    let client =
        thread::spawn(move || TcpStream::connect(addr).unwrap().write_all(b"abc").unwrap());
    serve_by_callbacks(el, &mut story);
    client.join().unwrap();
    let told = story.told.get(&0).unwrap();
    assert_eq!(
        *told,
        ["-10007 on_data returned 4, but there were only 3 bytes"]
    );
    assert_eq!(echoloop_free(el), 0);
}

#[test]
fn data_put_back_survives_a_close_in_the_callback_that_gets_it_again() {
    unsafe extern "C-unwind" fn framed(
        user: *mut c_void,
        conn: *mut echoloop_conn,
        data: *const u8,
        len: usize,
    ) -> usize {
        let bytes = unsafe { std::slice::from_raw_parts(data, len) };
        if !bytes.ends_with(b"\n") {
            return 0;
        }
        let story = unsafe { &mut *user.cast::<Story>() };
        assert_eq!(echoloop_conn_close(conn), 0);
        // Whatever memory the close gave back is now used for something else.
        let noise = vec![b'#'; 200_000];
        let mut other = ptr::null_mut();
        let addr = CString::new("127.0.0.1:1").unwrap();
        let el = ptr::without_provenance_mut(story.el);
        assert_eq!(
            unsafe { echoloop_connect(el, addr.as_ptr(), ptr::null(), &mut other) },
            0
        );
        unsafe { echoloop_conn_send(other, noise.as_ptr().cast(), noise.len()) };
        story.open += 1;
        story.data.extend_from_slice(bytes);
        len
    }
    let el = new_loop();
    let addr = listen(el);
    let mut story = Story::new(el, all_of);
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        for part in [&b"first "[..], b"second ", b"third\n"] {
            stream.write_all(part).unwrap();
            // Parts that arrive together are no harm; apart they put more to the test.
            thread::yield_now();
        }
        let _ = stream.read(&mut [0; 1]);
    });
    let hooks = echoloop_hooks {
        on_data: Some(framed),
        ..hooks()
    };
    let user = ptr::from_mut(&mut story).cast();
    assert_eq!(unsafe { echoloop_run(el, &hooks, user) }, 0);
    client.join().unwrap();
    assert_eq!(String::from_utf8_lossy(&story.data), "first second third\n");
    assert_eq!(echoloop_free(el), 0);
}

#[test]
fn a_server_drains_on_stop_and_reports_it() {
    let server = unsafe { echoloop_server_new(ptr::null()) };
    let el = echoloop_server_loop(server);
    let addr = listen(el);
    let mut remote = ptr::null_mut();
    assert_eq!(unsafe { echoloop_remote_new(el, &mut remote) }, 0);
    let remote_bits = remote.addr();
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut back = [0; 5];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(
            echoloop_remote_stop(ptr::without_provenance_mut(remote_bits)),
            0
        );
        assert_eq!(stream.read(&mut back).unwrap(), 0, "drained: end of stream");
    });
    let mut report = echoloop_report {
        size: size_of::<echoloop_report>(),
        ..Default::default()
    };
    assert_eq!(unsafe { echoloop_server_report(server, &mut report) }, 0);
    let outcome = unsafe { echoloop_server_run(server, ptr::null(), ptr::null_mut(), &mut report) };
    assert_eq!(outcome, 0);
    assert_eq!(
        (report.closed_clean, report.aborted, report.bytes_lost),
        (1, 0, 0)
    );
    assert_eq!(unsafe { echoloop_server_report(server, &mut report) }, 1);
    client.join().unwrap();
    assert_eq!(echoloop_remote_free(remote), 0);
    assert_eq!(echoloop_server_free(server), 0);
}

#[test]
fn a_stop_before_an_echo_server_runs_is_remembered() {
    let server = unsafe { echoloop_server_new(ptr::null()) };
    assert_eq!(echoloop_stop(echoloop_server_loop(server)), 0);
    let (none, user) = (ptr::null(), ptr::null_mut());
    assert_eq!(
        unsafe { echoloop_server_run(server, none, user, ptr::null_mut()) },
        0
    );
    assert_eq!(echoloop_server_free(server), 0);
}

#[test]
fn a_server_drains_once_and_a_second_drain_cuts() {
    let server = unsafe { echoloop_server_new(ptr::null()) };
    let el = echoloop_server_loop(server);
    let addr = listen(el);
    let mut client = TcpStream::connect(&addr).unwrap();
    let mut event: [echoloop_event; 1] = unsafe { std::mem::zeroed() };
    let mut poll = || unsafe { echoloop_poll_batch(el, event.as_mut_ptr(), 1, 20_000_000) };
    while poll() != 1 {}
    assert_eq!(echoloop_server_drain(server), 0);
    let text = CString::new(addr).unwrap();
    let mut listener = ptr::null_mut();
    let listened = unsafe { echoloop_listen(el, text.as_ptr(), ptr::null(), &mut listener) };
    assert_eq!(listened, ECHOLOOP_ECLOSING);
    let mut conn = ptr::null_mut();
    let connected = unsafe { echoloop_connect(el, text.as_ptr(), ptr::null(), &mut conn) };
    assert_eq!(connected, ECHOLOOP_ECLOSING);
    assert_eq!(echoloop_server_drain(server), 0);
    while poll() != 1 {}
    while unsafe { echoloop_server_report(server, ptr::null_mut()) } == 0 {
        poll();
    }
    // Cut, not closed: the end of stream of the first drain, then a reset, or that alone.
    let mut end = Vec::new();
    let _ = client.read_to_end(&mut end);
    assert!(end.is_empty());
    assert_eq!(echoloop_server_free(server), 0);
}

#[test]
fn a_stop_before_the_run_is_remembered() {
    let el = new_loop();
    assert_eq!(echoloop_stop(el), 0);
    assert_eq!(unsafe { echoloop_run(el, &hooks(), ptr::null_mut()) }, 0);
    assert_eq!(echoloop_stop(el), 0);
    let mut event = unsafe { std::mem::zeroed::<echoloop_event>() };
    assert_eq!(unsafe { echoloop_poll_batch(el, &mut event, 1, -1) }, 1);
    assert_eq!(event.r#type, ECHOLOOP_EVENT_STOP);
    assert_eq!(echoloop_free(el), 0);
}

#[test]
fn a_timer_that_fires_once_can_be_rearmed_from_its_batch() {
    let el = new_loop();
    let (mut timer, mut word) = (ptr::null_mut(), 7);
    let user: *mut c_void = ptr::from_mut(&mut word).cast();
    assert_eq!(unsafe { echoloop_timer_new(el, 0, 0, user, &mut timer) }, 0);
    let mut events = [unsafe { std::mem::zeroed::<echoloop_event>() }; 8];
    for _ in 0..3 {
        assert_eq!(
            unsafe { echoloop_poll_batch(el, events.as_mut_ptr(), 8, -1) },
            1
        );
        assert_eq!(
            (events[0].r#type, events[0].user),
            (ECHOLOOP_EVENT_TIMER, user)
        );
        assert_eq!(echoloop_timer_rearm(timer, 1000), 0);
    }
    assert_eq!(echoloop_timer_cancel(timer), 0);
    assert_eq!(
        unsafe { echoloop_poll_batch(el, events.as_mut_ptr(), 8, 2000) },
        0
    );
    assert_eq!(echoloop_timer_rearm(timer, 0), ECHOLOOP_EBADHANDLE);
    assert_eq!(echoloop_free(el), 0);
}

#[test]
fn a_server_that_polls_is_not_left_waiting_when_its_drain_has_ended() {
    let server = unsafe { echoloop_server_new(ptr::null()) };
    let el = echoloop_server_loop(server);
    let addr = listen(el);
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        assert_eq!(
            stream.read(&mut [0; 1]).unwrap(),
            0,
            "drained: end of stream"
        );
    });
    let mut events = [unsafe { std::mem::zeroed::<echoloop_event>() }; 8];
    let mut report = echoloop_report {
        size: size_of::<echoloop_report>(),
        ..Default::default()
    };
    // No timeout: a wait that should not be would show as a test that hangs.
    while unsafe { echoloop_server_report(server, &mut report) } == 0 {
        let n = unsafe { echoloop_poll_batch(el, events.as_mut_ptr(), 8, -1) };
        assert!(n >= 0, "{n}");
        if events[..n as usize]
            .iter()
            .any(|event| event.r#type == ECHOLOOP_EVENT_OPENED)
        {
            assert_eq!(echoloop_server_drain(server), 0);
        }
    }
    assert_eq!(report.closed_clean, 1);
    client.join().unwrap();
    assert_eq!(echoloop_server_free(server), 0);
}

/// Connects `count` times to `addr` and returns the types and statuses of all events until one
/// connection has closed.
fn connect_until_closed(addr: &str, count: usize, timeout_us: i64) -> Vec<(u32, c_int)> {
    let el = new_loop();
    let addr = CString::new(addr).unwrap();
    let options = echoloop_connect_options {
        size: size_of::<echoloop_connect_options>(),
        timeout_us,
        ..Default::default()
    };
    for _ in 0..count {
        let mut conn = ptr::null_mut();
        let begun = unsafe { echoloop_connect(el, addr.as_ptr(), &options, &mut conn) };
        assert_eq!(begun, 0);
    }
    let mut events = vec![unsafe { std::mem::zeroed::<echoloop_event>() }; 16];
    let mut seen = Vec::new();
    while seen.iter().all(|(kind, _)| *kind != ECHOLOOP_EVENT_CLOSED) {
        let n = unsafe { echoloop_poll_batch(el, events.as_mut_ptr(), events.len(), 20_000_000) };
        assert!(n >= 0);
        seen.extend(events[..n as usize].iter().map(|e| (e.r#type, e.status)));
    }
    assert_eq!(echoloop_free(el), 0);
    seen
}

#[test]
fn a_refused_connect_is_one_closed_with_the_error_number() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    const ECONNREFUSED: c_int = 111; // Linux, errno(3)
    let seen = connect_until_closed(&addr, 1, 0);
    assert_eq!(seen, [(ECHOLOOP_EVENT_CLOSED, -ECONNREFUSED)]);
}

#[test]
fn a_connect_into_a_full_backlog_that_nobody_answers_ends_at_its_deadline() {
    use socket2::{Domain, Socket, Type};
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    full.bind(&any.into()).unwrap();
    full.listen(0).unwrap(); // Linux drops further SYNs of a full backlog, so the connect hangs.
    let addr = full.local_addr().unwrap().as_socket().unwrap().to_string();
    let begun = std::time::Instant::now();
    let seen = connect_until_closed(&addr, 8, 300_000);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let (last, before) = seen.split_last().unwrap();
    assert_eq!(
        *last,
        (ECHOLOOP_EVENT_CLOSED, ECHOLOOP_CLOSE_TIMED_OUT_CONNECT)
    );
    assert!(
        before
            .iter()
            .all(|(kind, _)| *kind == ECHOLOOP_EVENT_CONNECTED)
    );
}
