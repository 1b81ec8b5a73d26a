//! The options that every subcommand with a server has: limits, workers, figures, the drain.
//!
//! The rule: an option that was not given leaves the default of the library alone.

use std::time::Duration;

use clap::{Args, ValueEnum};
use echoloop_server::{ConnOptions, ListenOptions, ServerBuilder, Spread};

use crate::values::{Rate, byte_rate, mode, rate, seconds, seconds_or_zero, size};

/// Where nothing is printed, the loop still says in its log now and then that it waited.
const QUIET_TICK: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct ServerArgs {
    /// The mode of the files of Unix sockets, in octal digits, whatever the umask says.
    #[arg(long, value_name = "MODE", value_parser = mode)]
    unix_mode: Option<u32>,
    /// Serve with so many event loops, each on a thread of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: u16,
    /// How connections are spread over them.
    #[arg(long, value_name = "HOW", value_enum, default_value_t = How::Fewest)]
    spread: How,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    deadlines: Deadlines,
    #[command(flatten)]
    pub(crate) drain: Drain,
    #[command(flatten)]
    pub(crate) figures: FiguresArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum How {
    /// One accepts, and hands each to the worker with the fewest: even to within one.
    Fewest,
    /// The kernel gives each to a worker by chance (SO_REUSEPORT): for many short ones.
    ReusePort,
}

#[derive(Args)]
#[command(next_help_heading = "Limits")]
struct Limits {
    /// Refuse further connections while so many are open.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_connections: Option<u64>,
    /// Refuse further connections of one IPv4 address, or one /64 of IPv6, while so many are open.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_per_peer: Option<u32>,
    /// Accept so many connections a second, and BURST at once after a quiet time [default: N];
    /// refuse those beyond.
    #[arg(long, value_name = "N[:BURST]", value_parser = rate)]
    accept_rate: Option<Rate<u32>>,
    /// SO_SNDBUF, socket(7): about how much of what waits for a slow peer the kernel holds, which is
    /// megabytes of each by default. Units: k, M.
    #[arg(long, value_name = "BYTES", value_parser = size)]
    send_buffer: Option<u32>,
    /// SO_RCVBUF, socket(7): likewise of what was received and is not read yet.
    #[arg(long, value_name = "BYTES", value_parser = size)]
    receive_buffer: Option<u32>,
    /// Read so many bytes a second from each client, and BURST at once after a quiet time
    /// [default: BYTES]; who sends faster is slowed down. Units: k, M, G.
    #[arg(long, value_name = "BYTES[:BURST]", value_parser = byte_rate)]
    receive_rate: Option<Rate<u64>>,
}

#[derive(Args)]
#[command(next_help_heading = "Deadlines")]
struct Deadlines {
    /// Close a connection on which nothing moved for so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    idle_timeout: Option<Duration>,
    /// Close a connection whose peer has sent nothing at all so many seconds after it came.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    first_byte_timeout: Option<Duration>,
    /// Close a connection whose peer took nothing of what waits for it for so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    write_stall_timeout: Option<Duration>,
    /// Close a connection in order so many seconds after it came, however busy it is.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    lifetime: Option<Duration>,
}

#[derive(Args)]
#[command(next_help_heading = "The end")]
pub(crate) struct Drain {
    /// After the first signal, serve those who are connected for so many seconds more.
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_zero, default_value = "0")]
    drain_grace: Duration,
    /// After SIGUSR2, when the process that replaces this one serves, serve those who are connected
    /// for so many seconds more.
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_zero, default_value = "60")]
    pub(crate) restart_grace: Duration,
    /// Then close them all, and cut those who have not read everything after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_zero, default_value = "5")]
    drain_deadline: Duration,
}

#[derive(Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct FiguresArgs {
    /// Print figures every so many seconds: a live line on a terminal, plain lines otherwise.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) stats: Option<Duration>,
    /// Print one JSON object a line for a script: "listening", "stats", "drained".
    #[arg(long)]
    pub(crate) json: bool,
}

impl ServerArgs {
    pub(crate) fn workers(&self) -> usize {
        self.workers.into()
    }

    pub(crate) fn spread(&self) -> Spread {
        match self.spread {
            How::Fewest => Spread::Fewest,
            How::ReusePort => Spread::ReusePort,
        }
    }

    /// Applies them to a server that is about to be built.
    pub(crate) fn apply(&self, builder: ServerBuilder) -> ServerBuilder {
        let listen = ListenOptions {
            unix_mode: self.unix_mode,
            conn: self.conn_options(),
            ..ListenOptions::default()
        };
        let mut builder = builder
            .listen_options(listen)
            .drain_grace(self.drain.drain_grace)
            .drain_deadline(self.drain.drain_deadline)
            .tick_interval(self.figures.stats.unwrap_or(QUIET_TICK));
        if let Some(max) = self.limits.max_connections {
            builder = builder.max_connections(usize::try_from(max).unwrap_or(usize::MAX));
        }
        if let Some(max) = self.limits.max_per_peer {
            builder = builder.max_per_peer(max);
        }
        if let Some(Rate { per_second, burst }) = self.limits.accept_rate {
            builder = builder.accept_rate(per_second, burst);
        }
        builder
    }

    /// Options of the connections that a proxy makes: what counts on both sides.
    pub(crate) fn upstream_options(&self) -> ConnOptions {
        ConnOptions {
            first_byte_timeout: None,
            lifetime: None,
            receive_rate: None,
            ..self.conn_options()
        }
    }

    fn conn_options(&self) -> ConnOptions {
        ConnOptions {
            send_buffer: self.limits.send_buffer.map(|bytes| bytes as usize),
            recv_buffer: self.limits.receive_buffer.map(|bytes| bytes as usize),
            receive_rate: self.limits.receive_rate.map(|rate| echoloop_server::Rate {
                bytes_per_second: rate.per_second,
                burst: rate.burst,
            }),
            idle_timeout: self.deadlines.idle_timeout,
            first_byte_timeout: self.deadlines.first_byte_timeout,
            write_stall_timeout: self.deadlines.write_stall_timeout,
            lifetime: self.deadlines.lifetime,
            ..ConnOptions::default()
        }
    }
}
