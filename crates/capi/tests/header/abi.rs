//! The ABI as git has it: the exported symbols, and the types of all functions as libabigail reads them.
//!
//! `abi/symbols.txt` and `abi/echoloop.abi` grow with ECHOLOOP_UPDATE_HEADER=1 when functions are added. What else
//! differs (a function gone or changed, a struct that grew) fails with abidiff's report, also then; who means it sets
//! ECHOLOOP_UPDATE_ABI=1 instead. The dump is of a library in C that has every function of the header, and no body:
//! reading the types out of a Rust library takes all of its debug information (abidw(1), abidiff(1)).

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::util::{crate_dir, library_dir, run, scratch, tool};
use crate::{generated, prototypes, updating};

#[test]
fn only_echoloop_symbols_are_exported_and_all_are_in_the_header() {
    let names = exported();
    let foreign: Vec<&String> = names
        .iter()
        .filter(|name| !name.starts_with("echoloop_"))
        .collect();
    assert!(foreign.is_empty(), "exported besides: {foreign:?}");
    let declared: BTreeSet<String> = prototypes(generated())
        .iter()
        .map(|p| p.0.to_owned())
        .collect();
    assert_eq!(names, declared, "exported, and in the header");
    assert!(names.len() > 40, "{names:?}");
}

#[test]
fn no_exported_symbol_is_missing_or_unrecorded() {
    let path = crate_dir().join("abi/symbols.txt");
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    let recorded: BTreeSet<String> = recorded.lines().map(str::to_owned).collect();
    let now = exported();
    let gone: Vec<&String> = recorded.difference(&now).collect();
    assert!(
        gone.is_empty() || accepting(),
        "no longer exported: {gone:?}; every program that calls one breaks. \
         If that is meant: ECHOLOOP_UPDATE_ABI=1"
    );
    if updating() {
        let lines: String = now.iter().map(|name| format!("{name}\n")).collect();
        return fs::write(&path, lines).unwrap();
    }
    let new: Vec<&String> = now.difference(&recorded).collect();
    assert!(
        new.is_empty(),
        "not in abi/symbols.txt: {new:?}; run this test with ECHOLOOP_UPDATE_HEADER=1"
    );
}

#[test]
fn no_function_or_type_is_other_than_programs_were_compiled_for() {
    let (Some(abidw), Some(abidiff)) = (tool("abidw"), tool("abidiff")) else {
        return;
    };
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return; // The dump is of there.
    }
    let folder = scratch("abi");
    let now = folder.join("now.abi");
    fs::write(&now, dump(&abidw, generated(), &folder.join("now"))).unwrap();
    let recorded = crate_dir().join("abi/echoloop.abi");

    let mut compare = Command::new(&abidiff);
    compare.arg("--no-added-syms").args([&recorded, &now]);
    let outcome = compare.output().unwrap();
    let report = String::from_utf8_lossy(&outcome.stdout);
    assert!(
        outcome.status.success() || accepting(),
        "programs that were compiled before may break:\n{report}{}\n\
         If that is meant: ECHOLOOP_UPDATE_ABI=1",
        String::from_utf8_lossy(&outcome.stderr)
    );
    let mut compare = Command::new(abidiff);
    let same = compare.args([&recorded, &now]).output().unwrap();
    if same.status.success() {
        return;
    }
    assert!(
        updating(),
        "abi/echoloop.abi is out of date; run this test with ECHOLOOP_UPDATE_HEADER=1:\n{}",
        String::from_utf8_lossy(&same.stdout)
    );
    fs::copy(&now, recorded).unwrap();
}

/// The comparison itself: each of these would break programs.
#[test]
fn a_change_that_breaks_programs_is_seen() {
    let (Some(abidw), Some(abidiff)) = (tool("abidw"), tool("abidiff")) else {
        return;
    };
    let folder = scratch("abi-broken");
    let (before, after) = (folder.join("before.abi"), folder.join("after.abi"));
    fs::write(&before, dump(&abidw, SMALL, &folder.join("before"))).unwrap();
    let differs = |from: &str, to: &str| {
        assert_eq!(SMALL.matches(from).count(), 1, "{from}");
        let header = SMALL.replace(from, to);
        fs::write(&after, dump(&abidw, &header, &folder.join("after"))).unwrap();
        let mut compare = Command::new(&abidiff);
        compare.arg("--no-added-syms").args([&before, &after]);
        !compare.output().unwrap().status.success()
    };
    for (what, from, to) in [
        (
            "a function that is gone",
            "int echoloop_stop(struct echoloop *loop);",
            "",
        ),
        (
            "one argument more",
            "stop(struct echoloop *loop",
            "stop(struct echoloop *loop, int how",
        ),
        ("another argument", "int64_t delay", "int32_t delay"),
        (
            "another result",
            "int64_t echoloop_now",
            "double echoloop_now",
        ),
        (
            "a struct that grew",
            "uint64_t closed;",
            "uint64_t closed; uint64_t more;",
        ),
        (
            "a member of another size",
            "uint64_t closed;",
            "uint32_t closed;",
        ),
        (
            "members that changed places",
            "uint64_t closed; void *user;",
            "void *user; uint64_t closed;",
        ),
        (
            "a callback with another argument",
            "void *word",
            "uint32_t word",
        ),
    ] {
        assert!(differs(from, to), "{what}");
    }
    let stop = "int echoloop_stop(struct echoloop *loop);";
    assert!(!differs(stop, stop), "nothing");
    let more = format!("{stop}\nint echoloop_more(struct echoloop *loop);");
    assert!(!differs(stop, &more), "a function that is new");
}

/// A header in small.
const SMALL: &str = "#include <stdint.h>
typedef struct echoloop echoloop;
struct report { uint64_t closed; void *user; };
struct hooks { void (*on_post)(void *user, void *word); };
int echoloop_stop(struct echoloop *loop);
int64_t echoloop_now(struct echoloop *loop, int64_t delay);
int echoloop_run(struct echoloop *loop,
                 const struct hooks *hooks,
                 struct report *out);
";

/// Whether a change that may break programs is meant.
pub(crate) fn accepting() -> bool {
    std::env::var_os("ECHOLOOP_UPDATE_ABI").is_some()
}

/// The symbols that the library exports.
fn exported() -> BTreeSet<String> {
    let mut nm = Command::new("nm");
    nm.args(["-D", "--defined-only", "--format=posix"])
        .arg(library_dir().join("libecholoop.so"));
    let symbols = run(nm);
    let names = symbols.lines().filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

/// What abidw says of a header, wherever it lies and whichever compiler is used.
fn dump(abidw: &Path, header: &str, folder: &Path) -> String {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("echoloop.h"), header).unwrap();
    let mut probe = String::from("#include \"echoloop.h\"\n");
    for (_, prototype) in prototypes(header) {
        writeln!(probe, "{prototype} {{ __builtin_trap(); }}").unwrap();
    }
    fs::write(folder.join("probe.c"), probe).unwrap();
    let mut cc = Command::new("cc");
    cc.args([
        "-std=c99", "-g", "-shared", "-fPIC", "-o", "probe.so", "probe.c",
    ])
    .current_dir(folder);
    run(cc);
    let mut read = Command::new(abidw);
    read.args([
        "--no-architecture",
        "--no-corpus-path",
        "--no-comp-dir-path",
        "--no-show-locs",
        "--no-elf-needed",
        "--type-id-style",
        "hash",
    ])
    .arg(folder.join("probe.so"));
    run(read)
}
