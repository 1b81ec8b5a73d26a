//! Random calls of every exported function, tests/fuzz.c: a million in the ordinary tests, more on demand.
//!
//! `ECHOLOOP_FUZZ=10000000 cargo test -p echoloop-capi --test fuzz -- --nocapture` makes that many. Half of the seeds
//! are played by one thread alone, and those make the same calls each time; the others by three. A failure tells the
//! command that plays its seed again. With ASan and UBSan in library and program, and the proof of it:
//! `cargo test -p echoloop-capi --test fuzz -- --ignored --nocapture`.

mod calls;
mod util;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use util::{compile_c, crate_dir, header, run, scratch, tool};

/// What the C compiler is told beside warnings.
const FLAGS: [&str; 3] = ["-D_GNU_SOURCE", "-rdynamic", "-Wstrict-prototypes"];
/// Calls of one seed.
const CALLS: u64 = 50_000;

/// The program, compiled once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let include = format!("-I{}", calls_folder().display());
        let flags: Vec<&str> = FLAGS.into_iter().chain([include.as_str()]).collect();
        compile_c(&source(), &flags)
    })
}

fn source() -> PathBuf {
    crate_dir().join("tests/fuzz.c")
}

/// Where the calls of all functions are, made once.
fn calls_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| calls::Header::read().write_calls("fuzz", ""))
}

/// How many calls are asked for.
fn asked(ordinarily: u64) -> u64 {
    let asked = std::env::var("ECHOLOOP_FUZZ").ok();
    asked.map_or(ordinarily, |calls| calls.parse().unwrap())
}

/// A run of one seed.
fn play(program: &Path, before: &[&str], seed: u64, calls: u64, threads: u64) -> Output {
    let sockets = scratch(&format!("fuzz-sockets/{}-{seed}", std::process::id()));
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "300"]).args(before);
    command.arg(program);
    command.args([&seed.to_string(), &calls.to_string(), &threads.to_string()]);
    let outcome = command.arg(&sockets).output().unwrap();
    let _ = fs::remove_dir_all(sockets);
    outcome
}

/// [`play`], which has to end well; the seed and its figures.
fn survive(program: &Path, before: &[&str], seed: u64, calls: u64, threads: u64) -> String {
    let outcome = play(program, before, seed, calls, threads);
    assert!(
        outcome.status.success(),
        "{}\n{}\n{} {seed} {calls} {threads} FOLDER plays it again",
        outcome.status,
        String::from_utf8_lossy(&outcome.stderr),
        program.display(),
    );
    String::from_utf8_lossy(&outcome.stdout).into_owned()
}

/// Many seeds, two at a time.
fn survive_seeds(program: &Path, calls: u64) {
    let next = AtomicU64::new(1);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if (seed - 1) * CALLS >= calls {
                        return;
                    }
                    print!("{}", survive(program, &[], seed, CALLS, seed % 2 * 2));
                }
            });
        }
    });
}

#[test]
fn a_million_random_calls_do_no_harm() {
    survive_seeds(program(), asked(1_000_000));
}

#[test]
fn a_seed_makes_the_same_calls_each_time() {
    let once = survive(program(), &[], 7, 20_000, 0);
    assert_eq!(survive(program(), &[], 7, 20_000, 0), once);
    assert_ne!(survive(program(), &[], 8, 20_000, 0), once);
}

#[test]
fn valgrind_has_nothing_to_report_on_random_calls() {
    let Some(valgrind) = tool("valgrind") else {
        return;
    };
    let kinds = "definite,possible";
    let before = [
        valgrind.to_str().unwrap(),
        "--quiet",
        "--error-exitcode=99",
        "--leak-check=full",
        &format!("--show-leak-kinds={kinds}"),
        &format!("--errors-for-leak-kinds={kinds}"),
    ];
    survive(program(), &before, 1, 5_000, 0);
}

/// A library that forgets to compare the generation of a loop's handle (`registry::exact`).
#[test]
fn a_planted_bug_is_found() {
    let target = scratch("planted");
    let library = build_library(&target, "--cfg echoloop_planted_bug", &[]);
    let program = target.join("fuzz");
    compile(&program, "cc", &[], &library.join("debug"));
    let found = (1..=4).any(|seed| {
        let outcome = play(&program, &[], seed, CALLS, 0);
        let told = String::from_utf8_lossy(&outcome.stderr).into_owned();
        !outcome.status.success() && told.contains(&format!("seed {seed}"))
    });
    assert!(
        found,
        "a stale handle reached a living loop, and nobody saw"
    );
}

/// On demand: builds the library anew. 200,000 calls, or ECHOLOOP_FUZZ.
#[test]
#[ignore = "builds the library once more, with ASan"]
fn sanitizers_have_nothing_to_report_on_random_calls() {
    let triple = "x86_64-unknown-linux-gnu";
    let target = scratch("sanitized");
    let library = build_library(&target, "-Zsanitizer=address", &["--target", triple]);
    let library = library.join(triple).join("debug");
    let mut nm = Command::new("nm");
    nm.arg("-D").arg(library.join("libecholoop.so"));
    assert!(run(nm).contains("__asan_"), "no sanitizer in the library");
    let program = target.join("fuzz");
    let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    compile(&program, "gcc", &flags, &library);
    survive_seeds(&program, asked(200_000));
}

/// Builds the library once more, elsewhere.
fn build_library(target: &Path, rustflags: &str, arguments: &[&str]) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--lib", "--manifest-path"])
        .arg(crate_dir().join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .args(arguments)
        .env("RUSTFLAGS", rustflags)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTC_BOOTSTRAP", "1");
    run(cargo);
    target.to_path_buf()
}

fn compile(program: &Path, compiler: &str, flags: &[&str], library: &Path) {
    let mut cc = Command::new(compiler);
    cc.args(["-std=c99", "-g", "-O1", "-pthread"])
        .args(FLAGS)
        .args(flags)
        .arg("-I")
        .arg(calls_folder())
        .arg("-I")
        .arg(header().parent().unwrap())
        .arg(source())
        .arg("-o")
        .arg(program)
        .arg(library.join("libecholoop.so"))
        .arg(format!("-Wl,-rpath,{}", library.display()));
    run(cc);
}
