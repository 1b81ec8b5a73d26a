//! The loop: `poll` waits, `next_event` hands out one event.
//!
//! The rule: nothing is borrowed while the program handles an event, and whatever the handler left
//! to be done is done at the next call of `next_event` or `poll`, before anything else.
//! This file holds the loop's public face; `turn` decides what comes next; `receive`, `gather` and
//! `send` move bytes; `accept`, `connect`, `resolve`, `timer` and `lifecycle` do what their names
//! say.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::conn::accept::Listener;
use crate::conn::batch::Lent;
use crate::conn::memory::Pool;
use crate::conn::park::Parked;
use crate::conn::pipe::PipeEnd;
use crate::conn::race::Attempt;
use crate::conn::rate::Bucket;
use crate::conn::send::DIRECT;
use crate::conn::{Conn, MIN_READ};
use crate::handle::{self, Kind, LoopId};
use crate::metrics::timing::Timing;
use crate::nested::Nesting;
use crate::remote::Remote;
use crate::remote::letter::Letter;
use crate::remote::mailbox::Mailbox;
use crate::resolve::Lookup;
use crate::signal::Signals;
use crate::slots::Slots;
use crate::sys::{Os, Ready, System};
use crate::time::deadlines::{DeadlineId, Deadlines, DueTimer, Owner};
use crate::time::timer::{DELAYED_MAX, Timer};
use crate::turn::{Current, Left, NOBODY};
use crate::udp::{Batch, UdpSocket, UdpWork};
use crate::watch::watches::Watches;
use crate::{
    ConnId, Connection, Counters, Error, ErrorKind, Event, ListenerId, LoopOptions, UdpId,
};

/// A non-blocking network event loop for one thread.
///
/// # Promises
///
/// - [`poll`](Self::poll) blocks only when no event is queued; a signal ends it early, with no
///   error and no event.
/// - A handle that is stale, of another kind, of another loop, zero or made up gets
///   [`ErrorKind::BadHandle`], always.
/// - Every connection ends with exactly one [`Event::Closed`], its last event.
/// - One connection can't starve the rest: a turn reads from each connection at most once. Nor can
///   one kind of event: a turn hands out at most 1,024 of each, and the rest waits for the next.
///
/// # Not promised
///
/// - The order of events of different connections.
/// - That timers, posts and accepts come before the reads of a turn: take events until there are no
///   more, then poll.
/// - That a [`Event::Data`] holds what the peer sent in one piece; TCP has no messages.
///
/// # Examples
///
/// An echo server, whole:
///
/// ```no_run
/// use echoloop_core::{Event, EventLoop, ListenOptions, LoopOptions};
///
/// let mut el = EventLoop::new(LoopOptions::default())?;
/// el.listen("127.0.0.1:7007", &ListenOptions::default())?;
/// loop {
///     el.poll(None)?;
///     while let Some(event) = el.next_event() {
///         if let Event::Data { conn } = event {
///             el.conn(conn)?.send_received(usize::MAX)?;
///         }
///     }
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), echoloop_core::Error>(())
/// ```
pub struct EventLoop<S: System = Os> {
    pub(crate) sys: S,
    id: LoopId,
    pub(crate) options: LoopOptions,
    pub(crate) conns: Slots<Conn<S::Socket>>,
    pub(crate) listeners: Slots<Listener<S::Socket>>,
    pub(crate) timers: Slots<Timer>,
    pub(crate) watches: Watches,
    pub(crate) lookups: Slots<Lookup>,
    pub(crate) attempts: Slots<Attempt<S::Socket>>,
    pub(crate) udps: Slots<UdpSocket<S::Socket>>,
    pub(crate) signals: Signals,
    pub(crate) udp_work: UdpWork,
    pub(crate) udp_batch: Batch,
    pub(crate) deadlines: Deadlines,
    /// The time of this turn, in nanoseconds of the system's clock.
    pub(crate) now: u64,
    pub(crate) start: u64,
    /// Both ends of each pipe, by slot.
    pub(crate) pipes: HashMap<u32, PipeEnd>,
    /// Of connections that are read at a rate, by slot.
    pub(crate) buckets: HashMap<u32, Bucket>,
    /// Connections that want a visit in this turn.
    pub(crate) line: VecDeque<u32>,
    /// Connections that had their read in this turn and have more.
    pub(crate) later: Vec<u32>,
    /// Small sends of the current handler to one connection, [`gatherer`](Self::gatherer), whose
    /// queue is empty: most never see a queue at all.
    pub(crate) gathered: Vec<u8>,
    /// The part of the shared buffer that comes before it, when that is all there is.
    pub(crate) gathered_here: std::ops::Range<usize>,
    pub(crate) gatherer: u32,
    /// Those that have sent in this handler and are not the gatherer, and bytes of theirs.
    pub(crate) parked: Vec<Parked>,
    pub(crate) parked_bytes: Vec<u8>,
    /// What a batch has handed out.
    pub(crate) lent: Lent,
    /// Connections whose queue has grown since the last flush.
    pub(crate) dirty: Vec<u32>,
    /// Connections that the budget holds back from reading.
    pub(crate) starved: Vec<u32>,
    /// Listeners that may have a connection to accept.
    pub(crate) accepting: VecDeque<u32>,
    /// What this turn may still hand out.
    pub(crate) left: Left,
    /// Turns in a row whose wait may have left reports behind.
    pub(crate) full_waits: usize,
    /// Listeners that wait for a descriptor to be free.
    pub(crate) starved_listeners: usize,
    /// Connects that wait for a descriptor or a port, first come first served.
    pub(crate) starved_connects: VecDeque<u64>,
    /// Armed while there are some. Its room is taken from the beginning.
    pub(crate) connect_retry: DeadlineId,
    /// How many of them are to be tried again.
    pub(crate) connect_retries: usize,
    /// Lookups whose `Resolved` is to be told.
    pub(crate) resolved: VecDeque<u64>,
    /// Timers that are due.
    pub(crate) due: VecDeque<DueTimer>,
    /// Timers armed by a delay in this turn, and the delays; not armed yet.
    pub(crate) delayed: Vec<(u64, u64)>,
    /// `poll` has returned, and `next_event` has not answered `None` since.
    pub(crate) handing_out: bool,
    pub(crate) current: Current,
    /// One read buffer for all connections; what the current event brought is `unread_here`.
    pub(crate) read_buf: Vec<u8>,
    pub(crate) unread_here: std::ops::Range<usize>,
    pub(crate) pool: Pool,
    /// Bytes queued and unread in all connections together.
    pub(crate) buffered: usize,
    /// `OverBudget` was told, `UnderBudget` not yet.
    pub(crate) told_over_budget: bool,
    pub(crate) counters: Counters,
    pub(crate) timing: Timing,
    pub(crate) mailbox: Arc<Mailbox<Letter>>,
    pub(crate) posted: VecDeque<Letter>,
    pub(crate) stop: bool,
    /// What the kernel reported and was not looked at yet.
    pub(crate) ready: Vec<Ready>,
    pub(crate) nesting: Nesting,
}

impl EventLoop<Os> {
    /// Makes a loop on the operating system.
    ///
    /// # Errors
    ///
    /// The system's, when the selector can't be opened (`EMFILE`, `ENOMEM`);
    /// [`ErrorKind::TooMany`] when [`MAX_LOOPS`](crate::MAX_LOOPS) loops live;
    /// [`ErrorKind::OutOfMemory`].
    pub fn new(options: LoopOptions) -> Result<Self, Error> {
        let sys = Os::new(options.reports()).map_err(|e| Error::os("create loop", e))?;
        Self::with_system(sys, options)
    }
}

impl<S: System> EventLoop<S> {
    /// Makes a loop on another [`System`], such as a simulated one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooMany`] when [`MAX_LOOPS`](crate::MAX_LOOPS) loops live;
    /// [`ErrorKind::OutOfMemory`].
    pub fn with_system(mut sys: S, mut options: LoopOptions) -> Result<Self, Error> {
        options.events_per_turn = options.reports();
        let no_memory = |_| Error::new("create loop", ErrorKind::OutOfMemory);
        // What every turn needs, so that none is without it.
        let mut read_buf = Vec::new();
        read_buf
            .try_reserve_exact(MIN_READ as usize)
            .map_err(no_memory)?;
        read_buf.resize(MIN_READ as usize, 0);
        let mut gathered = Vec::new();
        gathered.try_reserve_exact(DIRECT).map_err(no_memory)?;
        let mut ready = Vec::new();
        ready
            .try_reserve_exact(options.events_per_turn)
            .map_err(no_memory)?;
        let (mut due, mut delayed, mut dirty) = (VecDeque::new(), Vec::new(), Vec::new());
        due.try_reserve(DELAYED_MAX).map_err(no_memory)?;
        delayed.try_reserve(DELAYED_MAX).map_err(no_memory)?;
        // Also for the stand-in of a handler that is timed, so that none allocates.
        dirty.try_reserve(8).map_err(no_memory)?;
        let mut deadlines = Deadlines::default();
        let Some(connect_retry) = deadlines.add(Owner::Connects) else {
            return Err(Error::new("create loop", ErrorKind::OutOfMemory));
        };
        let id = handle::claim_loop()?;
        if let Some(resolver) = &options.resolver {
            sys.use_resolver(resolver);
        }
        let now = sys.now();
        let mailbox = Arc::new(Mailbox::new(sys.waker(), options.post_capacity));
        let nesting = Nesting::new(sys.waker());
        Ok(Self {
            sys,
            id,
            timing: Timing::new(&options, now),
            options,
            conns: Slots::new(Kind::Conn, id),
            listeners: Slots::new(Kind::Listener, id),
            timers: Slots::new(Kind::Timer, id),
            watches: Watches::new(id),
            lookups: Slots::new(Kind::Lookup, id),
            attempts: Slots::new(Kind::Attempt, id),
            udps: Slots::new(Kind::Udp, id),
            signals: Signals::new(id),
            udp_work: UdpWork::default(),
            udp_batch: Batch::default(),
            deadlines,
            now,
            start: now,
            pipes: HashMap::new(),
            buckets: HashMap::new(),
            line: VecDeque::new(),
            later: Vec::new(),
            gathered,
            gathered_here: 0..0,
            gatherer: NOBODY,
            parked: Vec::new(),
            parked_bytes: Vec::new(),
            lent: Lent::default(),
            dirty,
            starved: Vec::new(),
            accepting: VecDeque::new(),
            left: Left::A_TURN,
            full_waits: 0,
            starved_listeners: 0,
            starved_connects: VecDeque::new(),
            connect_retry,
            connect_retries: 0,
            resolved: VecDeque::new(),
            due,
            delayed,
            handing_out: false,
            current: Current::Nothing,
            read_buf,
            unread_here: 0..0,
            pool: Pool::default(),
            buffered: 0,
            told_over_budget: false,
            counters: Counters::default(),
            mailbox,
            posted: VecDeque::new(),
            stop: false,
            ready,
            nesting,
        })
    }

    /// Waits until something happens, at most for `timeout`, and collects it for
    /// [`next_event`](Self::next_event).
    ///
    /// `None` waits for as long as it takes, `Some(Duration::ZERO)` not at all. Returns at once
    /// when events are queued already, and early when a signal arrives or a
    /// [`Remote`](crate::Remote) wakes it. A return without an event is possible and normal.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forked`] in the child of a fork, until [`after_fork`](Self::after_fork). The
    /// system's, when its selector fails; with a selector of our own it does not.
    pub fn poll(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        if let Err(e) = self.check_process("poll") {
            self.forget_turn();
            return Err(e);
        }
        self.come_inside();
        self.finish_handler();
        self.arm_delayed();
        self.turn_ends();
        self.begin_turn();
        let timeout = if self.has_work() {
            Some(Duration::ZERO)
        } else {
            timeout
        };
        match self.sleep(timeout) {
            Ok(()) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::os("poll", e)),
        }
        self.now = self.sys.now();
        self.counters.turns += 1;
        if self.ready.len() < self.options.events_per_turn {
            self.full_waits = 0;
        } else {
            self.put_off_deadlines();
        }
        self.handing_out = true;
        self.turn_begins();
        Ok(())
    }

    /// The next event, or `None` when this turn has no more and it is time to
    /// [`poll`](Self::poll) again.
    ///
    /// What the handler of the event before has sent leaves now, in one call for each connection.
    #[inline(always)]
    pub fn next_event(&mut self) -> Option<Event> {
        if let Some(conn) = self.next_data() {
            return Some(Event::Data { conn });
        }
        self.next_special()
    }

    /// A view of a connection, to read, send and close.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`].
    #[inline]
    pub fn conn(&mut self, id: ConnId) -> Result<Connection<'_, S>, Error> {
        match self.conns.find(id.0) {
            Some(slot) => Ok(Connection::new(self, slot)),
            None => Err(Error::new("find connection", ErrorKind::BadHandle)),
        }
    }

    /// A handle to this loop for other threads (promise 15).
    ///
    /// # Examples
    ///
    /// ```
    /// # use echoloop_core::{Event, EventLoop, LoopOptions};
    /// let mut el = EventLoop::new(LoopOptions::default())?;
    /// let remote = el.remote();
    /// let worker = std::thread::spawn(move || remote.post(42).and(remote.stop()));
    /// loop {
    ///     el.poll(None)?;
    ///     match el.next_event() {
    ///         Some(Event::Posted { word }) => assert_eq!(word, 42), // An index into a queue, say.
    ///         Some(Event::Stop) => break,
    ///         _ => {}
    ///     }
    /// }
    /// # worker.join().unwrap()?;
    /// # Ok::<(), echoloop_core::Error>(())
    /// ```
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote::new(Arc::clone(&self.mailbox))
    }

    /// The time of this turn since the loop was made. Read once a turn, so all that happens in a
    /// turn happens at one time.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.now - self.start)
    }

    /// The number of this loop, which is part of all its handles.
    #[must_use]
    pub fn id(&self) -> LoopId {
        self.id
    }

    /// How many connections there are, those that are closing included.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.conns.len()
    }

    /// All connections, those that are closing included, in no particular order.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnId> {
        self.conns.keys().map(ConnId).collect()
    }

    /// All listeners.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerId> {
        self.listeners.keys().map(ListenerId).collect()
    }

    /// All UDP sockets.
    #[must_use]
    pub fn udps(&self) -> Vec<UdpId> {
        self.udps.keys().map(UdpId).collect()
    }

    /// Handles of all kinds that are alive in this loop.
    #[must_use]
    pub fn live_handles(&self) -> usize {
        self.conns.len()
            + self.listeners.len()
            + self.timers.len()
            + self.watches.slots.len()
            + self.lookups.len()
            + self.udps.len()
            + self.signals.slots.len()
    }

    /// Bytes queued and unread in all connections together, and what waits in UDP sockets: 64 for
    /// each datagram beside its bytes.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// What this loop has done so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
