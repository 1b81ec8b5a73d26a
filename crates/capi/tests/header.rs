//! The header: current, clean in C and C++, and of the same version as everything else.

mod util;

use std::fs;
use std::process::Command;

use util::{crate_dir, header, run, scratch};

fn generated() -> String {
    let config = cbindgen::Config::from_file(crate_dir().join("cbindgen.toml")).unwrap();
    let bindings = cbindgen::generate_with_config(crate_dir(), config).unwrap();
    let mut text = Vec::new();
    bindings.write(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn header_is_current() {
    let now = generated();
    if std::env::var_os("ECHOLOOP_UPDATE_HEADER").is_some() {
        fs::write(header(), &now).unwrap();
    }
    let committed = fs::read_to_string(header()).unwrap_or_default();
    let differs = committed.lines().zip(now.lines()).position(|(a, b)| a != b);
    assert!(
        committed == now,
        "include/echoloop.h is not what the sources say (line {:?}); \
         run this test with ECHOLOOP_UPDATE_HEADER=1 and commit the result",
        differs.map(|line| line + 1)
    );
}

#[test]
fn header_compiles_without_a_warning_in_every_dialect() {
    let source = scratch("dialects").join("every_macro.c");
    fs::write(
        &source,
        r#"#include "echoloop.h"
typedef int event_is_48_bytes[sizeof(echoloop_event) == 48 ? 1 : -1];
static echoloop_options a = ECHOLOOP_OPTIONS_INIT;
static echoloop_listen_options b = ECHOLOOP_LISTEN_OPTIONS_INIT;
static echoloop_connect_options c = ECHOLOOP_CONNECT_OPTIONS_INIT;
static echoloop_server_options d = ECHOLOOP_SERVER_OPTIONS_INIT;
static echoloop_hooks e = ECHOLOOP_HOOKS_INIT;
static echoloop_counters f = ECHOLOOP_COUNTERS_INIT;
static echoloop_server_counters g = ECHOLOOP_SERVER_COUNTERS_INIT;
static echoloop_report h = ECHOLOOP_REPORT_INIT;
static echoloop_conn_options i = ECHOLOOP_CONN_OPTIONS_INIT;
int main(void)
{
    event_is_48_bytes *none = NULL;
    return (int)(a.size + b.size + c.size + d.size + e.size + f.size + g.size + h.size + i.size)
        + (int)(ECHOLOOP_MS(1) + ECHOLOOP_SECONDS(1)) + (none != NULL);
}
"#,
    )
    .unwrap();
    let dialects = [
        ("gcc", "c", "c99"),
        ("gcc", "c", "c2x"),
        ("clang", "c", "c99"),
        ("clang", "c", "c11"),
        ("g++", "c++", "c++17"),
        ("g++", "c++", "c++20"),
        ("clang++", "c++", "c++17"),
    ];
    let mut tried = 0;
    for (compiler, language, standard) in dialects {
        let mut cc = Command::new(compiler);
        cc.args(["-x", language, &format!("-std={standard}")])
            .args([
                "-Wall",
                "-Wextra",
                "-Wpedantic",
                "-Werror",
                "-fsyntax-only",
                "-I",
            ])
            .arg(header().parent().unwrap())
            .arg(&source);
        match cc.output() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            outcome => {
                let outcome = outcome.unwrap();
                let errors = String::from_utf8_lossy(&outcome.stderr);
                assert!(
                    outcome.status.success(),
                    "{compiler} -std={standard}:\n{errors}"
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 0, "no compiler found");
}

#[test]
fn macros_library_and_package_have_the_same_version() {
    let source = scratch("version").join("version.c");
    fs::write(
        &source,
        r#"#include "echoloop.h"
#include <stdio.h>
int main(void)
{
    printf("%d.%d.%d %s %s\n", ECHOLOOP_VERSION_MAJOR, ECHOLOOP_VERSION_MINOR,
           ECHOLOOP_VERSION_PATCH, ECHOLOOP_VERSION, echoloop_version());
    return 0;
}
"#,
    )
    .unwrap();
    let program = util::compile_c(&source, &[]);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        run(Command::new(program)),
        format!("{version} {version} {version}\n")
    );
}

#[test]
fn only_echoloop_symbols_are_exported() {
    let mut nm = Command::new("nm");
    nm.args(["-D", "--defined-only", "--format=posix"])
        .arg(util::library_dir().join("libecholoop.so"));
    let symbols = run(nm);
    let names: Vec<&str> = symbols
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let foreign: Vec<&&str> = names
        .iter()
        .filter(|name| !name.starts_with("echoloop_"))
        .collect();
    assert!(foreign.is_empty(), "exported besides: {foreign:?}");
    let header = fs::read_to_string(header()).unwrap();
    for name in &names {
        assert!(
            header.contains(&format!("{name}(")),
            "{name} is exported but not in the header"
        );
    }
    assert!(names.len() > 40, "{names:?}");
}
