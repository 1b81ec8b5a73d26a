//! Both ways to receive, behind one: a loop whose events a test sees by callbacks or by batches.
//!
//! The rule: a test is run with each face and says once what it wants. Waits have a deadline.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call is one that C could make"
)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::time::{Duration, Instant};

use ::echoloop::*;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One event of a connection, of whichever face.
#[derive(Clone, Debug)]
pub struct Happened {
    /// ECHOLOOP_EVENT_...
    pub what: u32,
    pub conn: *mut echoloop_conn,
    pub data: Vec<u8>,
    /// Where `data` is in the library's memory.
    pub at: *const u8,
    pub status: c_int,
    pub unsent: u64,
    pub listener: *mut echoloop_listener,
    pub word: *mut c_void,
}

/// How a test receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    Callbacks,
    Batches,
}

pub const BOTH: [By; 2] = [By::Callbacks, By::Batches];

/// A loop, freed when this is dropped.
pub struct Face {
    pub el: *mut echoloop,
    by: By,
    /// Told in the turn in which a test had seen enough; the next wait begins with these.
    left: RefCell<VecDeque<Happened>>,
}

impl Face {
    pub fn new(by: By) -> Self {
        let el = unsafe { echoloop_new(ptr::null()) };
        assert!(!el.is_null());
        Self {
            el,
            by,
            left: RefCell::default(),
        }
    }

    /// Receives until `act` says that it has seen enough.
    pub fn until(&self, mut act: impl FnMut(&Happened) -> bool) {
        let begun = Instant::now();
        let enough = Cell::new(false);
        let mut see = |happened: &Happened| match enough.get() {
            true => self.left.borrow_mut().push_back(happened.clone()),
            false => enough.set(act(happened)),
        };
        let left = self.left.take();
        left.iter().for_each(&mut see);
        loop {
            if enough.get() {
                return;
            }
            match self.by {
                By::Callbacks => by_callbacks(self.el, 20_000, &mut see),
                By::Batches => by_batches(self.el, 20_000, &mut see),
            }
            assert!(begun.elapsed() < PATIENCE, "{:?}: waited in vain", self.by);
        }
    }

    /// Receives once what is there, for the next wait.
    pub fn turn(&self) {
        let mut see = |happened: &Happened| self.left.borrow_mut().push_back(happened.clone());
        match self.by {
            By::Callbacks => by_callbacks(self.el, 0, &mut see),
            By::Batches => by_batches(self.el, 0, &mut see),
        }
    }

    pub fn listen(&self, addr: &[u8], options: &echoloop_listen_options) -> *mut echoloop_listener {
        let (addr, mut out) = (CString::new(addr).unwrap(), ptr::null_mut());
        let status = unsafe { echoloop_listen(self.el, addr.as_ptr(), options, &mut out) };
        assert_eq!(status, 0, "{}", last_error());
        out
    }

    pub fn connect(&self, addr: &[u8], options: &echoloop_connect_options) -> *mut echoloop_conn {
        let (addr, mut out) = (CString::new(addr).unwrap(), ptr::null_mut());
        let status = unsafe { echoloop_connect(self.el, addr.as_ptr(), options, &mut out) };
        assert_eq!(status, 0, "{}", last_error());
        out
    }

    /// Waits for this event of this connection.
    pub fn sees(&self, what: u32, conn: *mut echoloop_conn) -> Happened {
        self.sees_any(|happened| happened.what == what && happened.conn == conn)
    }

    /// Waits for an event that `fits`.
    pub fn sees_any(&self, fits: impl Fn(&Happened) -> bool) -> Happened {
        let mut seen = None;
        self.until(|happened| {
            if seen.is_none() && fits(happened) {
                seen = Some(happened.clone());
            }
            seen.is_some()
        });
        seen.unwrap()
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        echoloop_free(self.el);
    }
}

type See<'a> = &'a mut dyn FnMut(&Happened);

fn by_batches(el: *mut echoloop, timeout_us: i64, see: See<'_>) {
    let mut events = [unsafe { std::mem::zeroed::<echoloop_event>() }; 8];
    let n = unsafe { echoloop_poll_batch(el, events.as_mut_ptr(), events.len(), timeout_us) };
    assert!(n >= 0, "{}", last_error());
    for event in &events[..n as usize] {
        let mut happened = happened(event.r#type, event.conn);
        happened.status = event.status;
        happened.at = event.data;
        if !event.data.is_null() {
            happened.data = unsafe { std::slice::from_raw_parts(event.data, event.len) }.to_vec();
        }
        // Each member is eight bytes, whichever was written.
        let source = event.source;
        unsafe {
            (happened.unsent, happened.listener, happened.word) =
                (source.unsent, source.listener, source.word);
        }
        see(&happened);
    }
}

fn by_callbacks(el: *mut echoloop, timeout_us: i64, mut see: See<'_>) {
    let hooks = echoloop_hooks {
        size: size_of::<echoloop_hooks>(),
        on_open: Some(on_open),
        on_data: Some(on_data),
        on_congested: Some(on_congested),
        on_drained: Some(on_drained),
        on_end_of_stream: Some(on_end_of_stream),
        on_close: Some(on_close),
        on_post: Some(on_post),
        ..echoloop_hooks::default()
    };
    let user = ptr::from_mut(&mut see).cast();
    let n = unsafe { echoloop_run_once(el, &hooks, user, timeout_us) };
    assert!(n >= 0, "{}", last_error());
}

fn happened(what: u32, conn: *mut echoloop_conn) -> Happened {
    Happened {
        what,
        conn,
        data: Vec::new(),
        at: ptr::null(),
        status: 0,
        unsent: 0,
        listener: ptr::null_mut(),
        word: ptr::null_mut(),
    }
}

unsafe fn tell(user: *mut c_void, happened: &Happened) {
    unsafe { (*user.cast::<See<'_>>())(happened) };
}

unsafe extern "C-unwind" fn on_open(
    user: *mut c_void,
    conn: *mut echoloop_conn,
    listener: *mut echoloop_listener,
) {
    let mut accepted_by = ptr::null_mut();
    let what = match unsafe { echoloop_conn_origin(conn, &mut accepted_by) } {
        ECHOLOOP_ORIGIN_ACCEPTED => ECHOLOOP_EVENT_OPENED,
        ECHOLOOP_ORIGIN_CONNECTED => ECHOLOOP_EVENT_CONNECTED,
        ECHOLOOP_ORIGIN_ADOPTED => ECHOLOOP_EVENT_ADOPTED,
        other => panic!("origin {other}"),
    };
    assert_eq!(accepted_by, listener);
    let opened = Happened {
        listener,
        ..happened(what, conn)
    };
    unsafe { tell(user, &opened) };
}

unsafe extern "C-unwind" fn on_data(
    user: *mut c_void,
    conn: *mut echoloop_conn,
    data: *const u8,
    len: usize,
) -> usize {
    let arrived = Happened {
        data: unsafe { std::slice::from_raw_parts(data, len) }.to_vec(),
        at: data,
        ..happened(ECHOLOOP_EVENT_DATA, conn)
    };
    unsafe { tell(user, &arrived) };
    len
}

unsafe extern "C-unwind" fn on_congested(user: *mut c_void, conn: *mut echoloop_conn) {
    unsafe { tell(user, &happened(ECHOLOOP_EVENT_CONGESTED, conn)) };
}

unsafe extern "C-unwind" fn on_drained(user: *mut c_void, conn: *mut echoloop_conn) {
    unsafe { tell(user, &happened(ECHOLOOP_EVENT_DRAINED, conn)) };
}

unsafe extern "C-unwind" fn on_end_of_stream(user: *mut c_void, conn: *mut echoloop_conn) {
    unsafe { tell(user, &happened(ECHOLOOP_EVENT_END_OF_STREAM, conn)) };
}

unsafe extern "C-unwind" fn on_close(
    user: *mut c_void,
    conn: *mut echoloop_conn,
    status: c_int,
    unsent: u64,
) {
    let closed = Happened {
        status,
        unsent,
        ..happened(ECHOLOOP_EVENT_CLOSED, conn)
    };
    unsafe { tell(user, &closed) };
}

unsafe extern "C-unwind" fn on_post(user: *mut c_void, word: *mut c_void) {
    let posted = Happened {
        word,
        ..happened(ECHOLOOP_EVENT_POSTED, ptr::null_mut())
    };
    unsafe { tell(user, &posted) };
}

/// The text of this thread's last failure.
pub fn last_error() -> String {
    let text = unsafe { std::ffi::CStr::from_ptr(echoloop_last_error()) };
    text.to_string_lossy().into_owned()
}

/// What a function writes to a buffer for an address.
pub fn addr_of<H>(
    function: unsafe extern "C" fn(*mut H, *mut c_char, usize) -> c_int,
    handle: *mut H,
) -> Vec<u8> {
    let mut text = [0xff_u8; ECHOLOOP_ADDR_MAX];
    let len = unsafe { function(handle, text.as_mut_ptr().cast(), text.len()) };
    let len = usize::try_from(len).unwrap_or_else(|_| panic!("{}", last_error()));
    assert_eq!(text[len], 0, "the end mark");
    text[..len].to_vec()
}

pub fn conn_options() -> echoloop_conn_options {
    echoloop_conn_options {
        size: size_of::<echoloop_conn_options>(),
        ..Default::default()
    }
}

pub fn listen_options() -> echoloop_listen_options {
    echoloop_listen_options {
        size: size_of::<echoloop_listen_options>(),
        ..Default::default()
    }
}

pub fn connect_options() -> echoloop_connect_options {
    echoloop_connect_options {
        size: size_of::<echoloop_connect_options>(),
        ..Default::default()
    }
}

pub fn send(conn: *mut echoloop_conn, bytes: &[u8]) -> c_int {
    unsafe { echoloop_conn_send(conn, bytes.as_ptr().cast(), bytes.len()) }
}
