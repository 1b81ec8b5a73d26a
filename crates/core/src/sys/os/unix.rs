//! Unix sockets (unix(7)): binding, the file of a listener, and who is at the other end.
//!
//! The rule: a file is replaced only when it is a socket that nobody has bound any more, and removed
//! only when it is the one made here. A file of a dead server never comes to life again, a new
//! server makes a new file; so it is enough to take the file away by a name nobody knows, and to
//! look at what one has got. Whether a file is alive is asked with a datagram socket: a living
//! stream socket answers `EPROTOTYPE`, listening or not yet, and is not bothered with a connection.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix};
use socket2::{Domain, Socket, Type};

use super::options::{self, Outcome};
use crate::sys::Credentials;
use crate::{ConnectOptions, ListenOptions, UnixAddr};

/// The longest path, in bytes.
const PATH_MAX: usize =
    size_of::<libc::sockaddr_un>() - std::mem::offset_of!(libc::sockaddr_un, sun_path) - 1;

/// How often a bind is tried that others come between.
const TRIES: u32 = 16;

/// The file of a listener, removed when this is dropped. That must be before the socket is closed:
/// while it is open its inode can't be another file's.
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// The process that made it: a forked child must not remove it.
    maker: u32,
    /// Others may listen on the socket, too.
    shared: bool,
}

impl SocketFile {
    /// Another process may listen on it too: it is not removed while that lives.
    pub(super) fn share(&mut self) {
        self.shared = true;
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    /// The shared socket is closed here: the file goes too if nobody else had it.
    pub(super) fn closed(self) {
        if self.maker == std::process::id()
            && let Ok(name) = SocketAddrUnix::new(&self.path)
        {
            let _ = remove_stale(&self.path, &name); // One that is alive stays.
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = !self.shared
            && self.maker == std::process::id()
            && fs::symlink_metadata(&self.path).is_ok_and(|m| identity(&m) == self.identity);
        if ours && let Err(e) = fs::remove_file(&self.path) {
            log::warn!("socket file {} stays: {e}", self.path.display());
        }
    }
}

/// A listening socket, and its file if it has one.
pub(super) fn listen(
    addr: &UnixAddr,
    options: &ListenOptions,
) -> Outcome<(OwnedFd, Option<SocketFile>)> {
    let name = socket_name(addr)?;
    let socket = open(Type::STREAM)?;
    options::tune_listener(socket.as_fd(), AddressFamily::UNIX, options)?;
    let file = match addr.as_path() {
        Some(path) => Some(bind_path(&socket, path, &name, options.unix_mode)?),
        None => {
            rustix::net::bind(&socket, &name)?;
            None
        }
    };
    let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
    rustix::net::listen(&socket, backlog)?;
    Ok((socket, file))
}

/// A socket that is connected, or has been refused: here that is known at once.
pub(super) fn connect(addr: &UnixAddr, options: &ConnectOptions) -> Outcome<OwnedFd> {
    if options.local.is_some() {
        return Err(Errno::AFNOSUPPORT.into()); // An IP address is no place to connect from.
    }
    let name = socket_name(addr)?;
    let socket = open(Type::STREAM)?;
    options::tune(socket.as_fd(), AddressFamily::UNIX, &options.conn)?;
    rustix::net::connect(&socket, &name)?;
    Ok(socket)
}

/// SO_PEERCRED. By nix: the process number may be 0, which rustix's type can't hold.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn peer_credentials(socket: BorrowedFd<'_>) -> Result<Credentials, Errno> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    use rustix::net::sockopt;

    if sockopt::socket_domain(socket)? != AddressFamily::UNIX {
        return Err(Errno::OPNOTSUPP); // Linux would answer for TCP too: nobody, of user -1.
    }
    let peer = getsockopt(&socket, PeerCredentials);
    let peer = peer.map_err(|e| Errno::from_raw_os_error(e as i32))?;
    Ok(Credentials {
        pid: (peer.pid() != 0).then(|| peer.pid()),
        uid: peer.uid(),
        gid: peer.gid(),
    })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn peer_credentials(_: BorrowedFd<'_>) -> Result<Credentials, Errno> {
    Err(Errno::NOSYS)
}

fn bind_path(
    socket: &OwnedFd,
    path: &Path,
    name: &SocketAddrUnix,
    mode: Option<u32>,
) -> Result<SocketFile, Errno> {
    if let Some(mode) = mode {
        // Linux makes the file with the socket's mode less the umask: never more than was asked
        // for, not for a moment. Others refuse this.
        let _ = rustix::fs::fchmod(socket, mode.into());
    }
    let mut tries = 0;
    loop {
        match rustix::net::bind(socket, name) {
            Ok(()) => break,
            Err(Errno::ADDRINUSE) if tries < TRIES => remove_stale(path, name)?,
            Err(e) => return Err(e),
        }
        tries += 1;
    }
    // This takes no descriptor: there may be no other, and then the file would stay behind.
    let metadata = fs::symlink_metadata(path).map_err(super::errno)?;
    let file = SocketFile {
        path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        identity: identity(&metadata),
        maker: std::process::id(),
        shared: false,
    };
    if let Some(mode) = mode
        && metadata.mode() & 0o7777 != mode
    {
        let held = hold(path)?;
        let exact = Permissions::from_mode(mode);
        fs::set_permissions(&held.reach, exact).map_err(super::errno)?;
    }
    Ok(file)
}

/// Removes a socket file that nobody has bound any more. `Ok` means: try to bind again.
fn remove_stale(path: &Path, name: &SocketAddrUnix) -> Result<(), Errno> {
    let stale = match hold(path) {
        Ok(stale) => stale,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e),
    };
    match rustix::net::connect(&open(Type::DGRAM)?, name) {
        Err(Errno::CONNREFUSED) => {}
        Err(Errno::NOENT) => return Ok(()),
        // Alive, or not to be told.
        _ => return Err(Errno::ADDRINUSE),
    }
    let away = beside(path);
    match fs::rename(path, &away) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(super::errno(e)),
    }
    if fs::symlink_metadata(&away).is_ok_and(|m| identity(&m) == identity(&stale.metadata)) {
        return fs::remove_file(&away).map_err(super::errno);
    }
    // Somebody was quicker and has bound a socket of his own there: give it back.
    match fs::hard_link(&away, path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => fs::rename(&away, path),
        _ => fs::remove_file(&away),
    }
    .map_err(super::errno)
}

/// A socket file that is looked at, open without opening the socket: its inode stays its own.
struct Held {
    metadata: Metadata,
    /// A path that leads to this very file, whatever is put in its place meanwhile.
    reach: PathBuf,
    _file: Option<File>,
}

fn hold(path: &Path) -> Result<Held, Errno> {
    let held = if cfg!(any(target_os = "linux", target_os = "android")) {
        let mut open = OpenOptions::new();
        #[cfg(any(target_os = "linux", target_os = "android"))]
        open.custom_flags(libc::O_PATH | libc::O_NOFOLLOW);
        let file = open.read(true).open(path).map_err(super::errno)?;
        Held {
            metadata: file.metadata().map_err(super::errno)?,
            reach: format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
            _file: Some(file),
        }
    } else {
        Held {
            metadata: fs::symlink_metadata(path).map_err(super::errno)?,
            reach: path.to_owned(),
            _file: None,
        }
    };
    if held.metadata.file_type().is_socket() {
        Ok(held)
    } else {
        Err(Errno::NOTSOCK)
    }
}

/// A name in the same folder that nobody else uses.
fn beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".echoloop-{}-{count}.stale", std::process::id()))
}

fn open(kind: Type) -> Result<OwnedFd, Errno> {
    let socket = Socket::new(Domain::UNIX, kind, None).map_err(super::errno)?;
    socket.set_nonblocking(true).map_err(super::errno)?;
    Ok(socket.into())
}

/// The address for the kernel; `ENAMETOOLONG` when it does not fit, 107 bytes on Linux.
fn socket_name(addr: &UnixAddr) -> Result<SocketAddrUnix, Errno> {
    if let Some(path) = addr.as_path() {
        // Linux would take one byte more, without the zero at the end that other programs count on.
        if path.as_os_str().len() > PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        return SocketAddrUnix::new(path);
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = addr.as_abstract_name() {
        return SocketAddrUnix::new_abstract_name(name);
    }
    Err(Errno::INVAL)
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
