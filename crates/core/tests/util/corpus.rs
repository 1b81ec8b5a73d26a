//! The inputs that fuzzing has found worth keeping, for tests that run them again.

use std::fs;
use std::path::{Path, PathBuf};

/// Calls `run` with the contents of a file, or of each file of a folder in the order of their
/// names. The name of one that makes it panic is printed. Returns how many there were.
pub(crate) fn each_input(place: impl AsRef<Path>, run: impl Fn(&[u8])) -> usize {
    let place = place.as_ref();
    let mut inputs: Vec<PathBuf> = match fs::read_dir(place) {
        Ok(files) => files.map(|f| f.unwrap().path()).collect(),
        Err(_) => vec![place.to_owned()],
    };
    inputs.sort();
    for input in &inputs {
        let bytes = fs::read(input).unwrap_or_else(|e| panic!("{}: {e}", input.display()));
        let _told = Told(input);
        run(&bytes);
    }
    inputs.len()
}

struct Told<'a>(&'a Path);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with the input {}", self.0.display());
        }
    }
}
