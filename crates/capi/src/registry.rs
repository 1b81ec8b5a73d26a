//! Which thread owns which loop, and where it is.
//!
//! The rule: a loop's cell is reached only by the thread whose token (see `thread`) stands beside
//! it in a table, so finding it takes one comparison and no lock. Whatever makes a loop unusual (poisoned, its free
//! asked for by another thread, or made before a fork) is a bit in that same word: the comparison fails, and the slow
//! path sorts it out. Other threads see only what is published under the entry's lock.

mod ending;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use echoloop_core::{Kind, LoopId, MAX_LOOPS, Remote};
use echoloop_server::Server;

use self::ending::accept_free;
use crate::adopt::Given;
use crate::datagram::Lent;
use crate::detail::Refused;
use crate::held::{HeldRemote, Patience, try_lock};
use crate::own::Owned;
use crate::thread::token;
use crate::{
    ECHOLOOP_EBADHANDLE, ECHOLOOP_EFORKED, ECHOLOOP_EPANIC, ECHOLOOP_EREENTRY,
    ECHOLOOP_EWRONGTHREAD, bug, fork,
};

pub(crate) use self::ending::{destroy, free};

/// A bug was met inside the loop; it can only be freed.
const POISONED: u64 = 1;
/// Another thread asked for the loop to be freed.
const FREE_ASKED: u64 = 2;
/// This is the child of a fork, and the loop was made before.
const FORKED: u64 = 4;
const FLAGS: u64 = POISONED | FREE_ASKED | FORKED;

/// One loop, or server, of this process.
pub(crate) struct LoopCell {
    /// Borrowed for the length of one call, never while a callback runs.
    pub(crate) server: RefCell<Server>,
    pub(crate) index: usize,
    pub(crate) loop_handle: u64,
    /// 0 for a plain loop.
    pub(crate) server_handle: u64,
    /// A run or a poll is further up the stack.
    pub(crate) busy: Cell<bool>,
    /// The run has something to look at beside its events: a stop, a free, a panic.
    pub(crate) interrupted: Cell<bool>,
    /// Its descriptor was asked for: a loop around may watch it.
    pub(crate) nested: Cell<bool>,
    pub(crate) stop: Cell<bool>,
    pub(crate) free_at_end: Cell<bool>,
    /// Bytes that were put back, copied out to be handed to C again.
    pub(crate) copy: RefCell<Vec<u8>>,
    /// The datagrams that are lent to C.
    pub(crate) datagrams: RefCell<Lent>,
    /// What timers, watches and lookups have of their own.
    pub(crate) own: RefCell<Owned>,
    /// The bytes of the last connection that was given away.
    pub(crate) given: RefCell<Given>,
}

/// Where a loop is and whose; apart from the rest, to be found with a shift.
struct Place {
    /// The token of the owning thread and flags; 0 when there is no loop.
    owner: AtomicU64,
    cell: AtomicPtr<LoopCell>,
}

struct Entry {
    /// Connections, listeners and timers, as of the last turn.
    live: AtomicI64,
    published: Mutex<Option<Published>>,
}

/// What other threads may know.
struct Published {
    remote: Remote,
    loop_handle: u64,
    server_handle: u64,
    /// It is one of several, and ends with them.
    of_workers: bool,
    freed: bool,
}

static PLACES: [Place; MAX_LOOPS] = [const {
    Place {
        owner: AtomicU64::new(0),
        cell: AtomicPtr::new(ptr::null_mut()),
    }
}; MAX_LOOPS];

static ENTRIES: [Entry; MAX_LOOPS] = [const {
    Entry {
        live: AtomicI64::new(0),
        published: Mutex::new(None),
    }
}; MAX_LOOPS];

/// Entries of the table that were ever used.
static USED: AtomicUsize = AtomicUsize::new(0);
static LOOPS: AtomicI64 = AtomicI64::new(0);

/// Finds the loop that a raw handle of `kind` claims. That the handle itself is alive is for the
/// caller to check: by [`exact`], or by the core.
#[inline]
pub(crate) fn find<'a>(
    operation: &'static str,
    raw: u64,
    kind: Kind,
) -> Result<&'a LoopCell, Refused> {
    match find_mine(raw) {
        Some(cell) => Ok(cell),
        None => find_unusual(operation, raw, kind),
    }
}

/// Finds the loop that a raw handle claims if it is this thread's and there is nothing unusual
/// about it.
#[inline(always)]
pub(crate) fn find_mine<'a>(raw: u64) -> Option<&'a LoopCell> {
    let place = &PLACES[LoopId::index_of(raw)];
    if place.owner.load(Relaxed) != token() {
        return None;
    }
    let cell = place.cell.load(Relaxed);
    // SAFETY: the entry has this thread's token, so this thread made the loop and has not
    // freed it (`destroy` clears the token first, on this thread): the cell is there. The reference
    // is used for the length of one exported call; a free within it is deferred by `busy`.
    Some(unsafe {
        std::hint::assert_unchecked(!cell.is_null()); // Two instructions a message.
        &*cell
    })
}

/// [`find`] for the handle of a loop or server itself.
pub(crate) fn exact<'a>(
    operation: &'static str,
    raw: u64,
    kind: Kind,
) -> Result<&'a LoopCell, Refused> {
    let cell = find(operation, raw, kind)?;
    let living = if kind == Kind::Server {
        cell.server_handle
    } else {
        cell.loop_handle
    };
    // In no build but that of a test, which has to find what this would do (tests/fuzz.rs).
    let forgotten = cfg!(echoloop_planted_bug) && raw != 0;
    if raw == 0 || raw != living && !forgotten || cell.free_at_end.get() {
        return Err(Refused::new(operation, ECHOLOOP_EBADHANDLE));
    }
    Ok(cell)
}

#[cold]
fn find_unusual<'a>(
    operation: &'static str,
    raw: u64,
    kind: Kind,
) -> Result<&'a LoopCell, Refused> {
    let index = LoopId::index_of(raw);
    let entry = &ENTRIES[index];
    let bad = || Err(Refused::new(operation, ECHOLOOP_EBADHANDLE));
    if raw & 1 == 0 || raw >> 1 & 0b1111 != kind as u64 {
        return bad();
    }
    let owner = PLACES[index].owner.load(Relaxed);
    if owner & !FLAGS != token() {
        // Generations of an earlier loop of this number are below those of the present one.
        return match &*published(entry) {
            Some(present) if raw >> 40 >= present.loop_handle >> 40 => {
                Err(Refused::new(operation, ECHOLOOP_EWRONGTHREAD))
            }
            _ => bad(),
        };
    }
    if owner & FORKED != 0 {
        return Err(Refused::new(operation, ECHOLOOP_EFORKED));
    }
    if owner & FREE_ASKED != 0 {
        // SAFETY: as in `find`: the token is this thread's.
        let cell: &LoopCell = unsafe { &*PLACES[index].cell.load(Relaxed) };
        if is_lent(cell) {
            return Err(Refused::new(operation, ECHOLOOP_EREENTRY));
        }
        if !cell.busy.get() {
            destroy(index);
            return bad();
        }
        accept_free(cell);
    }
    if owner & POISONED != 0 {
        return Err(Refused::new(operation, ECHOLOOP_EPANIC));
    }
    find(operation, raw, kind)
}

/// Holds, for a fork, what other threads may know of loops, and what they post to them.
pub(crate) fn hold(patience: &Patience, mut keep: impl FnMut(Box<dyn Any>)) {
    let used = USED.load(Relaxed).min(MAX_LOOPS);
    for entry in &ENTRIES[..used] {
        let Some(published) = patience.take(|| try_lock(&entry.published)) else {
            continue;
        };
        if let Some(present) = &*published {
            keep(Box::new(HeldRemote::new(&present.remote, patience)));
        }
        keep(Box::new(published));
    }
}

/// Marks all loops in the child of a fork. Runs of this thread end before their next event.
pub(crate) fn mark_forked() {
    let used = USED.load(Relaxed).min(MAX_LOOPS);
    for place in &PLACES[..used] {
        let owner = place.owner.load(Relaxed);
        if owner == 0 {
            continue;
        }
        place.owner.store(owner | FORKED, Relaxed);
        if owner & !FLAGS == token() {
            // SAFETY: as in `find`: the token is this thread's.
            let cell: &LoopCell = unsafe { &*place.cell.load(Relaxed) };
            cell.interrupted.set(true);
        }
    }
}

/// Whether the loop that a raw handle claims was made before a fork and is not of this process.
pub(crate) fn is_of_parent(raw: u64) -> bool {
    PLACES[LoopId::index_of(raw)].owner.load(Relaxed) & FORKED != 0
}

/// Makes a loop of this thread usable in the child of a fork.
pub(crate) fn after_fork(operation: &'static str, raw: u64) -> Result<(), Refused> {
    let index = LoopId::index_of(raw);
    let place = &PLACES[index];
    let owner = place.owner.load(Relaxed);
    if owner & FORKED == 0 || owner & !FLAGS != token() {
        return exact(operation, raw, Kind::Loop).map(|_| ());
    }
    // SAFETY: as in `find`: the token is this thread's.
    let cell: &LoopCell = unsafe { &*place.cell.load(Relaxed) };
    if raw == 0 || raw != cell.loop_handle || cell.free_at_end.get() {
        return Err(Refused::new(operation, ECHOLOOP_EBADHANDLE));
    }
    if owner & POISONED != 0 {
        return Err(Refused::new(operation, ECHOLOOP_EPANIC));
    }
    let Ok(mut server) = cell.server.try_borrow_mut() else {
        return Err(Refused::new(operation, ECHOLOOP_EREENTRY));
    };
    match catch_unwind(AssertUnwindSafe(|| server.event_loop().after_fork())) {
        Ok(made_anew) => made_anew?,
        Err(_) => return Err(poison(operation, cell)),
    }
    place.owner.fetch_and(!FORKED, Relaxed);
    Ok(())
}

/// Takes a new loop in and returns its handle, or the server's.
pub(crate) fn adopt(server: Server, kind: Kind) -> u64 {
    take_in(server, kind, false)
}

/// Takes in the server of a worker, on its thread, and returns its handle.
pub(crate) fn adopt_worker(server: Server) -> u64 {
    take_in(server, Kind::Server, true)
}

fn take_in(mut server: Server, kind: Kind, of_workers: bool) -> u64 {
    fork::mark_in_children();
    let id = server.event_loop().id();
    let index = id.index();
    let loop_handle = id.handle(Kind::Loop);
    let server_handle = if kind == Kind::Server {
        id.handle(kind)
    } else {
        0
    };
    let remote = server.remote();
    let cell = Box::new(LoopCell {
        server: RefCell::new(server),
        index,
        loop_handle,
        server_handle,
        busy: Cell::new(false),
        interrupted: Cell::new(false),
        nested: Cell::new(false),
        stop: Cell::new(false),
        free_at_end: Cell::new(false),
        copy: RefCell::default(),
        datagrams: RefCell::default(),
        own: RefCell::default(),
        given: RefCell::default(),
    });
    let entry = &ENTRIES[index];
    *published(entry) = Some(Published {
        remote,
        loop_handle,
        server_handle,
        of_workers,
        freed: false,
    });
    PLACES[index].cell.store(Box::into_raw(cell), Relaxed);
    PLACES[index].owner.store(token(), Relaxed);
    USED.fetch_max(index + 1, Relaxed);
    LOOPS.fetch_add(1, Relaxed);
    if kind == Kind::Server {
        server_handle
    } else {
        loop_handle
    }
}

/// Makes a loop of this thread unusable.
#[cold]
pub(crate) fn poison(operation: &'static str, cell: &LoopCell) -> Refused {
    cell.interrupted.set(true);
    PLACES[cell.index].owner.fetch_or(POISONED, Relaxed);
    bug::refused(operation)
}

/// Looks up, once a turn, what other threads want of the loop, and tells them how it does.
pub(crate) fn note_turn(cell: &LoopCell, live: usize) {
    let index = cell.index;
    let entry = &ENTRIES[index];
    entry.live.store(live as i64, Relaxed);
    cell.given.borrow_mut().forget();
    if PLACES[index].owner.load(Relaxed) & FREE_ASKED != 0 {
        accept_free(cell);
    }
}

/// Whether a loop of this thread is lent to a call further up the stack, which has called a callback in
/// its middle: of the log, or of slow handlers.
pub(crate) fn is_lent(cell: &LoopCell) -> bool {
    cell.server.try_borrow_mut().is_err()
}

/// Whether any loop of this thread is.
pub(crate) fn is_lent_here() -> bool {
    let used = USED.load(Relaxed).min(MAX_LOOPS);
    PLACES[..used].iter().any(|place| {
        // SAFETY: as in `find`: the token is this thread's.
        place.owner.load(Relaxed) & !FLAGS == token()
            && is_lent(unsafe { &*place.cell.load(Relaxed) })
    })
}

/// Whether a bug was met inside the loop.
pub(crate) fn is_poisoned(cell: &LoopCell) -> bool {
    PLACES[cell.index].owner.load(Relaxed) & POISONED != 0
}

/// Whether this is the child of a fork, and the loop was made before.
pub(crate) fn is_forked(cell: &LoopCell) -> bool {
    PLACES[cell.index].owner.load(Relaxed) & FORKED != 0
}

/// Ends the loop's current or next wait, and makes its descriptor readable.
pub(crate) fn wake(cell: &LoopCell) {
    if let Some(present) = &*published(&ENTRIES[cell.index]) {
        let _ = present.remote.wake(); // A loop that is gone needs none.
    }
}

/// The loops of the process, and what they held at their last turn (those of this thread: now).
pub(crate) fn live_handles() -> i64 {
    let used = USED.load(Relaxed).min(MAX_LOOPS);
    for (index, place) in PLACES[..used].iter().enumerate() {
        if place.owner.load(Relaxed) == token() {
            // SAFETY: as in `find`: the token is this thread's.
            let cell: &LoopCell = unsafe { &*place.cell.load(Relaxed) };
            if let Ok(mut server) = cell.server.try_borrow_mut() {
                ENTRIES[index]
                    .live
                    .store(server.event_loop().live_handles() as i64, Relaxed);
            }
        }
    }
    let within = ENTRIES[..used].iter().map(|entry| entry.live.load(Relaxed));
    LOOPS.load(Relaxed) + within.sum::<i64>()
}

fn published(entry: &Entry) -> MutexGuard<'_, Option<Published>> {
    // Nothing under the lock can panic half way, so a poisoned one still holds a good value.
    entry
        .published
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
