//! What can be asked of workers that were started: on any thread, also after their end.
//!
//! The rule: what a worker has to answer itself, at the end of its turn, can't be asked on its thread.

use std::ffi::{c_char, c_int};

use crate::counters::{echoloop_counters, echoloop_server_counters};
use crate::detail::{Refused, returned};
use crate::handle::{handle, raw};
use crate::pointer::{check_out, check_sized, write, write_sized};
use crate::server::write_nth;
use crate::worker::refuse_inside;
use crate::workers::running;
use crate::{ECHOLOOP_EINVAL, echoloop_remote, echoloop_workers, remote};

/// How many workers were started. Of this and all that follow: ECHOLOOP_EINVAL before the start.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_workers_count(workers: *mut echoloop_workers) -> c_int {
    returned(running("count workers", workers).map(|running| running.workers.count() as c_int))
}

/// Whether all have ended, so that echoloop_workers_join() does not wait: 1 or 0.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_workers_is_finished(workers: *mut echoloop_workers) -> c_int {
    returned(
        running("workers, finished", workers)
            .map(|running| c_int::from(running.workers.is_finished())),
    )
}

/// Writes the text of the address of the i-th listener (0 is the first) to buf, with the port that the
/// system chose, and returns its length without the end mark; also after the end. ECHOLOOP_ADDR_MAX
/// bytes always suffice. ECHOLOOP_EINVAL if there are not so many, or capacity is too small.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_workers_addr(
    workers: *mut echoloop_workers,
    i: usize,
    buf: *mut c_char,
    capacity: usize,
) -> c_int {
    let of = "address of workers";
    returned(running(of, workers).and_then(|running| {
        // SAFETY: header, "Pointers": NULL, or buf is writable for capacity bytes.
        unsafe { write_nth(of, running.workers.local_addrs(), i, buf, capacity) }
    }))
}

/// The same of the i-th UDP socket.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_workers_udp_addr(
    workers: *mut echoloop_workers,
    i: usize,
    buf: *mut c_char,
    capacity: usize,
) -> c_int {
    let of = "UDP address of workers";
    returned(running(of, workers).and_then(|running| {
        // SAFETY: header, "Pointers": NULL, or buf is writable for capacity bytes.
        unsafe { write_nth(of, running.workers.udp_addrs(), i, buf, capacity) }
    }))
}

/// What one worker (0 is the first) has to do: connections that it has, or that are on their way to it,
/// and those with all that it had before. Either may be NULL. ECHOLOOP_EINVAL if there is no such
/// worker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_workers_load(
    workers: *mut echoloop_workers,
    worker: usize,
    open: *mut u64,
    accepted: *mut u64,
) -> c_int {
    let operation = "load of worker";
    returned(running(operation, workers).and_then(|running| {
        let loads = running.workers.per_worker();
        let load = loads
            .get(worker)
            .ok_or_else(|| no_such(operation, loads.len()))?;
        for (out, value) in [(open, load.open as u64), (accepted, load.accepted)] {
            if !out.is_null() {
                // SAFETY: header, "Pointers": writable for a number; it is not NULL.
                unsafe { write(out, value) };
            }
        }
        Ok(0)
    }))
}

/// Fills *out with what all workers count, summed; most_open is that of the whole. out->size must be
/// set. The workers answer at the end of their turn; one that does not within a second counts as it was
/// known last. ECHOLOOP_EREENTRY in a callback of the workers, which could not answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_workers_counters_get(
    workers: *mut echoloop_workers,
    out: *mut echoloop_server_counters,
) -> c_int {
    let operation = "counters of workers";
    // SAFETY: header, "Structs": NULL, or readable and writable for its size.
    let size = unsafe { check_sized(operation, out) };
    returned(size.and_then(|size| {
        let running = running(operation, workers)?;
        refuse_inside(operation, raw(workers))?;
        let value = echoloop_server_counters::of(running.workers.counters());
        // SAFETY: passed `check_sized`, which said `size`.
        unsafe { write_sized(out, size, &value) };
        Ok(0)
    }))
}

/// The same of what their loops count. A connection that was handed from one worker to another counts
/// as accepted and given_away in one loop, as adopted in the other, and as closed in both. buffered
/// is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_workers_loop_counters_get(
    workers: *mut echoloop_workers,
    out: *mut echoloop_counters,
) -> c_int {
    let operation = "loop counters of workers";
    // SAFETY: header, "Structs": NULL, or readable and writable for its size.
    let size = unsafe { check_sized(operation, out) };
    returned(size.and_then(|size| {
        let running = running(operation, workers)?;
        refuse_inside(operation, raw(workers))?;
        let sum = running.workers.loop_counters();
        let loads = running.workers.per_worker();
        let open = loads.iter().map(|load| load.open as u64);
        let value = echoloop_counters::of(&sum, open.sum(), 0);
        // SAFETY: passed `check_sized`, which said `size`.
        unsafe { write_sized(out, size, &value) };
        Ok(0)
    }))
}

/// Makes a remote of one worker's loop (0 is the first), to post it words or hand it connections. Its
/// stop is one of all workers. Free it as any remote; it does not end with the workers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_workers_remote(
    workers: *mut echoloop_workers,
    worker: usize,
    out: *mut *mut echoloop_remote,
) -> c_int {
    let operation = "create remote of worker";
    returned(check_out(operation, out).and_then(|()| {
        let running = running(operation, workers)?;
        let workers = &running.workers;
        let found = workers.remote(worker).zip(workers.loop_id(worker));
        let (remote, id) = found.ok_or_else(|| no_such(operation, workers.count()))?;
        let made = remote::insert(operation, id, remote.clone())?;
        // SAFETY: header, "Pointers": out is writable for a handle; it is not NULL.
        unsafe { write(out, handle(made)) };
        Ok(0)
    }))
}

fn no_such(operation: &'static str, n: usize) -> Refused {
    let why = format_args!("there are {n} workers, counted from 0");
    Refused::because(operation, ECHOLOOP_EINVAL, why)
}
