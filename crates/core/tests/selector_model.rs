//! A selector against poll(2), which is the truth about levels: 100,000 random sequences.
//!
//! Descriptors are registered, changed, unregistered, written, read, closed, duplicated and opened
//! again, so that numbers are reused all the time; each wait must tell exactly what poll(2) says of
//! those that are registered. A closed one must be told too, but may be told a little later, and
//! until then be told as ready if its file is still open under another number. This
//! program has one test, since another thread would take part in the numbers.

mod util;

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use echoloop_core::{ErrorKind, Interest, Readiness, Selected, Selector, WatchMode};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use util::Random;

const SEQUENCES: u64 = 100_000;
const STEPS: usize = 24;
/// Bytes that fill what is written to, and more: little, since moving them is what takes long.
const BUFFER: usize = 16_384;

/// An open descriptor, and which open file it names.
struct Open {
    fd: OwnedFd,
    file: u64,
    is_null: bool,
}

/// What the selector should know.
struct Registration {
    key: u64,
    file: u64,
    interest: Interest,
    one_shot: bool,
    /// Not silent until it is changed.
    armed: bool,
}

impl Registration {
    /// It was told: one-shot ones, and those that ask for nothing, are so no more than once.
    fn disarm(&mut self) {
        self.armed = !self.one_shot && !self.interest.is_empty();
    }
}

struct Model<'a> {
    selector: &'a mut Selector,
    random: &'a mut Random,
    open: Vec<Open>,
    registered: HashMap<RawFd, Registration>,
    /// Those whose end was found by another call and is to be told by the next wait.
    ended: HashMap<u64, RawFd>,
    /// All that was ever registered: files and numbers.
    seen: HashSet<(u64, RawFd)>,
    files: u64,
    keys: u64,
}

impl Model<'_> {
    fn step(&mut self) {
        match self.random.below(16) {
            0..3 => self.register(),
            3..5 => self.modify(),
            5 => self.unregister(),
            6..8 => self.write(),
            8..10 => self.read(),
            10 => self.close(),
            11 => self.duplicate(),
            12 => self.open_more(),
            _ => self.wait(),
        }
    }

    fn interest(&mut self) -> Interest {
        let bits = [Interest::READABLE, Interest::WRITABLE, Interest::PRIORITY];
        bits.into_iter().fold(Interest::NONE, |all, bit| {
            if self.random.one_in(2) {
                all | bit
            } else {
                all
            }
        })
    }

    fn any_open(&mut self) -> Option<usize> {
        (!self.open.is_empty()).then(|| self.random.below(self.open.len() as u64) as usize)
    }

    /// The file that a number names.
    fn file_of(&self, fd: RawFd) -> Option<u64> {
        let open = self.open.iter().find(|o| o.fd.as_raw_fd() == fd);
        open.map(|o| o.file)
    }

    fn register(&mut self) {
        let Some(place) = self.any_open() else { return };
        let (interest, one_shot) = (self.interest(), self.random.one_in(4));
        let mode = if one_shot {
            WatchMode::OneShot
        } else {
            WatchMode::Level
        };
        let (number, file) = (self.open[place].fd.as_raw_fd(), self.open[place].file);
        self.keys += 1;
        let key = self.keys;
        let fd = &self.open[place].fd;
        let answer = self.selector.register_as(fd, interest, mode, key);
        let old = self.registered.get(&number);
        if old.is_some_and(|old| old.file == file) {
            assert_eq!(
                answer.unwrap_err().errno(),
                Some(Errno::EXIST.raw_os_error())
            );
            return;
        }
        answer.unwrap();
        self.seen.insert((file, number));
        let new = Registration {
            key,
            file,
            interest,
            one_shot,
            armed: true,
        };
        if let Some(old) = self.registered.insert(number, new) {
            self.ended.insert(old.key, number);
        }
    }

    fn any_number(&mut self) -> RawFd {
        self.random.below(24) as RawFd
    }

    fn modify(&mut self) {
        let (number, interest) = (self.any_number(), self.interest());
        let answer = self.selector.modify(number, interest);
        let file = self.file_of(number);
        let Some(registration) = self.registered.get_mut(&number) else {
            assert_eq!(
                answer.unwrap_err().errno(),
                Some(Errno::NOENT.raw_os_error())
            );
            return;
        };
        if file == Some(registration.file) {
            answer.unwrap();
            registration.interest = interest;
            registration.armed = true;
            return;
        }
        let dead = ErrorKind::BadDescriptor(number);
        assert_eq!(answer.unwrap_err().kind(), dead);
        let key = registration.key;
        self.registered.remove(&number);
        self.ended.insert(key, number);
    }

    fn unregister(&mut self) {
        let number = self.any_number();
        let answer = self.selector.unregister(number);
        assert_eq!(answer.is_ok(), self.registered.remove(&number).is_some());
    }

    fn write(&mut self) {
        let Some(place) = self.any_open() else { return };
        let size = if self.random.one_in(4) { BUFFER } else { 8 };
        let bytes = &[1; BUFFER][..size];
        let fd = &self.open[place].fd;
        // A pipe whose reader is gone would raise SIGPIPE, which Rust ignores. A full one is full.
        let _ = rustix::io::write(fd, bytes);
    }

    fn read(&mut self) {
        let Some(place) = self.any_open() else { return };
        let size = if self.random.one_in(2) { 8 } else { BUFFER };
        let _ = rustix::io::read(&self.open[place].fd, &mut [0; BUFFER][..size]);
    }

    fn close(&mut self) {
        let Some(place) = self.any_open() else { return };
        // Two files that are always ready can't be told apart by their number.
        if !self.open[place].is_null {
            self.open.swap_remove(place);
        }
    }

    fn duplicate(&mut self) {
        let Some(place) = self.any_open() else { return };
        let Open { fd, file, is_null } = &self.open[place];
        if *is_null || self.open.len() > 12 {
            return;
        }
        let (fd, file) = (fd.try_clone().unwrap(), *file);
        // Closed, back under a number that it was registered with, where another one was since: no
        // call of epoll's tells these two apart.
        let number = fd.as_raw_fd();
        let tenant = self.registered.get(&number).is_some_and(|r| r.file != file);
        if tenant && self.seen.contains(&(file, number)) {
            return;
        }
        self.open.push(Open {
            fd,
            file,
            is_null: false,
        });
    }

    fn open_more(&mut self) {
        if self.open.len() > 10 {
            return;
        }
        let (new, is_null) = match self.random.below(4) {
            0 => {
                let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
                (vec![eventfd(0, flags).unwrap()], false)
            }
            1 => {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let kind = SocketType::STREAM;
                let (a, b) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
                for end in [&a, &b] {
                    set_socket_send_buffer_size(end, 4096).unwrap();
                }
                (vec![a, b], false)
            }
            2 if !self.open.iter().any(|o| o.is_null) => {
                let null = std::fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open("/dev/null");
                (vec![null.unwrap().into()], true)
            }
            _ => {
                let (r, w) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
                fcntl_setpipe_size(&w, 4096).unwrap();
                (vec![r, w], false)
            }
        };
        for fd in new {
            self.files += 1;
            let file = self.files;
            self.open.push(Open { fd, file, is_null });
        }
    }

    /// What poll(2) says of those that are registered and alive.
    fn expected(&mut self) -> HashMap<u64, (RawFd, PollFlags, Interest)> {
        let mut numbers = Vec::new();
        let mut entries = Vec::new();
        for open in &self.open {
            let number = open.fd.as_raw_fd();
            let Some(registration) = self.registered.get(&number) else {
                continue;
            };
            if registration.file != open.file || !registration.armed {
                continue;
            }
            let mut flags = PollFlags::empty();
            for (bit, flag) in [
                (Interest::READABLE, PollFlags::IN | PollFlags::RDHUP),
                (Interest::WRITABLE, PollFlags::OUT),
                (Interest::PRIORITY, PollFlags::PRI),
            ] {
                if registration.interest.contains(bit) {
                    flags |= flag;
                }
            }
            numbers.push(number);
            entries.push(PollFd::new(&open.fd, flags));
        }
        poll(&mut entries, Some(&Timespec::default())).unwrap();
        let mut expected = HashMap::new();
        for (number, entry) in numbers.into_iter().zip(&entries) {
            let revents = entry.revents();
            if revents.is_empty() {
                continue;
            }
            let registration = self.registered.get_mut(&number).unwrap();
            registration.disarm();
            let (key, interest) = (registration.key, registration.interest);
            expected.insert(key, (number, revents, interest));
        }
        expected
    }

    fn wait(&mut self) {
        let mut expected = self.expected();
        let mut selected = Vec::new();
        let no_time = Some(Duration::ZERO);
        self.selector.wait(no_time, &mut selected).unwrap();
        for Selected { key, fd, readiness } in selected {
            if readiness.is_invalid() {
                self.told_dead(key, fd);
                continue;
            }
            let Some((number, revents, interest)) = expected.remove(&key) else {
                if self.lives_elsewhere(key, fd) {
                    continue;
                }
                panic!("{fd} as {key} is {readiness}, poll says nothing");
            };
            assert_eq!(number, fd);
            agree(readiness, revents, interest);
        }
        assert!(expected.is_empty(), "not told: {expected:?}");
        assert!(self.ended.is_empty(), "not told dead: {:?}", self.ended);
    }

    /// The number was closed, which is not noticed yet, and its file is open under another one: so
    /// the kernel goes on reporting.
    fn lives_elsewhere(&mut self, key: u64, fd: RawFd) -> bool {
        let file = self.file_of(fd);
        let Some(registration) = self.registered.get_mut(&fd) else {
            return false;
        };
        registration.disarm();
        let closed = file != Some(registration.file);
        let open = self.open.iter().any(|o| o.file == registration.file);
        registration.key == key && closed && open
    }

    fn told_dead(&mut self, key: u64, fd: RawFd) {
        if self.ended.remove(&key) == Some(fd) {
            return;
        }
        let registration = self.registered.remove(&fd).expect("is registered");
        assert_eq!(registration.key, key);
        assert_ne!(self.file_of(fd), Some(registration.file), "it lives");
    }

    /// All that died are told, within a time; which takes long, so not all sequences wait for it.
    fn end(&mut self, patient: bool) {
        for _ in 0..100_000 {
            self.wait();
            let alive = |(fd, r): (&RawFd, &Registration)| self.file_of(*fd) == Some(r.file);
            if !patient || self.registered.iter().all(alive) {
                break;
            }
        }
        let numbers: Vec<RawFd> = self.registered.keys().copied().collect();
        for number in numbers {
            let registration = self.registered.remove(&number).unwrap();
            let alive = self.file_of(number) == Some(registration.file);
            assert!(alive || !patient, "not told");
            self.selector.unregister(number).unwrap();
        }
        assert_eq!(self.selector.len(), 0);
    }
}

fn agree(readiness: Readiness, revents: PollFlags, interest: Interest) {
    let over = revents.intersects(PollFlags::HUP | PollFlags::ERR);
    let reads = interest.contains(Interest::READABLE);
    let writes = interest.contains(Interest::WRITABLE);
    let finished = revents.intersects(PollFlags::RDHUP | PollFlags::HUP);
    let told = [
        readiness.is_readable(),
        readiness.is_writable(),
        readiness.is_priority(),
        readiness.is_error(),
        readiness.is_hang_up(),
        readiness.is_read_closed(),
    ];
    let truth = [
        revents.contains(PollFlags::IN) || over && reads,
        revents.contains(PollFlags::OUT) || over && writes,
        revents.contains(PollFlags::PRI),
        revents.contains(PollFlags::ERR),
        revents.contains(PollFlags::HUP),
        finished && reads,
    ];
    assert_eq!(
        told, truth,
        "{readiness} for {interest}, poll says {revents:?}"
    );
}

#[test]
fn a_selector_tells_what_poll_tells() {
    let mut selector = Selector::new().unwrap();
    Random::each_seed(SEQUENCES, |seed, random| {
        let mut model = Model {
            selector: &mut selector,
            random,
            open: Vec::new(),
            registered: HashMap::new(),
            ended: HashMap::new(),
            seen: HashSet::new(),
            files: 0,
            keys: 0,
        };
        for _ in 0..2 {
            model.open_more();
        }
        for _ in 0..STEPS {
            model.step();
        }
        model.end(seed % 32 == 0);
    });
}
