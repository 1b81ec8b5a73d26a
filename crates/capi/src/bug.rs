//! What becomes of a panic: it goes to the log, and never to the standard error of the host.
//!
//! The rule: in a program in C every panic of this library's std is ours. In a program in Rust, which
//! has the same std (a test of ours), only those are that come while a loop is lent to a call, or a guard
//! is up; all others go on to the hook that was there.

use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;
use std::{ptr, thread};

use crate::detail::Refused;
use crate::text::FixedText;
use crate::{ECHOLOOP_EPANIC, log, registry, status};

/// Bytes that are kept of a panic.
const SIZE: usize = 256;

thread_local! {
    /// Guards that are up on this thread.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// What this thread's last panic said.
    static LAST: RefCell<FixedText<SIZE>> = const { RefCell::new(FixedText::EMPTY) };
}

/// Catches a panic of `act`, which calls nothing of the program's. `None`: there was one.
pub(crate) fn caught<R>(act: impl FnOnce() -> R) -> Option<R> {
    DEPTH.set(DEPTH.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(act));
    DEPTH.set(DEPTH.get() - 1);
    outcome.ok()
}

/// What a call gets in which there was a panic just now, with what that said.
#[cold]
pub(crate) fn refused(operation: &str) -> Refused {
    LAST.with_borrow(|last| {
        let (text, said) = (status::own_text(ECHOLOOP_EPANIC), last.as_str());
        Refused::because(operation, ECHOLOOP_EPANIC, format_args!("{text}: {said}"))
    })
}

/// Has panics told to the log from now on.
pub(crate) fn watch() {
    static WATCHED: Once = Once::new();
    if thread::panicking() {
        return; // In a destructor, where the hook can't be changed.
    }
    WATCHED.call_once(|| {
        let in_rust = host_is_in_rust();
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if in_rust && DEPTH.get() == 0 && !registry::is_lent_here() {
                return before(info);
            }
            tell(info);
        }));
    });
}

/// Whether the `main` of this program is one in Rust, whose std is this one. That has put up a handler
/// for stack overflows, which is code of the same object as this. (To ask std for the thread's name
/// would allocate something that a thread of a C program never frees.)
fn host_is_in_rust() -> bool {
    let object_of = |code: usize| {
        let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: dladdr(3) takes any address, and fills the struct where it answers other than 0.
        let found = unsafe { libc::dladdr(ptr::without_provenance(code), info.as_mut_ptr()) };
        // SAFETY: all of it was zeroed, which is valid for pointers.
        (found != 0).then(|| unsafe { info.assume_init() }.dli_fbase.addr())
    };
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: sigaction(2) fills the struct it is given, and changes nothing without a new one.
    let handler = match unsafe { libc::sigaction(libc::SIGSEGV, ptr::null(), action.as_mut_ptr()) }
    {
        // SAFETY: filled, and zeroed before.
        0 => unsafe { action.assume_init() }.sa_sigaction,
        _ => return false,
    };
    if matches!(handler, libc::SIG_DFL | libc::SIG_IGN) {
        return false;
    }
    object_of(handler).is_some_and(|object| object_of(watch as fn() as usize) == Some(object))
}

fn tell(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let what = payload.downcast_ref::<&str>().copied();
    let what = what.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let what = what.unwrap_or("no text");
    let text = match info.location() {
        Some(place) => FixedText::<SIZE>::of(format_args!("{what}, at {place}")),
        None => FixedText::of(format_args!("{what}")),
    };
    log::bug(format_args!("{}", text.as_str()));
    // Not if this thread is at its end, or the panic came of telling another one.
    let _ = LAST.try_with(|last| last.try_borrow_mut().map(|mut last| *last = text));
}
