//! The two ways to receive, as one: what callbacks and batches tell, in the same words.
//!
//! The rule: a test says what it wants to hear and runs by both faces; what it does on an event, it does
//! where a C program would: in the callback, or while it goes through the batch.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::undocumented_unsafe_blocks,
    reason = "every test program uses its own part of this; every call is one that C could make"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::time::{Duration, Instant};

use ::echoloop::*;

/// How a program receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Face {
    Callbacks,
    Batches,
}

pub const FACES: [Face; 2] = [Face::Callbacks, Face::Batches];

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What was told.
#[derive(Clone, Copy, Debug)]
pub enum Told {
    Datagrams {
        udp: *mut echoloop_udp,
        first: *const echoloop_datagram,
        n: usize,
    },
    Resolved {
        lookup: *mut echoloop_lookup,
        user: *mut c_void,
        status: c_int,
        n: usize,
    },
    Signal {
        signal: *mut echoloop_signal,
        number: c_int,
    },
    /// By callbacks only.
    Error { status: c_int },
    /// Any other event: its type, its status.
    Other(u32, c_int),
}

/// A loop that is freed at the end.
pub struct Loop(pub *mut echoloop);

impl Loop {
    pub fn new() -> Self {
        Self::with(&echoloop_options::default())
    }

    pub fn with(options: &echoloop_options) -> Self {
        let options = echoloop_options {
            size: size_of::<echoloop_options>(),
            ..*options
        };
        let el = unsafe { echoloop_new(&options) };
        assert!(!el.is_null(), "{}", last_error());
        Self(el)
    }

    /// One turn: hands out what there is, or comes within `timeout`.
    pub fn turn(&self, face: Face, timeout: Duration, mut heard: impl FnMut(Told)) {
        let us = timeout.as_micros() as i64;
        match face {
            Face::Callbacks => {
                let mut heard: &mut dyn FnMut(Told) = &mut heard;
                let user = ptr::from_mut(&mut heard).cast();
                let n = unsafe { echoloop_run_once(self.0, &hooks(), user, us) };
                assert!(n >= 0, "{}", last_error());
            }
            Face::Batches => {
                let mut events = [const { unsafe { std::mem::zeroed::<echoloop_event>() } }; 8];
                let n = unsafe { echoloop_poll_batch(self.0, events.as_mut_ptr(), 8, us) };
                assert!(n >= 0, "{}", last_error());
                events[..n as usize].iter().map(told).for_each(heard);
            }
        }
    }

    /// Turns until `done` says so of something told.
    pub fn until(&self, face: Face, mut done: impl FnMut(Told) -> bool) {
        let (end, mut is_done) = (Instant::now() + PATIENCE, false);
        while !is_done {
            assert!(Instant::now() < end, "{face:?}: not told in time");
            self.turn(face, Duration::from_millis(50), |told| {
                is_done |= done(told);
            });
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        assert_eq!(echoloop_free(self.0), 0, "{}", last_error());
    }
}

pub fn last_error() -> String {
    let text = unsafe { CStr::from_ptr(echoloop_last_error()) };
    text.to_string_lossy().into_owned()
}

pub fn errname(status: c_int) -> String {
    let name = unsafe { CStr::from_ptr(echoloop_errname(status)) };
    name.to_string_lossy().into_owned()
}

pub fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// The text that a function writes to a buffer.
pub fn text(write: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<String, c_int> {
    let mut buf = [0u8; ECHOLOOP_ADDR_MAX];
    match write(buf.as_mut_ptr().cast(), buf.len()) {
        n @ 0.. => Ok(String::from_utf8(buf[..n as usize].to_vec()).unwrap()),
        status => Err(status),
    }
}

/// A binary address.
pub fn ip(text: &str) -> echoloop_ip {
    let mut ip = echoloop_ip::default();
    let text = c(text);
    assert_eq!(
        unsafe { echoloop_ip_parse(text.as_ptr(), &mut ip) },
        0,
        "{}",
        last_error()
    );
    ip
}

fn told(event: &echoloop_event) -> Told {
    match event.r#type {
        ECHOLOOP_EVENT_DATAGRAMS => {
            let mut first = ptr::null();
            let udp = unsafe { event.source.udp };
            let n = unsafe { echoloop_udp_received(udp, &mut first) };
            assert_eq!(n, event.len as c_int);
            Told::Datagrams {
                udp,
                first,
                n: event.len,
            }
        }
        ECHOLOOP_EVENT_RESOLVED => Told::Resolved {
            lookup: unsafe { event.source.lookup },
            user: event.user,
            status: event.status,
            n: event.len,
        },
        ECHOLOOP_EVENT_SIGNAL => Told::Signal {
            signal: unsafe { event.source.signal },
            number: event.status,
        },
        other => Told::Other(other, event.status),
    }
}

fn hooks() -> echoloop_hooks {
    echoloop_hooks {
        size: size_of::<echoloop_hooks>(),
        on_datagrams: Some(on_datagrams),
        on_resolved: Some(on_resolved),
        on_signal: Some(on_signal),
        on_error: Some(on_error),
        on_event: Some(on_event),
        ..echoloop_hooks::default()
    }
}

fn hear(user: *mut c_void, told: Told) {
    let heard: &mut &mut dyn FnMut(Told) = unsafe { &mut *user.cast() };
    heard(told);
}

unsafe extern "C-unwind" fn on_datagrams(
    user: *mut c_void,
    udp: *mut echoloop_udp,
    first: *const echoloop_datagram,
    n: usize,
) {
    hear(user, Told::Datagrams { udp, first, n });
}

unsafe extern "C-unwind" fn on_resolved(
    user: *mut c_void,
    lookup: *mut echoloop_lookup,
    lookup_user: *mut c_void,
    status: c_int,
    n: usize,
) {
    let told = Told::Resolved {
        lookup,
        user: lookup_user,
        status,
        n,
    };
    hear(user, told);
}

unsafe extern "C-unwind" fn on_signal(
    user: *mut c_void,
    signal: *mut echoloop_signal,
    number: c_int,
) {
    hear(user, Told::Signal { signal, number });
}

unsafe extern "C-unwind" fn on_error(user: *mut c_void, status: c_int, _: *const c_char) {
    hear(user, Told::Error { status });
}

unsafe extern "C-unwind" fn on_event(user: *mut c_void, event: *const echoloop_event) {
    hear(user, told(unsafe { &*event }));
}
