//! Workers: one server on several threads, each with a loop and callbacks.
//!
//! The rule: a handle of workers belongs to no thread. It has settings until the start, and from then on
//! only asks and stops; whatever waits for the threads holds no lock of the table, and is refused on
//! one of those threads. What a worker does is in `worker`, what can be asked in `workers_ask`.

use std::ffi::{c_char, c_int, c_void};
use std::mem;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::echoloop_server::{ServerBuilder, Spread, Workers};
use echoloop_core::{Error, ErrorKind, Kind, MAX_LOOPS};

use crate::detail::{Refused, returned};
use crate::handle::{handle, raw};
use crate::held::Patience;
use crate::pointer::{check_out, check_sized, read_sized, write, write_sized};
use crate::table::Table;
use crate::worker::{Plan, live as live_on, refuse_inside};
use crate::{
    ECHOLOOP_EBADHANDLE, ECHOLOOP_EFORKED, ECHOLOOP_EINVAL, ECHOLOOP_ENOMEM, ECHOLOOP_ETOOMANY,
    addr, bug, echoloop_hooks, echoloop_report, echoloop_server_options, echoloop_worker_end_fn,
    echoloop_worker_start_fn, echoloop_workers, fork, reserve, watch,
};

/// One worker accepts all TCP and Unix connections and hands each to the one that has the fewest.
pub const ECHOLOOP_SPREAD_FEWEST: c_int = 0;
/// Each worker listens by itself, and the kernel spreads TCP connections by a hash of their addresses:
/// SO_REUSEPORT, socket(7). Accepting uses all cores; the parts are as even as chance has it. Unix and
/// inherited listeners are spread as by ECHOLOOP_SPREAD_FEWEST.
pub const ECHOLOOP_SPREAD_REUSE_PORT: c_int = 1;

static WORKERS: Table<Arc<Shared>> = Table::new(Kind::Workers);

struct Shared {
    /// Forks that led to this process when it was made.
    forks: u64,
    state: Mutex<State>,
}

enum State {
    Preparing(Box<ServerBuilder>),
    Running(Arc<Running>),
    Freed,
}

pub(crate) struct Running {
    pub(crate) workers: Workers,
    /// The status of the first worker that failed; 0: none.
    failure: Arc<AtomicI32>,
}

/// Makes workers, which are one server on several threads; options may be NULL. They have settings
/// until echoloop_workers_start(). The handle may be used on any thread; end it with
/// echoloop_workers_free(). Errors: ECHOLOOP_EINVAL, ECHOLOOP_ETOOMANY, ECHOLOOP_ENOMEM. Of all
/// that follow: ECHOLOOP_EFORKED in the child of a fork, where the threads are not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_workers_new(
    options: *const echoloop_server_options,
    out: *mut *mut echoloop_workers,
) -> c_int {
    let operation = "create workers";
    returned(check_out(operation, out).and_then(|()| {
        // SAFETY: header, "Structs": NULL, or readable for its size.
        let options = unsafe { read_sized(operation, options) }?.unwrap_or_default();
        // SAFETY: header, "Pointers".
        let builder = unsafe { options.convert() }?;
        bug::watch();
        fork::mark_in_children();
        let shared = Arc::new(Shared {
            forks: fork::count(),
            state: Mutex::new(State::Preparing(Box::new(builder))),
        });
        let made = WORKERS.insert(operation, 0, shared)?;
        // SAFETY: header, "Pointers": out is writable for a handle; it is not NULL.
        unsafe { write(out, handle(made)) };
        Ok(0)
    }))
}

/// Has the workers listen on addr, TCP or Unix, as echoloop_listen(), from their start on; may be
/// called several times. That it can't be listened on is an error of echoloop_workers_start().
/// ECHOLOOP_EINVAL once they were started.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_workers_listen(
    workers: *mut echoloop_workers,
    addr: *const c_char,
) -> c_int {
    // SAFETY: header, "Pointers": NULL, or a string with an end mark.
    let addr = unsafe { addr::addr("listen", addr) };
    returned(addr.and_then(|addr| prepare("listen", workers, |builder| Ok(builder.listen(addr)))))
}

/// Has each worker open a UDP socket on addr, with SO_REUSEPORT: the kernel gives all datagrams of one
/// peer to one worker. Otherwise as echoloop_workers_listen().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_workers_bind_udp(
    workers: *mut echoloop_workers,
    addr: *const c_char,
) -> c_int {
    let operation = "bind udp";
    // SAFETY: header, "Pointers": NULL, or a string with an end mark.
    let addr = unsafe { addr::addr(operation, addr) };
    returned(addr.and_then(|addr| prepare(operation, workers, |b| Ok(b.bind_udp(addr)))))
}

/// Has the workers serve a socket that was opened elsewhere: a listener, or a bound UDP socket (which
/// is worker 0's alone). The descriptor is the workers' from now on: the program closes it only if this
/// fails. A descriptor that is neither is an error of echoloop_workers_start(). Errors: -EBADF,
/// -EMFILE, ECHOLOOP_EINVAL once they were started.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_workers_inherit(
    workers: *mut echoloop_workers,
    fd: c_int,
) -> c_int {
    let operation = "inherit";
    returned(
        watch::borrow(operation, fd).and_then(|given: BorrowedFd<'_>| {
            prepare(operation, workers, |builder| {
                let kept = given.try_clone_to_owned().map_err(|e| {
                    let errno = e.raw_os_error().unwrap_or(libc::EBADF);
                    Error::new(operation, ErrorKind::Os(errno))
                })?;
                // SAFETY: it is open, as it has a duplicate, and ours from now on.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
                Ok(builder.inherit(kept))
            })
        }),
    )
}

/// Starts n workers: threads of this process with a loop each. spread is ECHOLOOP_SPREAD_FEWEST (0) or
/// ECHOLOOP_SPREAD_REUSE_PORT. Returns when all listen. The limits are those of the whole; each worker
/// has its own ticks. A connection that comes by another worker is told by on_open with a listener of
/// NULL. hooks is copied, and may be NULL: then they are echo servers. on_start and on_end are called
/// on each worker's thread at its beginning and its end, and may be NULL; without on_start, user is
/// the user pointer of all callbacks, on all threads. The threads have this one's signal mask,
/// pthread_sigmask(3).
///
/// A callback must not wait for another worker. What a worker ends by, all do: a failure (ECHOLOOP_EPANIC)
/// drains the others, and echoloop_workers_join() tells.
///
/// On failure nothing is left of it, and it may be tried again. Errors: those of echoloop_listen() and
/// echoloop_udp_bind(), -EAGAIN for want of threads, ECHOLOOP_EINVAL for no worker at all or if they
/// were started before, ECHOLOOP_ETOOMANY, ECHOLOOP_ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_workers_start(
    workers: *mut echoloop_workers,
    n: usize,
    spread: c_int,
    hooks: *const echoloop_hooks,
    on_start: echoloop_worker_start_fn,
    on_end: echoloop_worker_end_fn,
    user: *mut c_void,
) -> c_int {
    let operation = "start workers";
    // SAFETY: header, "Structs": NULL, or readable for its size.
    let hooks = unsafe { read_sized(operation, hooks) };
    returned(hooks.and_then(|hooks| {
        let plan = Plan {
            workers: raw(workers),
            hooks,
            on_start,
            on_end,
            user: user.expose_provenance(),
        };
        start(operation, raw(workers), n, spread, plan).map(|()| 0)
    }))
}

/// Stops all workers, from any thread, their callbacks too: the first stop begins their drain, the next
/// ends its grace, the last cuts what is left, as those of echoloop_server_run(). Does not wait.
/// ECHOLOOP_EINVAL before they were started.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_workers_stop(workers: *mut echoloop_workers) -> c_int {
    returned(running("stop workers", workers).map(|running| {
        running.workers.stop();
        0
    }))
}

/// Waits until all workers have ended; does not stop them. Returns 0 with *report filled, the sum of
/// their drains (report->size must be set; report may be NULL). Several threads may wait, and later
/// calls have the same answer. A worker that failed: its status, such as ECHOLOOP_EPANIC, after the
/// others were drained. ECHOLOOP_EREENTRY in a callback of the workers, ECHOLOOP_EINVAL before they
/// were started.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_workers_join(
    workers: *mut echoloop_workers,
    report: *mut echoloop_report,
) -> c_int {
    let operation = "join workers";
    let size = match report.is_null() {
        true => Ok(0),
        // SAFETY: header, "Structs": readable and writable for its size.
        false => unsafe { check_sized(operation, report) },
    };
    returned(size.and_then(|size| {
        let running = running(operation, workers)?;
        refuse_inside(operation, raw(workers))?;
        let drained = bug::caught(|| running.workers.join());
        let failure = running.failure.load(Relaxed);
        if failure != 0 {
            let why = format_args!("a worker has failed, and the others were drained");
            return Err(Refused::because(operation, failure, why));
        }
        let drained = drained.ok_or_else(|| bug::refused(operation))??;
        if !report.is_null() {
            // SAFETY: passed `check_sized`, which said `size`.
            unsafe { write_sized(report, size, &echoloop_report::of(drained)) };
        }
        Ok(0)
    }))
}

/// Frees workers, on any thread: cuts what is open, and waits for the threads, so for callbacks under
/// way too. Whoever waits in echoloop_workers_join() is answered. ECHOLOOP_EREENTRY in a callback of
/// the workers: stop them there, and free them elsewhere. In the child of a fork it frees the handle
/// and nothing else: the sockets stay open there.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_workers_free(workers: *mut echoloop_workers) -> c_int {
    let operation = "free workers";
    returned(
        refuse_inside_or_null(operation, raw(workers)).and_then(|()| {
            let Some(shared) = WORKERS.remove(raw(workers)) else {
                return Err(Refused::new(operation, ECHOLOOP_EBADHANDLE));
            };
            if shared.is_of_parent() {
                mem::forget(shared); // Its end would wait for threads that are not in this process.
                return Ok(0);
            }
            let state = mem::replace(&mut *shared.lock(), State::Freed);
            if let State::Running(running) = state {
                running.workers.abort_all();
                // What failed was told by the log, or to whoever has joined.
                let _ = bug::caught(|| running.workers.join());
            }
            Ok(0)
        }),
    )
}

/// The lock of the table, for a fork.
pub(crate) fn hold(patience: &Patience) -> Option<impl Sized + 'static> {
    WORKERS.hold(patience)
}

/// How many handles of workers there are.
pub(crate) fn live() -> i64 {
    WORKERS.len()
}

/// What was started.
pub(crate) fn running(
    operation: &'static str,
    workers: *mut echoloop_workers,
) -> Result<Arc<Running>, Refused> {
    let shared = find(operation, raw(workers))?;
    match &*shared.lock() {
        State::Running(running) => Ok(Arc::clone(running)),
        State::Freed => Err(Refused::new(operation, ECHOLOOP_EBADHANDLE)),
        State::Preparing(_) => {
            let why = format_args!("the workers were not started yet");
            Err(Refused::because(operation, ECHOLOOP_EINVAL, why))
        }
    }
}

fn start(
    operation: &'static str,
    handle: u64,
    n: usize,
    spread: c_int,
    plan: Plan,
) -> Result<(), Refused> {
    let spread = match spread {
        ECHOLOOP_SPREAD_FEWEST => Spread::Fewest,
        ECHOLOOP_SPREAD_REUSE_PORT => Spread::ReusePort,
        _ => {
            let why = format_args!("{spread} is no way to spread connections");
            return Err(Refused::because(operation, ECHOLOOP_EINVAL, why));
        }
    };
    let shared = find(operation, handle)?;
    if n > MAX_LOOPS {
        return Err(Refused::new(operation, ECHOLOOP_ETOOMANY));
    }
    if reserve::is_short() {
        return Err(Refused::new(operation, ECHOLOOP_ENOMEM));
    }
    // Workers that ask for something meanwhile wait for this; it does not wait for them.
    let mut state = shared.lock();
    let State::Preparing(builder) = &*state else {
        return Err(state.not_preparing(operation));
    };
    let failure = Arc::new(AtomicI32::new(0));
    let (builder, told) = (ServerBuilder::clone(builder), Arc::clone(&failure));
    let work = move |worker, server| live_on(&plan, worker, server, &told);
    let workers = bug::caught(|| builder.start_workers_with(n, spread, work))
        .ok_or_else(|| bug::refused(operation))??;
    *state = State::Running(Arc::new(Running { workers, failure }));
    Ok(())
}

/// Changes the settings.
fn prepare(
    operation: &'static str,
    workers: *mut echoloop_workers,
    change: impl FnOnce(ServerBuilder) -> Result<ServerBuilder, Error>,
) -> Result<c_int, Refused> {
    let shared = find(operation, raw(workers))?;
    let mut state = shared.lock();
    let State::Preparing(builder) = &*state else {
        return Err(state.not_preparing(operation));
    };
    let changed = change(ServerBuilder::clone(builder))?;
    *state = State::Preparing(Box::new(changed));
    Ok(0)
}

fn find(operation: &'static str, handle: u64) -> Result<Arc<Shared>, Refused> {
    let shared = WORKERS.get(handle);
    let shared = shared.ok_or_else(|| Refused::new(operation, ECHOLOOP_EBADHANDLE))?;
    match shared.is_of_parent() {
        true => Err(Refused::new(operation, ECHOLOOP_EFORKED)),
        false => Ok(shared),
    }
}

/// No thread is a member of no workers.
fn refuse_inside_or_null(operation: &'static str, handle: u64) -> Result<(), Refused> {
    match handle {
        0 => Err(Refused::new(operation, ECHOLOOP_EBADHANDLE)),
        _ => refuse_inside(operation, handle),
    }
}

impl Shared {
    fn is_of_parent(&self) -> bool {
        self.forks != fork::count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under it is caught before the state is changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn not_preparing(&self, operation: &'static str) -> Refused {
        match self {
            Self::Freed => Refused::new(operation, ECHOLOOP_EBADHANDLE),
            _ => {
                let why = format_args!("the workers were started already");
                Refused::because(operation, ECHOLOOP_EINVAL, why)
            }
        }
    }
}
