//! Handles: what a program holds instead of a pointer.
//!
//! A handle is 64 bits: an odd marker, the kind, the loop, the slot and the generation of the slot
//! (promise 2). It is compared whole with the key stored in the slot, so one comparison refuses a
//! handle that is stale, of another kind, of another loop, zero or made up. The lowest bit is set
//! so that a handle which travels through C as a pointer value is never a valid address.
//!
//! A slot whose generation would wrap is retired. A loop's number is used again only with
//! generations above all that the earlier loop of that number gave out.

use std::fmt;
use std::sync::{Mutex, TryLockError};

use crate::{Error, ErrorKind};

const KIND_SHIFT: u32 = 1;
const LOOP_SHIFT: u32 = 5;
const SLOT_SHIFT: u32 = 16;
const GENERATION_SHIFT: u32 = 40;

/// Loops that may live in one process at a time.
pub const MAX_LOOPS: usize = 1 << (SLOT_SHIFT - LOOP_SHIFT);
/// Objects of one kind that one loop may hold at a time.
pub(crate) const MAX_SLOTS: usize = 1 << (GENERATION_SHIFT - SLOT_SHIFT);
/// The last generation of a slot; after it the slot is retired.
pub(crate) const MAX_GENERATION: u32 = (1 << (64 - GENERATION_SHIFT)) - 1;

/// What a handle names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A whole event loop.
    Loop = 1,
    /// A connection.
    Conn = 2,
    /// A listener.
    Listener = 3,
    /// A timer.
    Timer = 4,
    /// A server (made by the layers above the core).
    Server = 5,
    /// A remote (made by the layers above the core).
    Remote = 6,
    /// A watch of a raw descriptor.
    Watch = 7,
    /// A UDP socket.
    Udp = 8,
    /// A signal that is an event.
    Signal = 9,
    /// A name that is being resolved.
    Lookup = 10,
    /// One of the sockets with which a connect tries several addresses; never handed out.
    Attempt = 11,
    /// A selector (made by the layers above the core).
    Selector = 12,
    /// The workers of a server (made by the layers above the core).
    Workers = 13,
}

/// The number of a loop within this process, 0 to [`MAX_LOOPS`] - 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoopId {
    pub(crate) index: u16,
    pub(crate) first_generation: u32,
}

impl LoopId {
    /// The number as an index, 0 to [`MAX_LOOPS`] - 1.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.index)
    }

    /// A handle of `kind` in this loop, for an object that exists once a loop.
    ///
    /// The layers above the core name a loop, its server and its remote this way.
    #[must_use]
    pub fn handle(self, kind: Kind) -> u64 {
        pack(kind, self.index, 0, self.first_generation)
    }

    /// The loop number that a raw handle of any kind claims, checked no further.
    #[must_use]
    pub fn index_of(raw: u64) -> usize {
        (raw >> LOOP_SHIFT) as usize & (MAX_LOOPS - 1)
    }
}

pub(crate) fn pack(kind: Kind, loop_index: u16, slot: u32, generation: u32) -> u64 {
    1 | (kind as u64) << KIND_SHIFT
        | u64::from(loop_index) << LOOP_SHIFT
        | u64::from(slot) << SLOT_SHIFT
        | u64::from(generation) << GENERATION_SHIFT
}

pub(crate) fn slot_of(raw: u64) -> u32 {
    (raw >> SLOT_SHIFT) as u32 & (MAX_SLOTS as u32 - 1)
}

pub(crate) fn generation_of(raw: u64) -> u32 {
    (raw >> GENERATION_SHIFT) as u32
}

pub(crate) fn kind_of(raw: u64) -> u64 {
    (raw >> KIND_SHIFT) & 0b1111
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Plain data: it may be copied, stored and sent anywhere, and outlive what it names.
        /// Using it then is [`ErrorKind::BadHandle`](crate::ErrorKind::BadHandle).
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub(crate) u64);

        impl $name {
            /// The handle as 64 bits, for the border to another language.
            #[must_use]
            pub fn to_raw(self) -> u64 {
                self.0
            }

            /// A handle from 64 bits. Any value may be given; it is checked where it is used.
            #[must_use]
            pub fn from_raw(raw: u64) -> Self {
                Self(raw)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({}.{})"), slot_of(self.0), generation_of(self.0))
            }
        }
    };
}

id! {
    /// Names one connection of one loop.
    ConnId
}
id! {
    /// Names one listener of one loop.
    ListenerId
}
id! {
    /// Names one timer of one loop.
    TimerId
}
id! {
    /// Names one watch of one loop.
    WatchId
}
id! {
    /// Names one UDP socket of one loop.
    UdpId
}
id! {
    /// Names one signal that one loop watches.
    SignalId
}
id! {
    /// Names one lookup of a name by one loop.
    LookupId
}

/// Loop numbers that are free, each with the generation its next loop starts at.
struct LoopNumbers {
    free: Vec<LoopId>,
    made: usize,
}

static NUMBERS: Mutex<LoopNumbers> = Mutex::new(LoopNumbers {
    free: Vec::new(),
    made: 0,
});

fn numbers() -> std::sync::MutexGuard<'static, LoopNumbers> {
    // Nothing in here can panic half way, so a poisoned lock still holds a good value.
    NUMBERS
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What making and ending loops locks, for who forks; `None` while another thread has it.
#[doc(hidden)]
pub fn try_hold_loop_numbers() -> Option<impl Sized + 'static> {
    match NUMBERS.try_lock() {
        Ok(held) => Some(held),
        Err(TryLockError::Poisoned(held)) => Some(held.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Takes a loop number that no living loop has.
pub(crate) fn claim_loop() -> Result<LoopId, Error> {
    let mut numbers = numbers();
    if let Some(id) = numbers.free.pop() {
        return Ok(id);
    }
    if numbers.made == MAX_LOOPS {
        return Err(Error::new("create loop", ErrorKind::TooMany));
    }
    let index = numbers.made as u16;
    numbers.made += 1;
    Ok(LoopId {
        index,
        first_generation: 1,
    })
}

/// Gives a loop number back; `last` is the highest generation that its handles had.
pub(crate) fn release_loop(id: LoopId, last: u32) {
    // Half of the range is kept for the next loop; a number worn out further is retired.
    if last < MAX_GENERATION / 2 {
        numbers().free.push(LoopId {
            first_generation: last + 1,
            ..id
        });
    }
}

const _: () = assert!(size_of::<usize>() == 8, "handles need 64-bit pointers");
