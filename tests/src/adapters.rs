//! The test programs of the adapters (`tests/adapters/*.c`): how they are built and run.
//!
//! Each is compiled against the library that it is about, found by pkg-config, with every warning an error. The
//! library's own headers count as the system's: their warnings are not ours.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::tools::{skip, tool};
use crate::{Process, artifacts};

/// How long a scenario may take, on a machine with other work, under valgrind too.
pub const LIMIT: Duration = Duration::from_secs(60);

/// One adapter, and the test program of the same name.
#[derive(Debug)]
pub struct Adapter {
    name: &'static str,
    package: &'static str,
    program: OnceLock<Option<PathBuf>>,
}

impl Adapter {
    /// `include/echoloop/adapters/NAME.h`, for the library that pkg-config calls `package`.
    pub const fn new(name: &'static str, package: &'static str) -> Self {
        Self {
            name,
            package,
            program: OnceLock::new(),
        }
    }

    /// The command of a scenario; `None` after a line that says why it can't be.
    #[track_caller]
    pub fn command(&self, scenario: &str, arguments: &[&str]) -> Option<Command> {
        let program = self.program.get_or_init(|| self.compile()).as_ref()?;
        let mut command = Command::new(program);
        command.arg(scenario).args(arguments);
        Some(command)
    }

    /// Plays a scenario to its good end, and returns what it printed.
    #[track_caller]
    pub fn plays(&self, scenario: &str, arguments: &[&str]) -> Option<Vec<String>> {
        self.command(scenario, arguments).map(succeeds)
    }

    /// The same under valgrind, which must have nothing to say.
    #[track_caller]
    pub fn plays_under_valgrind(&self, scenario: &str, arguments: &[&str]) {
        if let Some(command) = self.command(scenario, arguments)
            && let Some(watched) = under_valgrind(&command)
        {
            succeeds(watched);
        }
    }

    /// Its example in `examples-c`, under valgrind where that is; `None` if the library is not installed.
    #[track_caller]
    pub fn example(&self, name: &str, arguments: &[&str]) -> Option<Command> {
        package_flags(&[self.package])?;
        let mut command = Command::new(artifacts::c_program(name));
        command.args(arguments);
        under_valgrind(&command)
    }

    fn compile(&self) -> Option<PathBuf> {
        let flags = package_flags(&[self.package])?;
        let name = format!("adapter-{}", self.name);
        let (folder, library) = (artifacts::scratch(), artifacts::release());
        let program = folder.join(&name);
        let new = folder.join(format!("{name}-{}", std::process::id()));
        let mut cc = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
        cc.args(["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-g", "-O1"])
            .args(STRICT)
            .arg("-Wstrict-prototypes")
            .arg("-I")
            .arg(artifacts::root().join("include"))
            .arg(artifacts::root().join(format!("tests/adapters/{}.c", self.name)))
            .arg("-o")
            .arg(&new)
            .args(flags)
            .arg("-L")
            .arg(&library)
            .arg("-lecholoop")
            .arg(format!("-Wl,-rpath,{}", library.display()));
        succeeds(cc);
        // In one step: another test process may be running the old one.
        fs::rename(new, &program).expect("the target folder can be written");
        Some(program)
    }
}

/// Every warning that the adapters are free of, in C and in C++.
pub const STRICT: [&str; 5] = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"];

/// The compiler's and linker's flags for packages that pkg-config knows; `None` after a line that names what is missing.
#[track_caller]
pub fn package_flags(packages: &[&str]) -> Option<Vec<String>> {
    let mut ask = Command::new(tool("pkg-config")?);
    ask.args(["--cflags", "--libs"]).args(packages);
    let mut asked = Process::run(ask, LIMIT);
    if !asked.wait(LIMIT).success() {
        skip(&format!("pkg-config does not know all of {packages:?}"));
        return None;
    }
    let flags = asked.stdout().join(" ");
    let flags = flags.split_ascii_whitespace();
    Some(
        flags
            .map(|flag| flag.replacen("-I", "-isystem", 1))
            .collect(),
    )
}

/// Checks that a compiler takes a source without a warning.
#[track_caller]
pub fn is_clean(compiler: &Path, flags: &[&str], packages: &[String], source: &Path) {
    let mut command = Command::new(compiler);
    command
        .args(flags)
        .args(STRICT)
        .arg("-fsyntax-only")
        .arg("-I")
        .arg(artifacts::root().join("include"))
        .args(packages.iter().filter(|flag| !flag.starts_with("-l")))
        .arg(source);
    succeeds(command);
}

/// The same command, watched: exit code 99 for an error or a leak.
#[track_caller]
fn under_valgrind(command: &Command) -> Option<Command> {
    let mut watched = Command::new(tool("valgrind")?);
    watched
        .args(["--quiet", "--error-exitcode=99", "--leak-check=full"])
        .arg("--errors-for-leak-kinds=definite,indirect")
        .arg("--show-leak-kinds=definite,indirect")
        .arg(command.get_program())
        .args(command.get_args());
    Some(watched)
}

/// Runs a command to its good end, and returns what it printed.
#[track_caller]
pub fn succeeds(command: Command) -> Vec<String> {
    let shown = format!("{command:?}");
    let mut process = Process::run(command, LIMIT);
    let status = process.wait(LIMIT);
    let said = process.stderr().join("\n");
    assert!(status.success(), "{shown} ended with {status}\n{said}");
    process.stdout()
}
