//! Remotes: what other threads may use of a loop.
//!
//! The rule: a remote has a life of its own, in a table. It answers `ECHOLOOP_ECLOSED` once its loop
//! is gone, and becomes a bad handle when it is freed.

use std::ffi::{c_int, c_void};

use echoloop_core::{Error, Kind, LoopId, Remote};

use crate::detail::{Refused, returned};
use crate::guard::lend_server;
use crate::handle::{handle, raw};
use crate::held::Patience;
use crate::pointer::{check_out, write};
use crate::table::Table;
use crate::{ECHOLOOP_EBADHANDLE, ECHOLOOP_EFORKED, echoloop, echoloop_remote, registry};

static REMOTES: Table<Remote> = Table::new(Kind::Remote);

/// Makes a remote, on the loop's thread; it may then be used and freed on any thread, also after
/// the loop is gone. A loop may have several. Errors: ECHOLOOP_ETOOMANY, ECHOLOOP_ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_remote_new(
    r#loop: *mut echoloop,
    out: *mut *mut echoloop_remote,
) -> c_int {
    returned(check_out("create remote", out).and_then(|()| {
        let remote = lend_server("create remote", raw(r#loop), Kind::Loop, |server| {
            Ok(server.remote())
        })?;
        let made = REMOTES.insert("create remote", raw(r#loop), remote)?;
        // SAFETY: header, "Pointers": out is writable for a handle; it is not NULL.
        unsafe { write(out, handle(made)) };
        Ok(0)
    }))
}

/// Posts a word; the loop hands it out by on_post or POSTED, exactly once, in the order of the
/// posts. Words not handed out when the loop is freed are dropped. From any thread. Errors:
/// ECHOLOOP_ECLOSED once the loop is gone, ECHOLOOP_EQUEUEFULL when post_capacity words wait,
/// ECHOLOOP_ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_remote_post(remote: *mut echoloop_remote, word: *mut c_void) -> c_int {
    with("post", remote, |remote| {
        remote.post(word.expose_provenance() as u64)
    })
}

/// Stops the loop as echoloop_stop() does, from any thread, also before it runs. Errors:
/// ECHOLOOP_ECLOSED once the loop is gone.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_remote_stop(remote: *mut echoloop_remote) -> c_int {
    with("stop", remote, Remote::stop)
}

/// Ends the loop's current or next wait, with no event, from any thread. Errors: ECHOLOOP_ECLOSED
/// once the loop is gone.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_remote_wake(remote: *mut echoloop_remote) -> c_int {
    with("wake", remote, Remote::wake)
}

/// Frees a remote, from any thread; the loop is not affected.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_remote_free(remote: *mut echoloop_remote) -> c_int {
    let freed = REMOTES.remove(raw(remote));
    returned(
        freed
            .map(|_| 0)
            .ok_or_else(|| Refused::new("free remote", ECHOLOOP_EBADHANDLE)),
    )
}

/// Takes in a remote of this loop, and returns its handle.
pub(crate) fn insert(operation: &'static str, of: LoopId, remote: Remote) -> Result<u64, Refused> {
    REMOTES.insert(operation, of.handle(Kind::Loop), remote)
}

/// The lock of the table, for a fork.
pub(crate) fn hold(patience: &Patience) -> Option<impl Sized + 'static> {
    REMOTES.hold(patience)
}

/// How many remotes there are.
pub(crate) fn live() -> i64 {
    REMOTES.len()
}

fn with(
    operation: &'static str,
    remote: *mut echoloop_remote,
    act: impl FnOnce(&Remote) -> Result<(), Error>,
) -> c_int {
    returned(find(operation, remote).and_then(|remote| {
        act(&remote)?;
        Ok(0)
    }))
}

/// The remote behind a handle, copied out of the table.
pub(crate) fn find(
    operation: &'static str,
    remote: *mut echoloop_remote,
) -> Result<Remote, Refused> {
    match REMOTES.get(raw(remote)) {
        Some(_) if registry::is_of_parent(raw(remote)) => {
            Err(Refused::new(operation, ECHOLOOP_EFORKED))
        }
        Some(remote) => Ok(remote),
        None => Err(Refused::new(operation, ECHOLOOP_EBADHANDLE)),
    }
}
