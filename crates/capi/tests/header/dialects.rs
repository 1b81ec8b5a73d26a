//! What programs include, and the programs that come with it, in every dialect that programs are written in.
//!
//! The rule: not one warning, from either compiler. The header and the adapters are read as C and as C++, the examples
//! as C. Headers of the libraries that adapters are for are the system's, whose warnings are not ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::generated;
use crate::util::{crate_dir, run, scratch, skip, tool};

const WARNINGS: [&str; 5] = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"];

/// What pkg-config calls the library that an adapter is for.
const LIBRARIES: [(&str, &str); 4] = [
    ("glib", "glib-2.0"),
    ("hiredis", "hiredis"),
    ("libcurl", "libcurl"),
    ("libpq", "libpq"),
];

#[test]
fn gcc_reads_headers_and_examples_as_c99_c11_and_c17() {
    reads_c("gcc");
}

#[test]
fn clang_reads_headers_and_examples_as_c99_c11_and_c17() {
    reads_c("clang");
}

#[test]
fn gcc_reads_headers_as_cpp11_cpp17_and_cpp20() {
    reads_cpp("g++");
}

#[test]
fn clang_reads_headers_as_cpp11_cpp17_and_cpp20() {
    reads_cpp("clang++");
}

#[track_caller]
fn reads_c(compiler: &str) {
    let Some(compiler) = tool(compiler) else {
        return;
    };
    let mut sources = headers(&format!("{}-c", compiler.display()));
    sources.extend(files("examples-c", "c"));
    for standard in ["c99", "c11", "c17"] {
        let mut cc = Command::new(&compiler);
        // What the examples' Makefile defines: they use POSIX beside the language.
        cc.args([
            "-x",
            "c",
            "-Wstrict-prototypes",
            "-D_POSIX_C_SOURCE=200809L",
        ]);
        reads(cc, standard, &sources);
    }
}

#[track_caller]
fn reads_cpp(compiler: &str) {
    let Some(compiler) = tool(compiler) else {
        return;
    };
    let sources = headers(&format!("{}-cpp", compiler.display()));
    for standard in ["c++11", "c++17", "c++20"] {
        let mut cc = Command::new(&compiler);
        cc.args(["-x", "c++"]);
        reads(cc, standard, &sources);
    }
}

#[track_caller]
fn reads(mut compiler: Command, standard: &str, sources: &[PathBuf]) {
    compiler
        .arg(format!("-std={standard}"))
        .args(WARNINGS)
        .arg("-fsyntax-only")
        .arg("-I")
        .arg(crate_dir().join("../../include"));
    let mut sources = sources.to_vec();
    for (name, library) in LIBRARIES {
        let concerns = |path: &PathBuf| {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            stem.is_some_and(|stem| stem == name || stem.starts_with(&format!("{name}_")))
        };
        if !sources.iter().any(concerns) {
            continue;
        }
        match system_flags(library) {
            Some(flags) => drop(compiler.args(flags)),
            None => sources.retain(|path| !concerns(path)),
        }
    }
    run({
        compiler.args(sources);
        compiler
    });
}

/// Where the headers of a library are, as those of the system; `None` after a line that says it is not installed.
#[track_caller]
fn system_flags(library: &str) -> Option<Vec<String>> {
    let mut ask = Command::new(tool("pkg-config")?);
    let answer = ask.args(["--cflags", library]).output().unwrap();
    if !answer.status.success() {
        skip(&format!("{library} is not installed"));
        return None;
    }
    let flags = String::from_utf8(answer.stdout).unwrap();
    let flags = flags.split_whitespace();
    Some(flags.map(|flag| flag.replace("-I", "-isystem")).collect())
}

/// A file for each header that has only that, and one that uses each macro of echoloop.h.
fn headers(folder: &str) -> Vec<PathBuf> {
    let folder = scratch("dialects").join(folder.replace('/', ""));
    fs::create_dir_all(&folder).unwrap();
    let mut sources = vec![folder.join("every_macro.c")];
    fs::write(&sources[0], every_macro()).unwrap();
    for adapter in files("include/echoloop/adapters", "h") {
        let name = adapter.file_stem().unwrap().to_str().unwrap();
        let source = folder.join(format!("{name}.c"));
        let text = format!("#include <echoloop/adapters/{name}.h>\nint {name}_alone;\n");
        fs::write(&source, text).unwrap();
        sources.push(source);
    }
    sources
}

/// The files of a folder of the repository, which may be absent, with this extension.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(crate_dir().join("../..").join(folder));
    let entries = entries.into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path: &PathBuf| Path::new(path).extension().is_some_and(|e| e == extension))
        .collect()
}

/// A program that starts every struct that has a macro for it, and uses those of times.
fn every_macro() -> String {
    let mut text = String::from("#include \"echoloop.h\"\nint64_t every_macro(void);\n");
    text +=
        "int64_t every_macro(void)\n{\n    int64_t sum = ECHOLOOP_MS(1) + ECHOLOOP_SECONDS(1);\n";
    let macros = generated()
        .lines()
        .filter_map(|line| line.strip_prefix("#define ECHOLOOP_")?.split_once("_INIT"))
        .map(|(name, _)| name);
    let mut count = 0;
    for name in macros {
        let variable = name.to_lowercase();
        text += &format!("    echoloop_{variable} {variable} = ECHOLOOP_{name}_INIT;\n");
        text += &format!("    sum += (int64_t)sizeof {variable};\n    (void){variable};\n");
        count += 1;
    }
    assert!(count >= 8, "{text}");
    text + "    return sum;\n}\n"
}
