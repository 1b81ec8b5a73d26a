//! How loops end: by a free, at once or when it is safe.
//!
//! The rule: a loop is taken apart by its own thread, when no call on it is under way there. A free that
//! comes at another time is remembered: by the run that is under way, or, of another thread, as a bit
//! beside the owner's token.

use std::ptr;
use std::sync::atomic::Ordering::Relaxed;

use echoloop_core::{Kind, LoopId};

use super::{ENTRIES, FLAGS, FREE_ASKED, LOOPS, LoopCell, PLACES, is_lent, published};
use crate::detail::Refused;
use crate::thread::token;
use crate::{ECHOLOOP_EBADHANDLE, ECHOLOOP_EINVAL, ECHOLOOP_EREENTRY, bug};

/// Frees a loop or server: now, at the end of its run, or, for another thread's, at the next call
/// of its owner.
pub(crate) fn free(operation: &'static str, raw: u64, kind: Kind) -> Result<(), Refused> {
    let index = LoopId::index_of(raw);
    let entry = &ENTRIES[index];
    let mine = {
        let mut published = published(entry);
        let Some(present) = &mut *published else {
            return Err(Refused::new(operation, ECHOLOOP_EBADHANDLE));
        };
        let living = if kind == Kind::Server {
            present.server_handle
        } else {
            present.loop_handle
        };
        if raw == 0 || raw != living || present.freed {
            return Err(Refused::new(operation, ECHOLOOP_EBADHANDLE));
        }
        if present.of_workers {
            let why =
                format_args!("the loop belongs to workers; stop them, and free them elsewhere");
            return Err(Refused::because(operation, ECHOLOOP_EINVAL, why));
        }
        if kind == Kind::Loop && present.server_handle != 0 {
            let why = format_args!("the loop belongs to a server; free the server");
            return Err(Refused::because(operation, ECHOLOOP_EINVAL, why));
        }
        let mine = PLACES[index].owner.load(Relaxed) & !FLAGS == token();
        if mine {
            // SAFETY: as in `find`: the token is this thread's.
            let cell: &LoopCell = unsafe { &*PLACES[index].cell.load(Relaxed) };
            if is_lent(cell) {
                return Err(Refused::new(operation, ECHOLOOP_EREENTRY));
            }
        }
        present.freed = true;
        if !mine {
            PLACES[index].owner.fetch_or(FREE_ASKED, Relaxed);
            let _ = present.remote.stop(); // Ends the owner's wait; a loop that is gone needs none.
        }
        mine
    };
    if mine {
        // SAFETY: as in `find`: the token is this thread's.
        let cell: &LoopCell = unsafe { &*PLACES[index].cell.load(Relaxed) };
        if cell.busy.get() {
            accept_free(cell);
        } else {
            destroy(index);
        }
    }
    Ok(())
}

/// Ends a loop of this thread that is not busy.
pub(crate) fn destroy(index: usize) {
    let entry = &ENTRIES[index];
    *published(entry) = None;
    PLACES[index].owner.store(0, Relaxed);
    entry.live.store(0, Relaxed);
    let cell = PLACES[index].cell.swap(ptr::null_mut(), Relaxed);
    LOOPS.fetch_sub(1, Relaxed);
    // A poisoned loop may panic once more on its way out; then the rest of it is leaked.
    let _ = bug::caught(|| {
        // SAFETY: the pointer came from `Box::into_raw` in `adopt`, this thread owns it, the swap
        // above made it unreachable, and callers hold no reference any more: they are not busy.
        let mut cell = unsafe { Box::from_raw(cell) };
        // No callback is called any more.
        cell.server.get_mut().event_loop().ignore_slow_handlers();
        drop(cell);
    });
}

/// Has the run of a loop of this thread end, and the loop then be freed.
pub(super) fn accept_free(cell: &LoopCell) {
    PLACES[cell.index].owner.fetch_and(!FREE_ASKED, Relaxed);
    cell.free_at_end.set(true);
    cell.interrupted.set(true);
}
