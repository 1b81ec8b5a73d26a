//! The system calls of `echoloop serve`, and the errors that each can give.
//!
//! The rule: a row for each call that `strace -f -c` shows after the beginning of `main`, with the errors of its man
//! page that can come in this program, and with what a program here may make of them. Left out are futex(2), which
//! fails for no reason but a wrong use, and calls that only end a thread.

/// One call with its errors.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The name of the call.
    pub call: &'static str,
    /// Names of errnos, or `short`.
    pub errors: &'static [&'static str],
    /// A connection that is hit may end early.
    pub may_end: bool,
    /// The server may refuse to start.
    pub may_refuse: bool,
    /// The program may end, saying why.
    pub may_die: bool,
    /// The clients are one that must be cut in time.
    pub deadline: bool,
    /// More options of the server.
    pub options: &'static [&'static str],
    /// Only calls about these descriptors, from the first to the last.
    pub descriptors: Option<(u32, u32)>,
    /// Only calls about sockets of this kind: `tcp`, `udp` or `unix`.
    pub kind: Option<&'static str>,
    /// Other names by which a library between tells the error.
    pub told_as: &'static [&'static str],
    /// The most that fail in a row.
    pub in_a_row: u64,
}

/// What a failure may lead to.
const NOTHING: Row = Row {
    call: "",
    errors: &[],
    may_end: false,
    may_refuse: false,
    may_die: false,
    deadline: false,
    options: &[],
    descriptors: None,
    kind: None,
    told_as: &[],
    in_a_row: 200, // More than any bound of the loop on what it tries again at once.
};

/// No client may notice, and the server starts.
const fn unnoticed(call: &'static str, errors: &'static [&'static str]) -> Row {
    Row {
        call,
        errors,
        ..NOTHING
    }
}

/// Accepting is tried again a tenth of a second later, each time.
const fn pauses(call: &'static str, errors: &'static [&'static str]) -> Row {
    Row {
        in_a_row: 10,
        ..unnoticed(call, errors)
    }
}

/// [`unnoticed`], of these descriptors alone.
const fn of(descriptors: (u32, u32), call: &'static str, errors: &'static [&'static str]) -> Row {
    Row {
        descriptors: Some(descriptors),
        ..unnoticed(call, errors)
    }
}

/// The connection that is hit may end; no other.
const fn ends(call: &'static str, errors: &'static [&'static str]) -> Row {
    Row {
        may_end: true,
        in_a_row: 40, // Each ends a client.
        ..unnoticed(call, errors)
    }
}

/// The server may refuse to start; once it serves, no client may notice.
const fn refuses(call: &'static str, errors: &'static [&'static str]) -> Row {
    Row {
        may_refuse: true,
        ..unnoticed(call, errors)
    }
}

/// For allocation and threads. malloc(3) has other ways to memory when one fails, but when all have failed a Rust program
/// ends, and so it does when a thread has no room for its signal stack. pthread_create(3) says `EAGAIN` for everything.
const fn memory(call: &'static str, errors: &'static [&'static str]) -> Row {
    Row {
        in_a_row: 3,
        may_die: true,
        told_as: &["EAGAIN"],
        ..refuses(call, errors)
    }
}

/// Calls about sockets of one kind.
const fn on(kind: &'static str, row: Row) -> Row {
    Row {
        kind: Some(kind),
        ..row
    }
}

/// The same on a server with two workers.
const fn of_two(row: Row) -> Row {
    Row {
        options: &["--workers", "2"],
        ..row
    }
}

/// Every deadline is kept all the same.
const fn in_time(call: &'static str, errors: &'static [&'static str]) -> Row {
    Row {
        deadline: true,
        options: &["--idle-timeout", "0.5"],
        ..unnoticed(call, errors)
    }
}

/// Standard output and error.
const STANDARD: (u32, u32) = (1, 2);
/// The waker's eventfd(2) among them.
const OTHERS: (u32, u32) = (3, 65_535);

/// All of them, in the order in which a server makes them.
pub const TABLE: &[Row] = &[
    unnoticed("ioctl", &["EIO", "ENOTTY"]),
    unnoticed("prlimit64", &["EPERM", "EINVAL", "ENOSYS"]),
    memory("brk", &["ENOMEM"]),
    memory("mmap", &["ENOMEM", "EAGAIN"]),
    memory("mprotect", &["ENOMEM"]),
    unnoticed("munmap", &["ENOMEM"]),
    unnoticed("madvise", &["ENOMEM", "EAGAIN"]),
    unnoticed("getrandom", &["EINTR"]),
    refuses("epoll_create1", &["EMFILE", "ENFILE", "ENOMEM"]),
    refuses("fcntl", &["EMFILE", "EINVAL"]),
    refuses("eventfd2", &["EMFILE", "ENFILE", "ENOMEM", "ENODEV"]),
    refuses("timerfd_create", &["EMFILE", "ENFILE", "ENOMEM", "ENODEV"]),
    refuses("epoll_ctl", &["ENOMEM", "ENOSPC"]),
    refuses(
        "socket",
        &[
            "EACCES",
            "EAFNOSUPPORT",
            "EMFILE",
            "ENFILE",
            "ENOBUFS",
            "ENOMEM",
        ],
    ),
    refuses("setsockopt", &["ENOPROTOOPT", "ENOMEM", "EPERM"]),
    refuses("bind", &["EACCES", "EADDRINUSE", "EADDRNOTAVAIL", "ENOMEM"]),
    refuses("listen", &["EADDRINUSE", "EOPNOTSUPP"]),
    unnoticed("getsockname", &["ENOBUFS"]),
    refuses("rt_sigaction", &["EINVAL"]),
    refuses("socketpair", &["EMFILE", "ENFILE", "ENOMEM"]),
    memory("clone3", &["EAGAIN", "ENOMEM", "EPERM"]),
    unnoticed("clone3", &["ENOSYS"]),
    unnoticed("prctl", &["EPERM"]),
    unnoticed("sched_getaffinity", &["EPERM"]),
    unnoticed("sigaltstack", &["ENOMEM"]),
    of(
        STANDARD,
        "write",
        &["EAGAIN", "EINTR", "EIO", "ENOSPC", "EPIPE", "short"],
    ),
    of(OTHERS, "write", &["EAGAIN", "EINTR"]),
    unnoticed("timerfd_settime", &["EINVAL", "ENOMEM"]),
    in_time("timerfd_settime", &["EINVAL", "ENOMEM"]),
    unnoticed("epoll_wait", &["EINTR", "short"]),
    in_time("epoll_wait", &["EINTR"]),
    unnoticed("accept4", &["EAGAIN", "EINTR"]),
    pauses(
        "accept4",
        &[
            "ECONNABORTED",
            "EHOSTUNREACH",
            "ENETDOWN",
            "EPERM",
            "EPROTO",
        ],
    ),
    pauses(
        "accept4",
        &["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ETIMEDOUT"],
    ),
    on("tcp", unnoticed("recvfrom", &["EAGAIN", "EINTR", "short"])),
    on(
        "tcp",
        ends(
            "recvfrom",
            &[
                "ECONNREFUSED",
                "ECONNRESET",
                "EHOSTUNREACH",
                "ENOMEM",
                "ETIMEDOUT",
            ],
        ),
    ),
    on("tcp", unnoticed("sendto", &["EAGAIN", "EINTR", "short"])),
    on(
        "tcp",
        ends(
            "sendto",
            &[
                "ECONNRESET",
                "EHOSTUNREACH",
                "ENOBUFS",
                "ENOMEM",
                "EPIPE",
                "ETIMEDOUT",
            ],
        ),
    ),
    on("tcp", unnoticed("sendmsg", &["EAGAIN", "EINTR", "short"])),
    on(
        "tcp",
        ends(
            "sendmsg",
            &[
                "ECONNRESET",
                "EHOSTUNREACH",
                "ENOBUFS",
                "ENOMEM",
                "EPIPE",
                "ETIMEDOUT",
            ],
        ),
    ),
    ends("shutdown", &["ENOTCONN", "ENOBUFS"]),
    ends("getsockopt", &["ENOBUFS", "ENOMEM"]),
    unnoticed("close", &["EDQUOT", "EINTR", "EIO", "ENOSPC"]),
    refuses("statx", &["EACCES", "ENOMEM"]),
    unnoticed("unlink", &["EACCES", "EBUSY", "EIO"]),
    on("unix", unnoticed("recvfrom", &["EAGAIN", "EINTR", "short"])),
    on("unix", ends("recvfrom", &["ECONNRESET", "ENOMEM"])),
    on("unix", unnoticed("sendto", &["EAGAIN", "EINTR", "short"])),
    on(
        "unix",
        ends("sendto", &["ECONNRESET", "ENOBUFS", "ENOMEM", "EPIPE"]),
    ),
    on("pair", unnoticed("recvfrom", &["EINTR"])),
    on("udp", unnoticed("recvmsg", &["EAGAIN", "EINTR"])),
    on("udp", unnoticed("recvmmsg", &["EAGAIN", "EINTR", "short"])),
    on("udp", ends("recvmsg", &["ECONNREFUSED", "ENOMEM"])),
    on("udp", ends("recvmmsg", &["ECONNREFUSED", "ENOMEM"])),
    on("udp", unnoticed("sendto", &["EAGAIN", "EINTR"])),
    on("udp", unnoticed("sendmsg", &["EAGAIN", "EINTR"])),
    on("udp", unnoticed("sendmmsg", &["EAGAIN", "EINTR", "short"])),
    on(
        "udp",
        ends(
            "sendto",
            &["ECONNREFUSED", "EHOSTUNREACH", "ENOBUFS", "ENOMEM", "EPERM"],
        ),
    ),
    on(
        "udp",
        ends(
            "sendmsg",
            &["ECONNREFUSED", "EHOSTUNREACH", "ENOBUFS", "ENOMEM", "EPERM"],
        ),
    ),
    on(
        "udp",
        ends(
            "sendmmsg",
            &["ECONNREFUSED", "EHOSTUNREACH", "ENOBUFS", "ENOMEM", "EPERM"],
        ),
    ),
    of_two(refuses("epoll_create1", &["EMFILE"])),
    of_two(refuses("eventfd2", &["EMFILE"])),
    // One that was handed over is lost, and told of, where the other worker's epoll has no room.
    of_two(Row {
        may_end: true,
        ..refuses("epoll_ctl", &["ENOSPC"])
    }),
    of_two(memory("clone3", &["EAGAIN"])),
    of_two(unnoticed("epoll_wait", &["EINTR", "short"])),
    of_two(unnoticed("accept4", &["EAGAIN", "EINTR"])),
    of_two(pauses("accept4", &["ECONNABORTED", "EMFILE"])),
    of_two(of(OTHERS, "write", &["EAGAIN", "EINTR"])),
    of_two(unnoticed("close", &["EINTR", "EIO"])),
];
