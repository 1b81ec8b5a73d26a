//! The life of one worker, on its thread.
//!
//! The rule: its server is a loop of that thread like any other, so all functions work in its callbacks,
//! with the same checks; only its free is refused. A worker that fails says why, once, for all of them.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use ::echoloop_server::{Report, Server};
use echoloop_core::{Error, ErrorKind, Kind};

use crate::detail::Refused;
use crate::guard::occupy_cell;
use crate::handle::handle;
use crate::registry::{self, LoopCell};
use crate::{ECHOLOOP_EREENTRY, bug, echoloop, echoloop_hooks, server};

/// Called on the thread of each worker (0 to n - 1) before all other callbacks, with its loop; returns
/// the user pointer of its callbacks. user is what was given to echoloop_workers_start().
///
/// In it, as in all callbacks of the worker, loop is one of that thread: make timers, connect, listen
/// there. Its echoloop_stop() is a stop of all workers. echoloop_free() gets ECHOLOOP_EINVAL.
pub type echoloop_worker_start_fn = Option<
    unsafe extern "C-unwind" fn(
        user: *mut c_void,
        worker: usize,
        r#loop: *mut echoloop,
    ) -> *mut c_void,
>;

/// Called on the thread of each worker after all other callbacks, also of one that has failed, so that
/// what on_start made can be freed. The worker's loop still answers, and is gone when it returns.
pub type echoloop_worker_end_fn =
    Option<unsafe extern "C-unwind" fn(worker_user: *mut c_void, worker: usize)>;

/// What all workers of a server are started with.
pub(crate) struct Plan {
    /// The handle of the workers.
    pub(crate) workers: u64,
    /// `None`: echo, without callbacks.
    pub(crate) hooks: Option<echoloop_hooks>,
    pub(crate) on_start: echoloop_worker_start_fn,
    pub(crate) on_end: echoloop_worker_end_fn,
    /// The exposed address of the user pointer.
    pub(crate) user: usize,
}

thread_local! {
    /// The handle of the workers that this thread is one of; 0 for all other threads.
    static MEMBER_OF: Cell<u64> = const { Cell::new(0) };
}

/// Refuses what would wait for the very thread that it is called on.
pub(crate) fn refuse_inside(operation: &'static str, workers: u64) -> Result<(), Refused> {
    if MEMBER_OF.get() != workers {
        return Ok(());
    }
    let why = format_args!("this would wait for the worker that it is called on");
    Err(Refused::because(operation, ECHOLOOP_EREENTRY, why))
}

/// Serves until the end. The status of the first worker that fails is left in `failure`.
pub(crate) fn live(
    plan: &Plan,
    worker: usize,
    server: Server,
    failure: &AtomicI32,
) -> Result<Report, Error> {
    let outcome = bug::caught(|| registry::adopt_worker(server))
        .ok_or_else(|| bug::refused("start worker"))
        .and_then(|raw| registry::exact("run worker", raw, Kind::Server))
        .and_then(|cell| {
            MEMBER_OF.set(plan.workers);
            let outcome = serve(plan, worker, cell);
            MEMBER_OF.set(0);
            registry::destroy(cell.index);
            outcome
        });
    outcome.map_err(|refused| {
        let _ = failure.compare_exchange(0, refused.status(), Relaxed, Relaxed);
        // Whoever joins looks at the status.
        Error::new("run worker", ErrorKind::Closed)
    })
}

fn serve(plan: &Plan, worker: usize, cell: &LoopCell) -> Result<Report, Refused> {
    let mut user = std::ptr::with_exposed_provenance_mut(plan.user);
    if let Some(on_start) = plan.on_start {
        occupied(cell, |cell| {
            // SAFETY: header, "Callbacks": the callback is a function of its type, and it returns or
            // ends the process.
            user = unsafe { on_start(user, worker, handle(cell.loop_handle)) };
            Ok(0)
        })?;
    }
    let mut report = Report::default();
    let served = occupied(cell, |cell| {
        report = server::serve(cell, plan.hooks.as_ref(), user)?;
        Ok(0)
    });
    if let Some(on_end) = plan.on_end {
        occupied(cell, |_| {
            // SAFETY: as above.
            unsafe { on_end(user, worker) };
            Ok(0)
        })?;
    }
    served.map(|_| report)
}

/// The loop takes no run meanwhile: this is a callback, or the run.
fn occupied(
    cell: &LoopCell,
    act: impl FnOnce(&LoopCell) -> Result<c_int, Refused>,
) -> Result<c_int, Refused> {
    occupy_cell("run worker", cell, act)
}
