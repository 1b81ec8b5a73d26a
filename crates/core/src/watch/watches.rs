//! The table of watched descriptors, one and the same for `EventLoop` and `Selector`.
//!
//! The rule: mio tells edges, a level is made of them by asking the system anew (`rewatch`) for each
//! descriptor that was told, once its handler is over. So nothing that is still ready is forgotten,
//! and each is told once a turn. What is always ready (a file) is not known to the system at all.
//! When a dead descriptor is looked for is in `sweep`; what programs call is in `watch`, `selector`.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::handle::{Kind, LoopId, slot_of};
use crate::room::{list_room, queue_room};
use crate::slots::Slots;
use crate::sys::{Interest, Readiness, System, WatchMode};
use crate::watch::sweep::Sweep;
use crate::{Error, ErrorKind};

pub(crate) struct Watches {
    pub(crate) slots: Slots<Watch>,
    by_number: HashMap<RawFd, u32>,
    /// Keys of those with something to tell.
    line: VecDeque<u64>,
    /// Those that are always ready.
    always: Vec<u32>,
    pub(crate) sweep: Sweep,
}

pub(crate) struct Watch {
    pub(crate) fd: RawFd,
    /// The descriptor, if it was adopted.
    pub(crate) owned: Option<OwnedFd>,
    pub(crate) interest: Interest,
    pub(crate) mode: WatchMode,
    pub(crate) user_data: u64,
    /// Reported and not told yet.
    pub(crate) pending: Readiness,
    pub(crate) state: State,
    in_line: bool,
    /// Told, and its handler is not known to be over.
    told: bool,
    /// Always ready.
    pub(crate) always: bool,
    /// Armed since it was told last: one that is always ready is so in the next turn, in any mode.
    fresh: bool,
}

/// What is known of a watched descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Will be told when it is ready.
    Armed,
    /// Won't, until its interest is set anew.
    Silent,
    /// Silent, and the system was told so.
    Quiet,
    /// Is not open any more.
    Dead,
}

/// What `next` tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    Ready(Readiness),
    Dead,
}

impl Watches {
    pub(crate) fn new(id: LoopId) -> Self {
        Self {
            slots: Slots::new(Kind::Watch, id),
            by_number: HashMap::new(),
            line: VecDeque::new(),
            always: Vec::new(),
            sweep: Sweep::default(),
        }
    }

    /// Begins to watch; EEXIST when a watch of the same open file has this number.
    pub(crate) fn add(
        &mut self,
        sys: &mut impl System,
        fd: RawFd,
        interest: Interest,
        mode: WatchMode,
        user_data: u64,
    ) -> Result<u64, Error> {
        let failed = |e| match e {
            Errno::BADF => Error::new("watch", ErrorKind::BadDescriptor(fd)),
            e => Error::os("watch", e),
        };
        self.make_room()?;
        let key = self.slots.insert(Watch {
            fd,
            owned: None,
            interest,
            mode,
            user_data,
            pending: Readiness::default(),
            state: State::Armed,
            in_line: false,
            told: false,
            always: false,
            fresh: true,
        })?;
        let slot = slot_of(key);
        let old = self.by_number.get(&fd).copied();
        let old_is_file = old
            .and_then(|old| self.slots.get(old))
            .is_some_and(|old| old.always);
        let always = match sys.watch(fd, key, interest) {
            Ok(()) => false,
            // Registered for a watch that is gone, which could not be undone: the number was closed
            // while the file lived on elsewhere, and now it is back.
            Err(Errno::EXIST) if old.is_none() && sys.rewatch(fd, key, interest).is_ok() => false,
            // Two files can't be told apart.
            Err(Errno::PERM) if !old_is_file => true,
            Err(e) => {
                self.slots.remove(slot);
                return Err(failed(if e == Errno::PERM { Errno::EXIST } else { e }));
            }
        };
        if let Some(old) = old {
            self.died(old);
        }
        self.by_number.insert(fd, slot);
        self.sweep.borrowed += 1;
        if always && let Some(watch) = self.slots.get_mut(slot) {
            watch.always = true;
            self.always.push(slot);
        }
        Ok(key)
    }

    /// Room for one more watch and all that a turn may have to note about it.
    fn make_room(&mut self) -> Result<(), Error> {
        // Those that have ended may stand there still.
        let all = self.line.len() + self.slots.end() as usize + 1;
        queue_room(&mut self.line, all)?;
        let files = self.always.len() + 1;
        list_room(&mut self.always, files)?;
        match self.by_number.try_reserve(1) {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::new("watch", ErrorKind::OutOfMemory)),
        }
    }

    /// Gives the descriptor of a watch, which the program had lent, to the table.
    pub(crate) fn adopt(&mut self, key: u64, fd: OwnedFd) {
        if let Some((_, watch)) = self.slots.find_mut(key) {
            watch.owned = Some(fd);
            self.sweep.borrowed -= 1;
        }
    }

    /// The system has forgotten all watches: asks it anew.
    pub(crate) fn watch_anew(&mut self, sys: &mut impl System) {
        for key in self.slots.keys().collect::<Vec<u64>>() {
            let Some((slot, watch)) = self.slots.find_mut(key) else {
                continue;
            };
            if watch.state == State::Dead && watch.told {
                self.remove(sys, slot); // By the handler that forked, which is over here.
                continue;
            }
            if watch.always || watch.state == State::Dead {
                continue;
            }
            let armed = watch.state == State::Armed;
            let interest = if armed {
                watch.interest
            } else {
                Interest::NONE
            };
            if sys.watch(watch.fd, key, interest).is_err() {
                self.died(slot);
            }
        }
    }

    /// Sets the interest anew, and arms a one-shot watch again. False: the descriptor is dead,
    /// which will be told.
    pub(crate) fn modify(&mut self, sys: &mut impl System, slot: u32, interest: Interest) -> bool {
        let key = self.slots.key(slot);
        let Some(watch) = self.slots.get_mut(slot) else {
            return false;
        };
        if watch.state == State::Dead {
            return false;
        }
        watch.interest = interest;
        watch.state = State::Armed;
        watch.told = false;
        watch.fresh = true;
        if watch.always {
            if sys.probe(watch.fd) == Err(Errno::PERM) {
                return true;
            }
        } else if sys.rewatch(watch.fd, key, interest).is_ok() {
            return true;
        }
        self.died(slot);
        false
    }

    /// Ends a watch. What was adopted comes back.
    pub(crate) fn remove(&mut self, sys: &mut impl System, slot: u32) -> Option<OwnedFd> {
        let watch = self.slots.remove(slot)?;
        self.sweep.borrowed -= usize::from(watch.owned.is_none());
        if self.by_number.get(&watch.fd) == Some(&slot) {
            self.by_number.remove(&watch.fd);
        }
        if watch.always {
            self.always.retain(|s| *s != slot);
        }
        if watch.state == State::Dead {
            // Its number is closed or another's by now: nobody may close it again.
            let _ = watch.owned.map(IntoRawFd::into_raw_fd);
            return None;
        }
        if !watch.always {
            sys.unwatch(watch.fd);
        }
        watch.owned
    }

    /// The slot of the watch that has this number.
    pub(crate) fn find_number(&self, fd: RawFd) -> Option<u32> {
        self.by_number.get(&fd).copied()
    }

    /// Whether the open file that has this number now is being watched.
    pub(crate) fn is_watched(&self, sys: &mut impl System, fd: RawFd) -> bool {
        self.by_number.contains_key(&fd) && sys.probe(fd).is_ok()
    }

    /// Notes what the system reported. False: the token is nobody's any more.
    pub(crate) fn report(
        &mut self,
        sys: &mut impl System,
        token: u64,
        readiness: Readiness,
    ) -> bool {
        let Some((slot, watch)) = self.slots.find_mut(token) else {
            return false;
        };
        if watch.state == State::Silent {
            // The second one without being asked for. Errors can't be switched off, but they come
            // no more than once each.
            watch.state = State::Quiet;
            let _ = sys.rewatch(watch.fd, token, Interest::NONE);
        }
        if watch.state != State::Armed {
            return true;
        }
        let mut readiness = readiness;
        if is_doubtful(readiness, watch.interest)
            && let Some(sure) = sys.look_again(watch.fd)
        {
            let doubtful = Readiness::READABLE.and(Readiness::HANG_UP, true).0;
            readiness = Readiness(readiness.0 & !doubtful | sure.0);
        }
        watch.pending |= readiness;
        self.enqueue(slot);
        true
    }

    /// A turn begins: what is always ready is so once more.
    pub(crate) fn begin_turn(&mut self) {
        for place in 0..self.always.len() {
            let slot = self.always[place];
            if self.slots.get(slot).is_some_and(Watch::is_offered) {
                if let Some(watch) = self.slots.get_mut(slot) {
                    watch.fresh = false;
                    watch.pending |= always_ready();
                }
                self.enqueue(slot);
            }
        }
    }

    /// Something can be told without asking the system.
    pub(crate) fn has_work(&self) -> bool {
        let is_waiting = |slot: &u32| self.slots.get(*slot).is_some_and(Watch::is_offered);
        !self.line.is_empty() || self.always.iter().any(is_waiting)
    }

    /// What to tell next, and of which slot.
    pub(crate) fn next(&mut self) -> Option<(u32, Told)> {
        while let Some(key) = self.line.pop_front() {
            let Some((slot, watch)) = self.slots.find_mut(key) else {
                continue;
            };
            watch.in_line = false;
            let pending = std::mem::take(&mut watch.pending).asked(watch.interest);
            if watch.state == State::Dead {
                watch.told = true;
                return Some((slot, Told::Dead));
            }
            if watch.state != State::Armed || pending.is_empty() {
                continue;
            }
            // Who asks for nothing is told of the end once: there is no level to be told of.
            if watch.mode == WatchMode::OneShot || watch.interest.is_empty() {
                watch.state = State::Silent;
            }
            watch.told = true;
            return Some((slot, Told::Ready(pending)));
        }
        None
    }

    /// The handler of what was told is over.
    pub(crate) fn handled(&mut self, sys: &mut impl System, slot: u32) {
        let key = self.slots.key(slot);
        let Some(watch) = self.slots.get_mut(slot) else {
            return;
        };
        // The slot may have another tenant by now, or its interest was set anew.
        if !std::mem::take(&mut watch.told) {
            return;
        }
        if watch.state == State::Dead {
            self.remove(sys, slot);
            return;
        }
        let again = watch.mode == WatchMode::Level && watch.state == State::Armed;
        if again && !watch.always && sys.rewatch(watch.fd, key, watch.interest).is_err() {
            self.died(slot);
        }
    }

    /// A descriptor was found not to be what it was: its end is to be told.
    pub(crate) fn died(&mut self, slot: u32) {
        let Some(watch) = self.slots.get_mut(slot) else {
            return;
        };
        if watch.state == State::Dead {
            return;
        }
        watch.state = State::Dead;
        watch.told = false;
        if self.by_number.get(&watch.fd) == Some(&slot) {
            self.by_number.remove(&watch.fd);
        }
        self.enqueue(slot);
    }

    fn enqueue(&mut self, slot: u32) {
        let key = self.slots.key(slot);
        if let Some(watch) = self.slots.get_mut(slot)
            && !std::mem::replace(&mut watch.in_line, true)
        {
            self.line.push_back(key);
        }
    }
}

impl Watch {
    /// Of one that is always ready: that is to be told in the next turn.
    fn is_offered(&self) -> bool {
        let armed = self.state == State::Armed && (self.mode == WatchMode::Level || self.fresh);
        armed && !always_ready().asked(self.interest).is_empty()
    }
}

/// What poll(2) says of a file.
fn always_ready() -> Readiness {
    Readiness::READABLE.and(Readiness::WRITABLE, true)
}

/// The report may say more than there is (the contract of [`System`], 14), and it matters.
fn is_doubtful(report: Readiness, interest: Interest) -> bool {
    let over = Readiness::FAILED
        .and(Readiness::FINISHED, true)
        .and(Readiness::HANG_UP, true);
    let urgent = report.is_priority() && !report.has(over);
    let hung_up = report.is_hang_up() && report.is_error() && report.is_writable();
    urgent && interest.contains(Interest::READABLE) || hung_up
}
