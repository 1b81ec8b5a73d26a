//! Remotes: what other threads may use of a loop.
//!
//! The rule: a remote has a life of its own, in a table under a lock; the lock is held only to copy
//! the reference out. It answers `ECHOLOOP_ECLOSED` once its loop is gone, and becomes a bad handle
//! when it is freed. Its handle is laid out as the core's, so no other kind can equal it.

use std::ffi::{c_int, c_void};
use std::sync::{Mutex, MutexGuard};

use echoloop_core::{Error, Kind, LoopId, Remote};

use crate::detail::{Refused, returned};
use crate::guard::lend_server;
use crate::handle::{handle, raw};
use crate::pointer::{check_out, write};
use crate::{
    ECHOLOOP_EBADHANDLE, ECHOLOOP_EFORKED, ECHOLOOP_ETOOMANY, echoloop, echoloop_remote, registry,
};

const SLOT_SHIFT: u32 = 16;
const GENERATION_SHIFT: u32 = 40;
const MAX_SLOTS: usize = 1 << (GENERATION_SHIFT - SLOT_SHIFT);
const MAX_GENERATION: u64 = (1 << (64 - GENERATION_SHIFT)) - 1;

struct Slots {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

struct Slot {
    /// The handle while the slot is taken; the last one when it is not.
    handle: u64,
    remote: Option<Remote>,
}

static REMOTES: Mutex<Slots> = Mutex::new(Slots {
    slots: Vec::new(),
    free: Vec::new(),
});

/// Makes a remote, on the loop's thread; it may then be used and freed on any thread, also after
/// the loop is gone. A loop may have several.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_remote_new(
    r#loop: *mut echoloop,
    out: *mut *mut echoloop_remote,
) -> c_int {
    returned(check_out("create remote", out).and_then(|()| {
        let remote = lend_server("create remote", raw(r#loop), Kind::Loop, |server| {
            Ok(server.remote())
        })?;
        let made = remotes().insert(raw(r#loop), remote);
        let made = made.ok_or_else(|| Refused::new("create remote", ECHOLOOP_ETOOMANY))?;
        // SAFETY: header, "Pointers": out is writable for a handle; it is not NULL.
        unsafe { write(out, handle(made)) };
        Ok(0)
    }))
}

/// Posts a word; the loop hands it out by on_post or POSTED, exactly once, in the order of the
/// posts. Words not handed out when the loop is freed are dropped. From any thread. Errors:
/// ECHOLOOP_ECLOSED once the loop is gone, ECHOLOOP_EQUEUEFULL when post_capacity words wait.
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
    let freed = remotes().remove(raw(remote));
    returned(
        freed
            .map(|_| 0)
            .ok_or_else(|| Refused::new("free remote", ECHOLOOP_EBADHANDLE)),
    )
}

/// How many remotes there are.
pub(crate) fn live() -> i64 {
    let remotes = remotes();
    remotes
        .slots
        .iter()
        .filter(|slot| slot.remote.is_some())
        .count() as i64
}

fn with(
    operation: &'static str,
    remote: *mut echoloop_remote,
    act: impl FnOnce(&Remote) -> Result<(), Error>,
) -> c_int {
    let found = remotes()
        .find(raw(remote))
        .and_then(|slot| slot.remote.clone());
    returned(match found {
        Some(_) if registry::is_of_parent(raw(remote)) => {
            Err(Refused::new(operation, ECHOLOOP_EFORKED))
        }
        Some(remote) => act(&remote).map(|()| 0).map_err(Refused::from),
        None => Err(Refused::new(operation, ECHOLOOP_EBADHANDLE)),
    })
}

impl Slots {
    fn insert(&mut self, of: u64, remote: Remote) -> Option<u64> {
        let (slot, generation) = match self.free.pop() {
            Some(slot) => (slot, (self.slots[slot].handle >> GENERATION_SHIFT) + 1),
            None if self.slots.len() == MAX_SLOTS => return None,
            None => (self.slots.len(), 1),
        };
        let handle = 1
            | (Kind::Remote as u64) << 1
            | (LoopId::index_of(of) as u64) << 4
            | (slot as u64) << SLOT_SHIFT
            | generation << GENERATION_SHIFT;
        let taken = Slot {
            handle,
            remote: Some(remote),
        };
        match self.slots.get_mut(slot) {
            Some(free) => *free = taken,
            None => self.slots.push(taken),
        }
        Some(handle)
    }

    fn find(&mut self, handle: u64) -> Option<&mut Slot> {
        let slot = (handle >> SLOT_SHIFT) as usize & (MAX_SLOTS - 1);
        self.slots
            .get_mut(slot)
            .filter(|slot| slot.handle == handle && slot.remote.is_some())
    }

    fn remove(&mut self, handle: u64) -> Option<Remote> {
        let remote = self.find(handle)?.remote.take();
        // A slot whose generation would wrap is retired.
        if handle >> GENERATION_SHIFT < MAX_GENERATION {
            self.free
                .push((handle >> SLOT_SHIFT) as usize & (MAX_SLOTS - 1));
        }
        remote
    }
}

fn remotes() -> MutexGuard<'static, Slots> {
    // Nothing under the lock can panic half way, so a poisoned one still holds a good value.
    REMOTES
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
