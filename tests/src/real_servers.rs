//! Servers that others wrote, from Debian's packages: nginx, redis-server, PostgreSQL.
//!
//! Each has a temporary folder of its own with its configuration, data and sockets, touches nothing outside it, and
//! is ready when it answers. The rule: it ends with the value that holds it, by its process number, and its folder
//! goes with it. Where a package is not installed, `start` says so and gives `None` (see `tools`).

use std::env;
use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};

use crate::Process;
use crate::patience::{PATIENCE, until, within};
use crate::tools::{skip, tool};

/// A folder under the system's temporary one, whose name is short enough for the paths of sockets.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes an empty folder.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        let name = format!("echoloop-{name}-{}-{number}", process::id());
        let path = env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path); // Of a process of this number that was killed.
        fs::create_dir(&path).expect("the temporary folder can be written");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// nginx, with the files of a folder.
#[derive(Debug)]
pub struct Nginx {
    _process: Process, // Dropped first.
    folder: Folder,
    address: SocketAddr,
}

impl Nginx {
    /// Starts it with these files, on a free port of loopback.
    #[track_caller]
    pub fn start(files: &[(String, Vec<u8>)]) -> Option<Self> {
        let program = system_tool("nginx")?;
        let folder = Folder::new("nginx");
        let root = folder.path().join("files");
        fs::create_dir(&root).expect("made above");
        for (name, content) in files {
            fs::write(root.join(name), content).expect("made above");
        }
        // nginx can't be given port 0, and somebody else may take the port that was free.
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = free.local_addr().expect("a bound socket");
            drop(free);
            let settings = folder.path().join("nginx.conf");
            fs::write(&settings, nginx_settings(folder.path(), address)).expect("made above");
            let mut command = Command::new(&program);
            command.args(["-e", "stderr", "-p"]).arg(folder.path());
            command.arg("-c").arg(settings);
            let mut process = Process::spawn(command);
            let answers = within(PATIENCE, || {
                let answers = TcpStream::connect(address).is_ok();
                (answers || process.ended().is_some()).then_some(answers)
            });
            // Whoever answers is nginx only if that still runs.
            if answers == Some(true) && process.ended().is_none() {
                return Some(Self {
                    _process: process,
                    folder,
                    address,
                });
            }
        }
        panic!("nginx does not start in {}", folder.path().display());
    }

    /// `http://127.0.0.1:PORT/`.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// redis-server, on a Unix socket, keeping nothing.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    folder: Folder,
}

impl Redis {
    /// Starts it.
    #[track_caller]
    pub fn start() -> Option<Self> {
        let program = system_tool("redis-server")?;
        let folder = Folder::new("redis");
        let mut command = Command::new(program);
        command.args(["--port", "0", "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(folder.path());
        command
            .arg("--unixsocket")
            .arg(folder.path().join("socket"));
        let process = Process::spawn(command);
        let redis = Self { process, folder };
        until("redis-server answers", PATIENCE, || {
            UnixStream::connect(redis.socket()).ok()
        });
        Some(redis)
    }

    /// The path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Kills it, as the kernel does when memory is short.
    #[track_caller]
    pub fn kill(mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.wait(PATIENCE);
    }
}

/// A PostgreSQL cluster of its own, on a Unix socket, of a user who is not root.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    folder: Folder,
    server: PathBuf,
}

impl Postgres {
    /// Makes a cluster and starts its server.
    #[track_caller]
    pub fn start() -> Option<Self> {
        let Some(programs) = postgres_programs() else {
            skip("PostgreSQL's server is not installed");
            return None;
        };
        let folder = Folder::new("postgres");
        if let Some(user) = postgres_user() {
            chown(
                folder.path(),
                Some(user.uid.as_raw()),
                Some(user.gid.as_raw()),
            )
            .expect("root may give away its folder");
        }
        let mode = Permissions::from_mode(0o700);
        fs::set_permissions(folder.path(), mode).expect("made above");
        let mut initdb = as_postgres(&programs.join("initdb"));
        initdb.args(["--auth=trust", "--username=postgres", "--no-sync"]);
        initdb.args(["--no-locale", "--encoding=UTF8", "-D"]);
        initdb.arg(folder.path().join("data"));
        let mut made = Process::run(initdb, Duration::from_secs(60));
        let status = made.wait(PATIENCE);
        assert!(
            status.success(),
            "initdb ended with {status}: {:?}",
            made.stderr()
        );
        let server = programs.join("postgres");
        let process = serve(&server, folder.path());
        let postgres = Self {
            process,
            folder,
            server,
        };
        postgres.until_it_answers();
        Some(postgres)
    }

    /// How libpq is told to connect to it.
    pub fn conninfo(&self) -> String {
        let folder = self.folder.path().display();
        format!("host={folder} user=postgres dbname=postgres")
    }

    /// PostgreSQL's own client, with one statement.
    pub fn psql(&self, statement: &str) -> Command {
        let mut psql = Command::new(self.server.with_file_name("psql"));
        psql.args(["--no-psqlrc", "--dbname", &self.conninfo()]);
        psql.args(["--command", statement]);
        psql
    }

    /// Stops it at once and leaves its clients alone, as in a crash; then starts it on what it has written.
    #[track_caller]
    pub fn crash_and_start_again(&mut self) {
        self.stop();
        self.process = serve(&self.server, self.folder.path());
    }

    #[track_caller]
    fn stop(&mut self) {
        // Killed, it would leave behind its processes for a while, and its shared memory for ever.
        self.process.signal(Signal::SIGQUIT);
        self.process.wait(PATIENCE);
    }

    #[track_caller]
    fn until_it_answers(&self) {
        self.process
            .says("database system is ready to accept connections", PATIENCE);
        UnixStream::connect(self.folder.path().join(".s.PGSQL.5432")).expect("it says it is ready");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.process.ended().is_none() {
            self.process.signal(Signal::SIGQUIT);
            within(PATIENCE, || self.process.ended());
        }
    }
}

fn nginx_settings(folder: &Path, address: SocketAddr) -> String {
    let folder = folder.display();
    let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|of| format!("    {of}_temp_path {folder}/{of};\n"))
        .concat();
    format!(
        "daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{
    worker_connections 1024;
}}
http {{
    access_log off;
{places}
    server {{
        listen {address} backlog=1024;
        root {folder}/files;
    }}
}}
"
    )
}

/// A tool that may be in a folder for administrators, which is not on everybody's path.
#[track_caller]
fn system_tool(name: &str) -> Option<PathBuf> {
    let found = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).join(name));
    found
        .into_iter()
        .find(|path| path.is_file())
        .or_else(|| tool(name))
}

/// The folder with the programs of the newest PostgreSQL; Debian does not put them on the path.
fn postgres_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.flatten().map(|version| version.path().join("bin"));
    folders
        .filter(|folder| folder.join("initdb").is_file())
        .max()
}

/// Whom PostgreSQL runs as when the tests run as root, which it refuses to.
fn postgres_user() -> Option<User> {
    if !geteuid().is_root() {
        return None;
    }
    let user = User::from_name("postgres").expect("the table of users can be read");
    Some(user.expect("the package makes a user postgres"))
}

fn as_postgres(program: &Path) -> Command {
    let mut command = match postgres_user() {
        Some(user) => {
            let mut command = Command::new("setpriv"); // Becomes the program, with the same number.
            command.arg(format!("--reuid={}", user.uid));
            command.arg(format!("--regid={}", user.gid));
            command.args(["--clear-groups", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.env("LC_ALL", "C").current_dir("/");
    command
}

fn serve(server: &Path, folder: &Path) -> Process {
    let mut command = as_postgres(server);
    command.arg("-D").arg(folder.join("data"));
    command.arg("-k").arg(folder);
    for setting in [
        "listen_addresses=",
        "fsync=off",
        "max_connections=20",
        "shared_buffers=8MB",
        "dynamic_shared_memory_type=mmap", // In its folder, so that a crash leaves nothing behind.
    ] {
        command.args(["-c", setting]);
    }
    Process::spawn(command)
}
