//! Moving datagrams, many in one call: recvmmsg, sendmmsg, and segments (UDP_GRO, UDP_SEGMENT).
//!
//! The rule: no error of an earlier send is lost. The kernel's sendmmsg drops an error that comes
//! after the first message, so a connected socket, the only one that has such errors, sends one
//! message a call. nix is used without its one trap: its receive headers remember how long names and
//! control data were the last time, so those with control data are made anew for each batch.
//! Systems without recvmmsg move one message a call.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, RecvMsg, SockaddrIn, SockaddrIn6, SockaddrLike,
    SockaddrStorage,
};
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::sys::{UdpPlaces, UdpReceived, UdpSend};

/// Room for the control data of one message: the size of its segments and its destination.
const CONTROL: usize = nix::sys::socket::cmsg_space::<libc::c_int>()
    + nix::sys::socket::cmsg_space::<libc::in6_pktinfo>();

/// Control data begins with a cmsghdr, which wants to be aligned.
#[repr(align(8))]
struct Control([u8; CONTROL]);

/// The two kinds of address. A kernel writes each at full length always, so headers that know only
/// one kind may be used again.
trait Name: SockaddrLike + Copy + 'static {
    fn addr(self) -> SocketAddr;
}

impl Name for SockaddrIn {
    fn addr(self) -> SocketAddr {
        SocketAddrV4::from(self).into()
    }
}

impl Name for SockaddrIn6 {
    fn addr(self) -> SocketAddr {
        SocketAddrV6::from(self).into()
    }
}

pub(super) fn recv(
    socket: &OwnedFd,
    places: &UdpPlaces,
    buf: &mut [u8],
    received: &mut Vec<UdpReceived>,
) -> Result<(), Errno> {
    #[cfg(target_os = "linux")]
    if places.most > 1 {
        return batch::recv(socket, places, buf, received);
    }
    match places.ipv6 {
        false => recv_one::<SockaddrIn>(socket, places, buf, received),
        true => recv_one::<SockaddrIn6>(socket, places, buf, received),
    }
}

fn recv_one<A: Name>(
    socket: &OwnedFd,
    places: &UdpPlaces,
    buf: &mut [u8],
    received: &mut Vec<UdpReceived>,
) -> Result<(), Errno> {
    let mut place = [IoSliceMut::new(&mut buf[..places.len])];
    let mut control = Control([0; CONTROL]);
    let message = nix::sys::socket::recvmsg::<A>(
        socket.as_raw_fd(),
        &mut place,
        wants_control(places).then_some(&mut control.0[..]),
        MsgFlags::MSG_DONTWAIT,
    );
    received.extend(describe(&message.map_err(errno)?, 0));
    Ok(())
}

fn wants_control(places: &UdpPlaces) -> bool {
    places.features.gro || places.features.destination
}

fn describe<A: Name>(message: &RecvMsg<'_, '_, A>, start: usize) -> Option<UdpReceived> {
    let mut described = UdpReceived {
        from: message.address?.addr(),
        to: None,
        start,
        len: message.bytes,
        segment: message.bytes,
        truncated: message.flags.contains(MsgFlags::MSG_TRUNC),
    };
    for control in message.cmsgs().into_iter().flatten() {
        match control {
            #[cfg(target_os = "linux")]
            ControlMessageOwned::UdpGroSegments(size) => described.segment = size.max(1) as usize,
            #[cfg(target_os = "linux")]
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                described.to = Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes()));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                described.to = Some(IpAddr::from(info.ipi6_addr.s6_addr));
            }
            _ => {}
        }
    }
    Some(described)
}

pub(super) fn send(socket: &OwnedFd, bytes: &[u8], messages: &[UdpSend]) -> Result<usize, Errno> {
    let Some(first) = messages.first() else {
        return Ok(0);
    };
    #[cfg(target_os = "linux")]
    {
        let plain = |m: &&UdpSend| m.segment == 0 && m.from.is_none() && m.to.is_some();
        let n = messages.iter().take_while(plain).count();
        if n > 1 {
            return batch::send(socket, bytes, &messages[..n]);
        }
    }
    send_one(socket, &bytes[..first.len], first).map(|()| 1)
}

fn send_one(socket: &OwnedFd, bytes: &[u8], message: &UdpSend) -> Result<(), Errno> {
    if message.segment == 0 && message.from.is_none() {
        return match &message.to {
            Some(to) => rustix::net::sendto(socket, bytes, SendFlags::NOSIGNAL, to),
            None => rustix::net::send(socket, bytes, SendFlags::NOSIGNAL),
        }
        .map(drop);
    }
    let to = message.to.map(SockaddrStorage::from);
    let source = source_info(message.from);
    let source = source.as_ref().map(Source::control);
    #[cfg(target_os = "linux")]
    let segment = u16::try_from(message.segment).map_err(|_| Errno::INVAL)?;
    #[cfg(target_os = "linux")]
    let segments = (segment != 0).then_some(ControlMessage::UdpGsoSegments(&segment));
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let segments = None;
    let parts = [IoSlice::new(bytes)];
    let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
    let control = match (segments, source) {
        (Some(a), Some(b)) => &[a, b][..],
        (Some(a), None) | (None, Some(a)) => &[a][..],
        (None, None) => &[],
    };
    nix::sys::socket::sendmsg(fd, &parts, control, flags, to.as_ref())
        .map(drop)
        .map_err(errno)
}

/// The address to send from, as the kernel wants it: ip(7), ipv6(7).
enum Source {
    #[cfg(target_os = "linux")]
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

impl Source {
    fn control(&self) -> ControlMessage<'_> {
        match self {
            #[cfg(target_os = "linux")]
            Self::V4(info) => ControlMessage::Ipv4PacketInfo(info),
            Self::V6(info) => ControlMessage::Ipv6PacketInfo(info),
        }
    }
}

fn source_info(from: Option<IpAddr>) -> Option<Source> {
    match from? {
        #[cfg(target_os = "linux")]
        IpAddr::V4(addr) => Some(Source::V4(libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr {
                s_addr: u32::from_ne_bytes(addr.octets()),
            },
            ipi_addr: libc::in_addr { s_addr: 0 },
        })),
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        IpAddr::V4(_) => None,
        IpAddr::V6(addr) => Some(Source::V6(libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr {
                s6_addr: addr.octets(),
            },
            ipi6_ifindex: 0,
        })),
    }
}

fn errno(e: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(e as i32)
}

#[cfg(target_os = "linux")]
mod batch {
    //! Many messages in one call.

    use std::cell::RefCell;
    use std::thread::LocalKey;

    use nix::sys::socket::{MultiHeaders, recvmmsg};
    use rustix::net::addr::SocketAddrArg;
    use rustix::net::{MMsgHdr, SendAncillaryBuffer, SocketAddrAny};

    use super::*;

    /// Messages that one call receives, and sends, at most.
    const MOST: usize = 32;
    const SENDS: usize = 32;

    thread_local! {
        // Headers hold pointers: in the system they would take `Send` from the loop.
        static RECV_V4: Headers<SockaddrIn> = headers();
        static RECV_V6: Headers<SockaddrIn6> = headers();
        static NAMES: RefCell<Vec<SocketAddrAny>> = const { RefCell::new(Vec::new()) };
    }

    type Headers<A> = RefCell<MultiHeaders<A>>;

    fn headers<A: SockaddrLike + Copy>() -> Headers<A> {
        RefCell::new(preallocated())
    }

    fn preallocated<A: SockaddrLike + Copy>() -> MultiHeaders<A> {
        MultiHeaders::preallocate(MOST, None)
    }

    /// Acts on what the thread keeps. At the thread's end, in a destructor of the program's, that may be
    /// gone: then on what is made for this call.
    fn with_kept<T, R>(
        kept: &'static LocalKey<RefCell<T>>,
        make: impl FnOnce() -> T,
        act: impl FnOnce(&mut T) -> R,
    ) -> R {
        match kept.try_with(|_| ()) {
            Ok(()) => kept.with_borrow_mut(act),
            Err(_) => act(&mut make()),
        }
    }

    pub(super) fn recv(
        socket: &OwnedFd,
        places: &UdpPlaces,
        buf: &mut [u8],
        received: &mut Vec<UdpReceived>,
    ) -> Result<(), Errno> {
        match (wants_control(places), places.ipv6) {
            (false, false) => with_kept(&RECV_V4, preallocated, |headers| {
                recv_with(headers, socket, places, buf, received)
            }),
            (false, true) => with_kept(&RECV_V6, preallocated, |headers| {
                recv_with(headers, socket, places, buf, received)
            }),
            (true, false) => {
                let mut headers = with_control::<SockaddrIn>(places.most);
                recv_with(&mut headers, socket, places, buf, received)
            }
            (true, true) => {
                let mut headers = with_control::<SockaddrIn6>(places.most);
                recv_with(&mut headers, socket, places, buf, received)
            }
        }
    }

    fn with_control<A: Name>(most: usize) -> MultiHeaders<A> {
        MultiHeaders::preallocate(most.min(MOST), Some(vec![0; CONTROL]))
    }

    fn recv_with<A: Name>(
        headers: &mut MultiHeaders<A>,
        socket: &OwnedFd,
        places: &UdpPlaces,
        buf: &mut [u8],
        received: &mut Vec<UdpReceived>,
    ) -> Result<(), Errno> {
        let mut cut = buf.chunks_mut(places.stride);
        let mut slices: [[IoSliceMut<'_>; 1]; MOST] = std::array::from_fn(|_| {
            let place = cut.next().and_then(|c| c.get_mut(..places.len));
            [IoSliceMut::new(place.unwrap_or_default())]
        });
        let wanted = slices.iter_mut().take(places.most);
        let flags = MsgFlags::MSG_DONTWAIT;
        let messages = recvmmsg(socket.as_raw_fd(), headers, wanted, flags, None);
        for (place, message) in messages.map_err(errno)?.enumerate() {
            received.extend(describe(&message, place * places.stride));
        }
        Ok(())
    }

    /// Plain messages: none has segments or an address to leave from, each has one to go to.
    pub(super) fn send(
        socket: &OwnedFd,
        bytes: &[u8],
        messages: &[UdpSend],
    ) -> Result<usize, Errno> {
        let n = messages.len().min(SENDS);
        let mut rest = bytes;
        let mut slices = [[IoSlice::new(&[])]; SENDS];
        for (slice, message) in slices.iter_mut().zip(messages) {
            let (own, others) = rest.split_at(message.len);
            *slice = [IoSlice::new(own)];
            rest = others;
        }
        let mut controls = std::array::from_fn(|_| SendAncillaryBuffer::default());
        let mut index = 0;
        with_kept(&NAMES, Vec::new, |names| {
            names.clear();
            names.extend(
                messages[..n]
                    .iter()
                    .flat_map(|m| m.to)
                    .map(|to| to.as_any()),
            );
            let mut headers: [MMsgHdr<'_>; SENDS] = controls.each_mut().map(|control| {
                let place = index.min(n - 1); // Those above `n` are not sent.
                index += 1;
                MMsgHdr::new_with_addr(&names[place], &slices[place], control)
            });
            rustix::net::sendmmsg(socket, &mut headers[..n], SendFlags::NOSIGNAL)
        })
    }
}
