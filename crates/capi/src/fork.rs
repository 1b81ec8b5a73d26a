//! What becomes of loops in the child of a fork(2).
//!
//! The rule: a handler of pthread_atfork(3) marks all loops of the process in the child, so every call
//! on one, or on what belongs to it, is refused there and the parent is not disturbed, and calls in
//! the parent pay nothing for it. echoloop_after_fork() takes the mark away. Locks are for `held`.

use std::ffi::c_int;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::detail::returned;
use crate::handle::raw;
use crate::{echoloop, held, registry};

/// Makes a loop usable in the child of a fork(2); in the process that made it this does nothing.
/// Before, every call on the loop and on what belongs to it gets ECHOLOOP_EFORKED in the child, save
/// its free, which does not disturb the parent; a run from before the fork ends with that code.
///
/// All handles stay good, remotes too: those in the child reach the child's loop. The sockets are
/// shared, two descriptors of one connection: what arrives goes to whoever reads first. So usually
/// the parent closes what the child serves and the child the rest. Of a connection from before the
/// fork, close and abort in the child close only the child's descriptor. What was queued before the
/// fork is left to the parent. Other threads may be in the middle of calls at the fork; only if one was
/// in a callback of the log, echoloop_set_log() in the child may wait for ever.
///
/// Errors: -EMFILE, -ENFILE, -ENOMEM; then the loop can only be freed.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_after_fork(r#loop: *mut echoloop) -> c_int {
    returned(registry::after_fork("after fork", raw(r#loop)).map(|()| 0))
}

/// Has the loops of this process marked in its children.
pub(crate) fn mark_in_children() {
    static ASKED: Once = Once::new();
    // A failure is ENOMEM, and then the core alone refuses, as far as it can.
    ASKED.call_once(|| {
        // SAFETY: the handlers are functions of the program's whole life. That of the child stores to
        // atomics and cells of this thread, and gives memory back, which the C libraries allow there.
        let _ = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    });
}

/// How many forks led to this process, as far as they were asked about by then: another number means
/// another process.
pub(crate) fn count() -> u64 {
    FORKS.load(Relaxed)
}

static FORKS: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn before() {
    held::take();
}

unsafe extern "C" fn in_parent() {
    held::let_go();
}

unsafe extern "C" fn in_child() {
    held::let_go();
    FORKS.fetch_add(1, Relaxed);
    registry::mark_forked();
}
