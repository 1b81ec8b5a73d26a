//! Builds what is under test, once: the command line, the library, the C programs, the Python package.
//!
//! Everything lands in the target folder this test was built in, found from the path of the running test. The rule:
//! the tool that users run does the building (cargo, make, pip), this file only calls it. A lock file keeps test
//! processes that run at the same time from building the same thing twice at once.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};

use crate::Process;

/// A release build with link-time optimisation, from nothing, on a slow machine.
const BUILD_LIMIT: Duration = Duration::from_secs(900);

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ has a parent")
}

/// The target folder, `target` unless cargo was told otherwise.
pub fn target() -> PathBuf {
    let exe = env::current_exe().expect("a test knows its own path");
    let deps = exe.ancestors().find(|path| path.ends_with("deps"));
    let target = deps.and_then(|path| path.ancestors().nth(2));
    target
        .expect("a test is at target/PROFILE/deps/NAME")
        .to_path_buf()
}

/// A folder for what the tests make, inside the target folder.
pub fn scratch() -> PathBuf {
    let folder = target().join("echoloop-tests");
    fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

/// A helper program of this package, by the name of its file in `src/bin`.
pub fn helper(name: &str) -> PathBuf {
    let exe = env::current_exe().expect("a test knows its own path");
    let deps = exe.parent().expect("a test is in a folder");
    deps.parent().expect("target/PROFILE/deps").join(name)
}

/// The command line, `echoloop`, in release.
pub fn cli() -> PathBuf {
    release().join("echoloop")
}

/// The folder of the release build with the command line and the C library.
pub fn release() -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args([
                "build",
                "--release",
                "-p",
                "echoloop-cli",
                "-p",
                "echoloop-capi",
            ])
            .arg("--target-dir")
            .arg(target());
        build("release", cargo);
    });
    target().join("release")
}

/// A program of `examples-c`, built by its Makefile.
pub fn c_program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let folder = scratch().join("examples-c");
        let mut make = Command::new("make");
        make.arg(format!("BUILD={}", folder.display()))
            .arg(format!("LIBDIR={}", release().display()))
            .arg("-C")
            .arg(root().join("examples-c"))
            .env("CARGO", env!("CARGO"))
            .env("CARGO_TARGET_DIR", target());
        build("examples-c", make);
        folder
    });
    folder.join(name)
}

/// A program of one C file that the tests need, compiled by `cc`; the file is named from the root.
pub fn c_tool(name: &str, source: &str) -> PathBuf {
    let program = scratch().join(name);
    let new = scratch().join(format!("{name}-{}", std::process::id()));
    let mut cc = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
    cc.args(["-std=c99", "-D_GNU_SOURCE", "-O1"])
        .args(["-Wall", "-Wextra", "-Werror", "-o"])
        .args([&new, &root().join(source)]);
    run(cc);
    // In one step: another test process may be running the old one.
    fs::rename(new, &program).expect("the target folder can be written");
    program
}

/// The interpreter of a virtual environment in which `pip install ./python` was run.
pub fn python() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let venv = BUILT.get_or_init(|| {
        let venv = scratch().join("venv");
        let now = fingerprint(&[root().join("python"), release().join("libecholoop.so")]);
        let _lock = lock("python");
        let stamp = scratch().join("venv.stamp");
        if fs::read_to_string(&stamp).is_ok_and(|then| then == now) {
            return venv;
        }
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--clear"]).arg(&venv);
        run(make);
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--disable-pip-version-check"])
            .arg(root().join("python"))
            .env("CARGO", env!("CARGO"))
            .env("CARGO_TARGET_DIR", target());
        run(pip);
        fs::write(stamp, now).expect("the target folder can be written");
        venv
    });
    venv.join("bin/python")
}

/// Holds other test threads and processes off until it is dropped.
pub fn lock(name: &str) -> Flock<File> {
    let path = scratch().join(name).with_extension("lock");
    let file = File::create(path).expect("the target folder can be written");
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, e)| e)
        .expect("flock works in the target folder")
}

fn build(what: &str, command: Command) {
    let _lock = lock(what);
    run(command);
}

fn run(mut command: Command) {
    command.current_dir(root());
    let shown = format!("{command:?}");
    let mut process = Process::spawn(command);
    let status = process.wait(BUILD_LIMIT);
    assert!(status.success(), "{shown} ended with {status}");
}

/// Paths, sizes and times of everything that goes into the Python package.
fn fingerprint(paths: &[PathBuf]) -> String {
    let mut lines = Vec::new();
    let mut left = paths.to_vec();
    while let Some(path) = left.pop() {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let made_by_python = name.starts_with('.') || name == "__pycache__" || name == "dist";
        if made_by_python {
            continue;
        }
        let about = fs::metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if about.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder can be read");
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let copied_library = path.starts_with(&paths[0]) && name.ends_with(".so");
        if copied_library {
            continue;
        }
        let time = about.modified().expect("a time").duration_since(UNIX_EPOCH);
        lines.push(format!("{} {} {:?}", path.display(), about.len(), time));
    }
    lines.sort();
    lines.join("\n")
}
