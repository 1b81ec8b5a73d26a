//! What a loop has done, in numbers that only grow.
//!
//! The rule: a count is one addition where the thing happens, and the hot path has three of them.
//! What there is now, such as open connections, is told by getters of the loop; how long things
//! take, by its `Metrics`.

use std::iter::Sum;
use std::ops::AddAssign;

/// Counters of one loop since it was made.
///
/// What is there now is told by [`connection_count`](crate::EventLoop::connection_count),
/// [`live_handles`](crate::EventLoop::live_handles) and [`buffered`](crate::EventLoop::buffered).
///
/// # Examples
///
/// ```
/// # use echoloop_core::{EventLoop, LoopOptions};
/// let el = EventLoop::new(LoopOptions::default())?;
/// let c = el.counters();
/// println!("{} messages in, {} out, {} open", c.reads, c.sends, el.connection_count());
/// # Ok::<(), echoloop_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Counters {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections made by `connect`.
    pub connected: u64,
    /// Connections that were adopted, or handed over by another loop.
    pub adopted: u64,
    /// Connections that were given away, or handed to another loop.
    pub given_away: u64,
    /// Connections whose `Closed` was handed out.
    pub closed: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes the kernel took to send.
    pub bytes_sent: u64,
    /// Reads that brought bytes; each is one `Data` event, or one step of a pipe.
    pub reads: u64,
    /// Calls by which the kernel took bytes to send. All small sends of one handler to one
    /// connection are one; what the kernel does not take at once takes more of them.
    pub sends: u64,
    /// Sends that were refused as `QueueFull`.
    pub sends_refused: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Datagrams the kernel took to send.
    pub datagrams_sent: u64,
    /// Datagrams sent here and dropped: no room in the queue, or the kernel did not take them.
    pub datagrams_dropped: u64,
    /// Times a connection got above its high mark; by default reading from it pauses then.
    pub congested: u64,
    /// Times reading from a connection paused because the loop was over its memory budget.
    pub budget_pauses: u64,
    /// Times reading from a connection waited for tokens of its
    /// [`receive_rate`](crate::ConnOptions::receive_rate).
    pub throttled: u64,
    /// Times the loop got over its memory budget; each is one `OverBudget` event.
    pub over_budget: u64,
    /// Times a listener had to pause for want of descriptors or memory.
    pub accept_pauses: u64,
    /// Timers handed out.
    pub timers_fired: u64,
    /// Posted words handed out.
    pub posts: u64,
    /// Reports of the system for what had ended by then; they are dropped.
    pub stale_events: u64,
    /// Handlers that took as long as [`on_slow_handler`](crate::EventLoop::on_slow_handler) says,
    /// or longer.
    pub slow_handlers: u64,
    /// Connects that had to wait for a descriptor or a port.
    pub connect_pauses: u64,
    /// Returns of `poll`.
    pub turns: u64,
    /// Connections that another loop handed over and that were closed, for want of a handle or of
    /// memory.
    pub arrivals_lost: u64,
}

/// Adds all counts of another; the compiler sees that none is left out.
macro_rules! add_all {
    ($($count:ident),* $(,)?) => {
        /// The sum over several loops, such as those of workers.
        impl AddAssign for Counters {
            fn add_assign(&mut self, other: Self) {
                let Self { $($count),* } = other;
                $(self.$count += $count;)*
            }
        }
    };
}

add_all! {
    accepted, connected, adopted, given_away, closed, bytes_received, bytes_sent, reads, sends,
    sends_refused, datagrams_received, datagrams_sent, datagrams_dropped, congested, budget_pauses,
    throttled, over_budget, accept_pauses, timers_fired, posts, stale_events, slow_handlers,
    connect_pauses, turns, arrivals_lost,
}

impl Sum for Counters {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}
