//! What a loop has done, in numbers that only grow.

/// Counters of one loop since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Counters {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections made by `connect`.
    pub connected: u64,
    /// Connections whose `Closed` was handed out.
    pub closed: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes the kernel took to send.
    pub bytes_sent: u64,
    /// Reads that brought bytes; each is one `Data` event.
    pub reads: u64,
    /// Times a connection got above its high mark.
    pub congested: u64,
    /// Times a listener had to pause for want of descriptors or memory.
    pub accept_pauses: u64,
    /// Returns of `poll`.
    pub turns: u64,
}
