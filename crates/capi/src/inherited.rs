//! Sockets that a service manager opened for this process.
//!
//! The rule: they are taken from the environment once, by the first call, and each is handed out once.
//! Until then it stays open here.

use std::collections::VecDeque;
use std::ffi::{c_char, c_int};
use std::os::fd::IntoRawFd;
use std::sync::{Mutex, MutexGuard};

use echoloop_core::{Inherited, inherited_listeners};

use crate::detail::{Refused, returned};
use crate::text::FixedText;
use crate::{ECHOLOOP_ENULL, bug};

/// Bytes of a name in echoloop_inherited_fd, its end mark included; systemd.socket(5) has no longer
/// ones.
pub const ECHOLOOP_FD_NAME_MAX: usize = 256;

/// A descriptor that was there when the process started.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_inherited_fd {
    /// The descriptor, close-on-exec and non-blocking; it is the program's now.
    pub fd: c_int,
    /// Its name, FileDescriptorName= in systemd.socket(5); "unknown" if it has none.
    pub name: [c_char; ECHOLOOP_FD_NAME_MAX],
}

/// Taken from the environment and not handed out yet.
static LEFT: Mutex<VecDeque<Inherited>> = Mutex::new(VecDeque::new());

/// Hands out the descriptors that a service manager passed to this process: 3 and those after it, as
/// LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES say (sd_listen_fds(3)). Fills fds with at most capacity of
/// them and returns how many; call again until it returns 0. Each is handed out once, and is the
/// program's to adopt (echoloop_adopt_listener()) or to close. They may be other things than listeners,
/// as the service's units say.
///
/// 0 when nothing was passed, or it was for another process. Call it first thing, on any thread: a
/// descriptor that the program opened itself would be taken for inherited where the variables lie.
/// Errors: ECHOLOOP_EINVAL for variables that are no numbers, -EBADF for a descriptor that is not open;
/// then none is taken, changed or closed, and the next call answers the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_inherited(
    fds: *mut echoloop_inherited_fd,
    capacity: usize,
) -> c_int {
    bug::watch();
    let taken = bug::caught(take_from_environment)
        .unwrap_or_else(|| Err(bug::refused("inherit listeners")));
    returned(taken.and_then(|()| {
        if fds.is_null() && capacity > 0 {
            return Err(Refused::new("inherit listeners", ECHOLOOP_ENULL));
        }
        let mut left = left();
        let n = left.len().min(capacity);
        for (i, inherited) in left.drain(..n).enumerate() {
            let value = c_struct(inherited);
            // SAFETY: header, "Pointers": fds is writable for capacity structs, and i is below it.
            unsafe { fds.add(i).write_unaligned(value) };
        }
        Ok(n as c_int) // At most 65,536 are ever passed.
    }))
}

fn take_from_environment() -> Result<(), Refused> {
    let taken = inherited_listeners()?;
    left().extend(taken);
    Ok(())
}

fn c_struct(inherited: Inherited) -> echoloop_inherited_fd {
    let text = FixedText::<ECHOLOOP_FD_NAME_MAX>::of(format_args!("{}", inherited.name));
    let mut name = [0; ECHOLOOP_FD_NAME_MAX];
    for (to, byte) in name.iter_mut().zip(text.with_end()) {
        *to = *byte as c_char;
    }
    echoloop_inherited_fd {
        fd: inherited.fd.into_raw_fd(),
        name,
    }
}

fn left() -> MutexGuard<'static, VecDeque<Inherited>> {
    // Nothing under the lock can panic half way, so a poisoned one still holds a good value.
    LEFT.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
