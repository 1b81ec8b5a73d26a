//! What loops and servers count, as C sees it.

/// What a loop has done so far. Start with ECHOLOOP_COUNTERS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_counters {
    /// sizeof(echoloop_counters); ECHOLOOP_COUNTERS_INIT sets it.
    pub size: usize,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections made by echoloop_connect().
    pub connected: u64,
    /// Connections whose CLOSED was handed out.
    pub closed: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes the kernel took to send.
    pub bytes_sent: u64,
    /// Reads that brought bytes.
    pub reads: u64,
    /// Times a connection got above its high mark.
    pub congested: u64,
    /// Times a listener had to pause for want of descriptors or memory.
    pub accept_pauses: u64,
    /// Times the loop waited for events.
    pub turns: u64,
    /// Connections that exist now, those that are closing included.
    pub connections: u64,
    /// Bytes queued and unread in all connections now.
    pub buffered: u64,
}

/// What a server counts beside echoloop_counters. Start with ECHOLOOP_SERVER_COUNTERS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_server_counters {
    /// sizeof(echoloop_server_counters); ECHOLOOP_SERVER_COUNTERS_INIT sets it.
    pub size: usize,
    /// Connections refused because the maximum was reached.
    pub refused: u64,
    /// Connections that a deadline ended.
    pub timed_out: u64,
    /// Bytes that were sent and never left, of all connections that ended.
    pub bytes_lost: u64,
    /// The most connections that were open at one time.
    pub most_open: u64,
}

/// How a server's drain ended. Start with ECHOLOOP_REPORT_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_report {
    /// sizeof(echoloop_report); ECHOLOOP_REPORT_INIT sets it.
    pub size: usize,
    /// Connections that closed with all their bytes sent.
    pub closed_clean: u64,
    /// Connections that were cut, or died, with bytes unsent.
    pub aborted: u64,
    /// Bytes that were sent to those and never left.
    pub bytes_lost: u64,
}
