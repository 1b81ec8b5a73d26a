//! What this library can do on this system, asked by name.
//!
//! The rule: the answer is the system's, here and now, where the system can be asked; a name that is
//! not known is not there. So a program that was compiled against any version may ask any question.

use std::ffi::{CStr, c_char, c_int};

/// Whether the library has a feature, on the system that it runs on: 1 or 0. A name that it does not
/// know, or NULL, is 0. From any thread.
///
/// - "unix": Unix sockets, unix(7)
/// - "unix-abstract": those without a file, "unix:@name" (Linux)
/// - "ipv6": sockets of IPv6 can be made
/// - "udp": UDP sockets
/// - "udp-gso": the kernel cuts what is sent into datagrams: UDP_SEGMENT, udp(7)
/// - "udp-gro": the kernel joins datagrams of one sender: UDP_GRO, udp(7)
/// - "workers": one server on several threads
/// - "reuse-port": the kernel spreads connections over workers: SO_REUSEPORT, socket(7)
/// - "watches": events of descriptors
/// - "signals": signals as events
/// - "resolver": names are resolved
/// - "fine-timers": timers finer than a millisecond (Linux)
/// - "tcp-fast-open": fast_open: TCP_FASTOPEN, tcp(7); the administrator may have it switched off
/// - "defer-accept": defer_accept_us: TCP_DEFER_ACCEPT, tcp(7)
/// - "notsent-lowat": notsent_lowat: TCP_NOTSENT_LOWAT, tcp(7)
/// - "pacing": pacing_rate: SO_MAX_PACING_RATE, socket(7)
/// - "device": device: SO_BINDTODEVICE, socket(7)
/// - "log": echoloop_set_log()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_has(feature: *const c_char) -> c_int {
    if feature.is_null() {
        return 0;
    }
    // SAFETY: header, "Pointers": a string with an end mark; it is not NULL.
    let feature = unsafe { CStr::from_ptr(feature) };
    c_int::from(feature.to_str().is_ok_and(has))
}

fn has(feature: &str) -> bool {
    match feature {
        "unix" | "udp" | "workers" | "watches" | "signals" | "resolver" | "log" => cfg!(unix),
        "unix-abstract" | "fine-timers" => cfg!(target_os = "linux"),
        _ => system::has(feature),
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::ffi::c_int;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::{io, ptr};

    /// Asks the kernel: by a socket, and by an option of one.
    pub(super) fn has(feature: &str) -> bool {
        use libc::{
            AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, SO_BINDTODEVICE, SO_MAX_PACING_RATE,
            SO_REUSEPORT, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET, TCP_DEFER_ACCEPT, TCP_FASTOPEN,
            TCP_NOTSENT_LOWAT, UDP_GRO, UDP_SEGMENT,
        };
        let tcp = |level, option| knows(AF_INET, SOCK_STREAM, Some((level, option)));
        let udp = |option| knows(AF_INET, SOCK_DGRAM, Some((IPPROTO_UDP, option)));
        match feature {
            "ipv6" => knows(AF_INET6, SOCK_STREAM, None),
            "udp-gso" => udp(UDP_SEGMENT),
            "udp-gro" => udp(UDP_GRO),
            "reuse-port" => tcp(SOL_SOCKET, SO_REUSEPORT),
            "tcp-fast-open" => tcp(IPPROTO_TCP, TCP_FASTOPEN),
            "defer-accept" => tcp(IPPROTO_TCP, TCP_DEFER_ACCEPT),
            "notsent-lowat" => tcp(IPPROTO_TCP, TCP_NOTSENT_LOWAT),
            "pacing" => tcp(SOL_SOCKET, SO_MAX_PACING_RATE),
            "device" => tcp(SOL_SOCKET, SO_BINDTODEVICE),
            _ => false,
        }
    }

    /// Whether there are such sockets, and they have this option. Where there is no descriptor to ask
    /// with, what nearly all kernels say.
    fn knows(family: c_int, kind: c_int, option: Option<(c_int, c_int)>) -> bool {
        // SAFETY: socket(2) takes any numbers.
        let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            let errno = io::Error::last_os_error().raw_os_error();
            return matches!(errno, Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM));
        }
        // SAFETY: the descriptor was made just now and is nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let Some((level, option)) = option else {
            return true;
        };
        let mut value = [0u8; 16]; // The name of an interface has as many.
        let mut len = value.len() as libc::socklen_t;
        // SAFETY: the pointers are to locals, the buffer's of the length that is said.
        let answer = unsafe {
            let value = value.as_mut_ptr().cast();
            libc::getsockopt(
                socket.as_raw_fd(),
                level,
                option,
                value,
                ptr::from_mut(&mut len),
            )
        };
        answer == 0
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn has(feature: &str) -> bool {
        matches!(feature, "ipv6")
    }
}
