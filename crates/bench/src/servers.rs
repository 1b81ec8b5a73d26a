//! The servers that are compared, and how each is built: one row of the table each.
//!
//! Everything is built into the target folder, by the tools a user would take (cargo, make, cc, venv
//! and pip), with their output in a log. The rule: a row that can't be built is skipped, and the
//! error says in one line what is missing; no row is an error of the benchmark.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// A server that takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Row {
    /// The hand-written epoll loop in C
    Floor,
    /// libuv in C
    Libuv,
    /// echoloop by hooks in Rust: echoloop serve
    Rust,
    /// The same with an idle timeout, which moves with each message; beside it where that counts
    RustIdle,
    /// echoloop by hooks in C
    CHooks,
    /// echoloop by batches in C
    CBatch,
    /// echoloop in Python
    Python,
    /// asyncio of Python
    Asyncio,
    /// uvloop of Python
    Uvloop,
}

impl Row {
    pub(crate) const ALL: [Row; 9] = [
        Row::Floor,
        Row::Libuv,
        Row::Rust,
        Row::RustIdle,
        Row::CHooks,
        Row::CBatch,
        Row::Python,
        Row::Asyncio,
        Row::Uvloop,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Row::Floor => "floor",
            Row::Libuv => "libuv",
            Row::Rust => "rust",
            Row::RustIdle => "rust-idle",
            Row::CHooks => "c-hooks",
            Row::CBatch => "c-batch",
            Row::Python => "python",
            Row::Asyncio => "asyncio",
            Row::Uvloop => "uvloop",
        }
    }
}

/// A server that is built and can be started.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) row: Row,
    pub(crate) argv: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Where its standard error goes.
    pub(crate) log: PathBuf,
}

/// Where things are built from and to.
#[derive(Debug)]
pub(crate) struct Kit {
    root: PathBuf,
    target: PathBuf,
    /// The folder `bench` in the target folder: all that this program makes.
    pub(crate) out: PathBuf,
}

impl Kit {
    /// The checkout that cargo runs this program from, or that it was built from, unless one is named.
    pub(crate) fn new(root: Option<PathBuf>) -> Result<Kit> {
        let root = root.unwrap_or_else(|| {
            let package = std::env::var_os("CARGO_MANIFEST_DIR");
            let package = package.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
            Path::new(&package).join("../..")
        });
        let root = fs::canonicalize(&root)
            .with_context(|| format!("no checkout at {}", root.display()))?;
        // Cargo's layout: TARGET/PROFILE/echoloop-bench.
        let program = std::env::current_exe().context("where this program is")?;
        let target = program.ancestors().nth(2).map(Path::to_owned);
        let target = target.unwrap_or_else(|| root.join("target"));
        let out = target.join("bench");
        fs::create_dir_all(&out).with_context(|| format!("can't make {}", out.display()))?;
        Ok(Kit { root, target, out })
    }

    /// Builds a row.
    pub(crate) fn build(&self, row: Row) -> Result<Program> {
        let release = self.target.join("release");
        let mut environment = Vec::new();
        let listen = ["--listen".into(), "127.0.0.1:0".into()];
        let argv: Vec<OsString> = match row {
            Row::Floor => vec![self.compile("floor.c", &[])?.into()],
            Row::Libuv => {
                let flags = Command::new("pkg-config")
                    .args(["--cflags", "--libs", "libuv"])
                    .output()
                    .context("no pkg-config to find libuv with")?;
                ensure!(
                    flags.status.success(),
                    "libuv's header is not here (libuv1-dev)"
                );
                let flags = String::from_utf8_lossy(&flags.stdout).into_owned();
                vec![
                    self.compile("uv.c", &flags.split_whitespace().collect::<Vec<_>>())?
                        .into(),
                ]
            }
            Row::Rust | Row::RustIdle => {
                self.cargo(row, "crates/cli", "echoloop-cli")?;
                let mut argv = vec![release.join("echoloop").into(), "serve".into()];
                argv.extend(listen);
                // Longer than the others' bursts: nobody is closed for its silence.
                argv.extend((row == Row::RustIdle).then(|| "--idle-timeout=10".into()));
                argv
            }
            Row::CHooks | Row::CBatch => {
                let example = match row {
                    Row::CHooks => "echo_hooks",
                    _ => "echo_batch",
                };
                let example = self.example(row, example)?;
                environment = example.environment;
                [example.argv, vec!["127.0.0.1:0".into()]].concat()
            }
            Row::Python => {
                self.need("python/pyproject.toml")?;
                let venv = self.out.join("venv");
                let python = venv.join("bin/python");
                if !python.exists() {
                    let mut make = Command::new(python3()?);
                    make.args(["-m", "venv"]).arg(&venv);
                    self.run(row, make)?;
                }
                let mut pip = Command::new(&python);
                pip.args(["-m", "pip", "install", "--quiet", "--no-deps"]);
                pip.args(["--disable-pip-version-check", "--force-reinstall"]);
                pip.arg(self.root.join("python"));
                self.run(row, pip)?;
                let mut argv = vec![
                    python.into(),
                    "-m".into(),
                    "echoloop".into(),
                    "serve".into(),
                ];
                argv.extend(listen);
                argv
            }
            Row::Asyncio => vec![python3()?, self.peer("asyncio_echo.py").into()],
            Row::Uvloop => {
                let python = python3()?;
                let found = Command::new(&python)
                    .args(["-c", "import uvloop"])
                    .stderr(Stdio::null())
                    .status()?;
                ensure!(found.success(), "this python3 has no uvloop");
                vec![
                    python,
                    self.peer("asyncio_echo.py").into(),
                    "--uvloop".into(),
                ]
            }
        };
        Ok(Program {
            row,
            argv,
            environment,
            log: self.out.join(format!("{}.log", row.name())),
        })
    }

    /// Builds a program of examples-c, without arguments.
    pub(crate) fn example(&self, row: Row, name: &str) -> Result<Program> {
        self.need("examples-c/Makefile")?;
        self.cargo(row, "crates/capi", "echoloop-capi")?;
        let release = self.target.join("release");
        let folder = self.out.join("examples-c");
        let program = folder.join(name);
        let mut make = Command::new("make");
        make.arg("-C").arg(self.root.join("examples-c"));
        make.arg(variable("BUILD=", &folder));
        make.arg(variable("LIBDIR=", &release));
        make.arg(&program);
        self.run(row, make)?;
        Ok(Program {
            row,
            argv: vec![program.into()],
            environment: vec![("LD_LIBRARY_PATH".into(), release.into())],
            log: self.out.join(format!("{name}.log")),
        })
    }

    fn peer(&self, name: &str) -> PathBuf {
        self.root.join("crates/bench/peers").join(name)
    }

    fn need(&self, path: &str) -> Result<()> {
        ensure!(self.root.join(path).exists(), "{path} is not there");
        Ok(())
    }

    fn compile(&self, source: &str, flags: &[&str]) -> Result<PathBuf> {
        let program = self.out.join(source.trim_end_matches(".c"));
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-g", "-o"]).arg(&program);
        cc.arg(self.peer(source)).args(flags);
        self.run(Row::Floor, cc)?;
        Ok(program)
    }

    fn cargo(&self, row: Row, folder: &str, package: &str) -> Result<()> {
        self.need(&format!("{folder}/Cargo.toml"))?;
        // Cargo says in CARGO which cargo runs this program.
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.args(["build", "--release", "-p", package]);
        self.run(row, cargo)
    }

    /// Runs a tool in the checkout, its output in the log of the row's build.
    fn run(&self, row: Row, mut command: Command) -> Result<()> {
        let name = Path::new(command.get_program()).display().to_string();
        let log = self.out.join(format!("{}-build.log", row.name()));
        let output = command
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("can't run {name}"))?;
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        fs::write(&log, &said).with_context(|| format!("can't write {}", log.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&said);
            // What compilers say first is the cause; what Python says last is.
            let exception = said.lines().rfind(|line| line.contains("Error: "));
            let error = said.lines().find(|line| line.contains("error"));
            let line = exception.or(error).or(said.lines().last());
            let line = line.unwrap_or("no word").trim();
            bail!("{name} failed: {} (all of it in {})", line, log.display());
        }
        Ok(())
    }
}

fn variable(name: &str, value: &Path) -> OsString {
    let mut word = OsString::from(name);
    word.push(value);
    word
}

/// The interpreter itself: `python3` may be a script that chooses one, and valgrind follows no scripts.
fn python3() -> Result<OsString> {
    let output = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .context("no python3")?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(
        output.status.success() && !path.is_empty(),
        "python3 does not run"
    );
    Ok(path.into())
}
