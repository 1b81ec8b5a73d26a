//! Where a loop's time goes, and callbacks that hold it for too long.
//!
//! The rule: what is told here was measured anyway; only a slow-handler callback has every callback
//! timed. That one is called while the loop looks for the next event, so the loop itself is lent
//! then, and calls on it are refused.

use std::ffi::{c_int, c_void};
use std::time::Duration;

use echoloop_core::{Histogram, Kind};

use crate::convert::bare;
use crate::detail::returned;
use crate::guard::lend_server;
use crate::handle::raw;
use crate::pointer::{check_sized, write_sized};
use crate::{echoloop, echoloop_event};

/// How often something took how long. Quantiles are at most 12.5% too long, and 0 where nothing was
/// measured yet; count, sum and max are exact. This struct does not grow.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_histogram {
    /// How often it happened.
    pub count: u64,
    /// All of them together, in nanoseconds; the mean is sum_ns / count.
    pub sum_ns: u64,
    /// Half of them took no longer, in nanoseconds.
    pub p50_ns: u64,
    /// 90 of 100 took no longer.
    pub p90_ns: u64,
    /// 99 of 100 took no longer.
    pub p99_ns: u64,
    /// 999 of 1,000 took no longer.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// Where a loop's time went so far. waiting.sum_ns and turn.sum_ns together are all its time, so
/// their ratio says how busy it is. Start with ECHOLOOP_METRICS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_metrics {
    /// sizeof(echoloop_metrics); ECHOLOOP_METRICS_INIT sets it.
    pub size: usize,
    /// How long callbacks held the loop, with the sends that they led to. A sample: of on_data one
    /// in 1,024, or in 16 while little goes on; of others one in 16; all of them while
    /// echoloop_set_slow_handler() is in use. Of a batch, its last event stands for all.
    pub handler: echoloop_histogram,
    /// From the end of a turn to the beginning of the next that brought something.
    pub waiting: echoloop_histogram,
    /// From the end of a wait to the last event handled; waits that brought nothing do not count.
    pub turn: echoloop_histogram,
    /// From when a timer was due to the beginning of the turn that handed it out.
    pub timer_lag: echoloop_histogram,
}

/// Called after a callback that took long; see echoloop_set_slow_handler().
pub type echoloop_slow_fn = Option<
    unsafe extern "C-unwind" fn(user: *mut c_void, event: *const echoloop_event, took_us: i64),
>;

/// Fills *out with where the loop's time went; out->size must be set. Unlike all other times, these
/// are nanoseconds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_metrics_get(
    r#loop: *mut echoloop,
    out: *mut echoloop_metrics,
) -> c_int {
    // SAFETY: header, "Structs": NULL, or readable and writable for its size.
    let size = unsafe { check_sized("metrics", out) };
    returned(size.and_then(|size| {
        let value = lend_server("metrics", raw(r#loop), Kind::Loop, |server| {
            let metrics = server.event_loop().metrics();
            Ok(echoloop_metrics {
                size,
                handler: echoloop_histogram::of(&metrics.handler),
                waiting: echoloop_histogram::of(&metrics.waiting),
                turn: echoloop_histogram::of(&metrics.turn),
                timer_lag: echoloop_histogram::of(&metrics.timer_lag),
            })
        })?;
        // SAFETY: passed `check_sized`, which said `size`.
        unsafe { write_sized(out, size, &value) };
        Ok(0)
    }))
}

/// Calls callback after each callback that held the loop for threshold_us or longer, with the event
/// that it served: its type, handles and status, of which a connection or timer may have ended by
/// then; user and data are NULL, len is 0. (A TICK is a TIMER there, and a REFUSED connection was
/// OPENED.) Of a batch, its last event stands for all. Replaces what was set before, and
/// slow_handler_us of the options. callback NULL, or a negative threshold: none.
///
/// Every callback is timed for it, which costs two readings of the clock each, some 50 ns. callback
/// is called while the loop looks for the next event: calls on this loop, and on what belongs to it,
/// get ECHOLOOP_EREENTRY there, its free too; only echoloop_stop() is taken. One that never returns is
/// never told.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_set_slow_handler(
    r#loop: *mut echoloop,
    threshold_us: i64,
    callback: echoloop_slow_fn,
    user: *mut c_void,
) -> c_int {
    let user = user.expose_provenance();
    returned(lend_server(
        "set slow handler",
        raw(r#loop),
        Kind::Loop,
        |server| {
            let el = server.event_loop();
            let (Some(callback), Ok(threshold)) = (callback, u64::try_from(threshold_us)) else {
                el.ignore_slow_handlers();
                return Ok(0);
            };
            el.on_slow_handler(Duration::from_micros(threshold), move |slow| {
                let Some(event) = bare(slow.event) else {
                    return;
                };
                let took = slow.took.as_micros() as i64;
                // SAFETY: header, "Callbacks": the callback is a function of its type, and it returns
                // or ends the process; the event lives until then.
                unsafe { callback(std::ptr::with_exposed_provenance_mut(user), &event, took) };
            });
            Ok(0)
        },
    ))
}

impl echoloop_histogram {
    fn of(of: &Histogram) -> Self {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            count: of.count(),
            sum_ns: ns(of.sum()),
            p50_ns: ns(of.quantile(0.5)),
            p90_ns: ns(of.quantile(0.9)),
            p99_ns: ns(of.quantile(0.99)),
            p999_ns: ns(of.quantile(0.999)),
            max_ns: ns(of.max()),
        }
    }
}
