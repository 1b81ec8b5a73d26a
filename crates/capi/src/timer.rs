//! Functions on timers.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::time::Duration;

use echoloop_core::{Kind, TimerId, TimerSpec};

use crate::detail::{Refused, returned};
use crate::guard::{lend, lend_server};
use crate::handle::{handle, raw};
use crate::own::{Own, echoloop_timer_fn};
use crate::pointer::{check_out, write};
use crate::{ECHOLOOP_EINVAL, echoloop, echoloop_timer, registry};

/// Makes a timer that fires delay_us from now, and then every period_us; 0: once. It never fires
/// early and does not drift; periods that were missed are skipped. user comes with its events.
/// Errors: ECHOLOOP_EINVAL for a negative time, ECHOLOOP_ETOOMANY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_timer_new(
    r#loop: *mut echoloop,
    delay_us: i64,
    period_us: i64,
    user: *mut c_void,
    out: *mut *mut echoloop_timer,
) -> c_int {
    returned(check_out("create timer", out).and_then(|()| {
        let delay = duration("create timer", delay_us)?;
        let period = duration("create timer", period_us)?;
        let spec = match period {
            Duration::ZERO => TimerSpec::after(delay),
            period => TimerSpec::every(period).first_after(delay),
        };
        let spec = spec.user_data(user.expose_provenance() as u64);
        let timer = lend_server("create timer", raw(r#loop), Kind::Loop, |server| {
            Ok(server.event_loop().add_timer(spec)?)
        })?;
        // SAFETY: header, "Pointers": out is writable for a handle; it is not NULL.
        unsafe { write(out, handle(timer.to_raw())) };
        Ok(0)
    }))
}

/// Moves a timer to fire delay_us from now; one with a period goes on from there. One that fires
/// once can be re-armed until its callback returns, or until the next poll.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_timer_rearm(timer: *mut echoloop_timer, delay_us: i64) -> c_int {
    let id = raw(timer);
    returned(lend("re-arm timer", id, Kind::Timer, |el| {
        el.rearm_timer(TimerId::from_raw(id), duration("re-arm timer", delay_us)?)?;
        Ok(0)
    }))
}

/// Has a timer call callback with its user pointer, in place of on_timer; NULL takes that back. With
/// batches its TIMER event is handed out as ever, and echoloop_dispatch() calls. Errors:
/// ECHOLOOP_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_timer_set_callback(
    timer: *mut echoloop_timer,
    callback: echoloop_timer_fn,
) -> c_int {
    let operation = "set timer callback";
    let id = raw(timer);
    returned(registry::find(operation, id, Kind::Timer).and_then(|cell| {
        lend(operation, id, Kind::Timer, |el| {
            el.timer_user_data(TimerId::from_raw(id))?;
            let mut own = cell.own.borrow_mut();
            match callback {
                Some(_) => own.set(operation, el, id, Own::Timer(callback))?,
                None => drop(own.remove(id)),
            }
            Ok(0)
        })
    }))
}

/// Ends a timer; it does not fire any more, also when it was due already.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_timer_cancel(timer: *mut echoloop_timer) -> c_int {
    let id = raw(timer);
    let operation = "cancel timer";
    returned(registry::find(operation, id, Kind::Timer).and_then(|cell| {
        lend(operation, id, Kind::Timer, |el| {
            el.cancel_timer(TimerId::from_raw(id))?;
            cell.own.borrow_mut().remove(id);
            Ok(0)
        })
    }))
}

/// Writes the pointer that was given with the timer to *out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_timer_user(
    timer: *mut echoloop_timer,
    out: *mut *mut c_void,
) -> c_int {
    let id = raw(timer);
    returned(check_out("timer user", out).and_then(|()| {
        let user = lend("timer user", id, Kind::Timer, |el| {
            Ok(el.timer_user_data(TimerId::from_raw(id))?)
        })?;
        // SAFETY: header, "Pointers": out is writable for a pointer; it is not NULL.
        unsafe { write(out, ptr::with_exposed_provenance_mut(user as usize)) };
        Ok(0)
    }))
}

fn duration(operation: &'static str, us: i64) -> Result<Duration, Refused> {
    u64::try_from(us).map(Duration::from_micros).map_err(|_| {
        Refused::because(
            operation,
            ECHOLOOP_EINVAL,
            format_args!("a time must not be negative"),
        )
    })
}
