//! What `make install` put somewhere for one test, and that goes with it.
//!
//! The library is built once, into `target/install`, by the Makefile that users run; a lock keeps tests from doing it
//! at the same time.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Process, artifacts};

/// The first test builds a release with link-time optimisation.
const LONG: Duration = Duration::from_secs(900);

/// An installed tree that goes with the test.
#[derive(Debug)]
pub struct Tree {
    /// The folder of the test; what DESTDIR is.
    pub destdir: PathBuf,
    /// Where it was installed for; `destdir` is put before it, unless it begins with that.
    prefix: PathBuf,
}

impl Tree {
    /// One that is put aside by DESTDIR.
    pub fn new(name: &str, prefix: &str) -> Self {
        let destdir = artifacts::scratch().join(format!("install-{name}-{}", std::process::id()));
        fs::create_dir_all(&destdir).expect("the target folder can be written");
        Self {
            destdir,
            prefix: prefix.into(),
        }
    }

    /// One that is where it was made for.
    pub fn for_its_prefix(name: &str) -> Self {
        let mut tree = Self::new(name, "");
        tree.prefix = tree.destdir.join("prefix");
        tree
    }

    /// Where the files of the prefix are now.
    pub fn installed(&self) -> PathBuf {
        match self.prefix.strip_prefix(&self.destdir) {
            Ok(_) => self.prefix.clone(),
            Err(_) => self
                .destdir
                .join(self.prefix.strip_prefix("/").expect("it is absolute")),
        }
    }

    /// Runs `make` for a goal with these settings beside PREFIX and DESTDIR.
    #[track_caller]
    pub fn make(&self, goal: &str, settings: &[&str]) {
        let _one_builds = artifacts::lock("install");
        let mut make = Command::new("make");
        make.arg("-C").arg(artifacts::root()).arg(goal);
        make.arg(format!("PREFIX={}", self.prefix.display()))
            .args(settings);
        if self.installed() != self.prefix {
            make.arg(format!("DESTDIR={}", self.destdir.display()));
        }
        make.env("CARGO", env!("CARGO"))
            .env("CARGO_TARGET_DIR", artifacts::target());
        ran(make);
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.destdir);
        }
    }
}

/// The files and links below a folder, by their paths in it; none if it is not there.
pub fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.expect("a folder can be read");
        let name = entry
            .file_name()
            .into_string()
            .expect("a name of plain letters");
        if entry.file_type().expect("it has a type").is_dir() {
            found.extend(
                files(&entry.path())
                    .into_iter()
                    .map(|file| format!("{name}/{file}")),
            );
        } else {
            found.insert(name);
        }
    }
    found
}

/// Runs a command to its good end.
#[track_caller]
pub fn ran(command: Command) -> Process {
    let shown = format!("{command:?}");
    let mut process = Process::run(command, LONG);
    let status = process.wait(LONG);
    assert!(
        status.success(),
        "{shown} ended with {status}: {}",
        process.stderr().join("\n")
    );
    process
}
