//! The header: current, of the same version as everything else, and all that is kept beside it in git.
//!
//! One command brings header and records up to date: `ECHOLOOP_UPDATE_HEADER=1 cargo test -p echoloop-capi --test
//! header`. The rule: what would break a program that was compiled before is not among that; `abi` and `numbers` say
//! how it is done.

#[path = "../util/mod.rs"]
mod util;

mod abi;
mod chapter;
mod dialects;
mod groups;
mod numbers;
mod reference;

use std::fs;
use std::process::Command;
use std::sync::OnceLock;

use util::{crate_dir, header, run, scratch};

/// The header as the sources have it now.
fn generated() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let config = cbindgen::Config::from_file(crate_dir().join("cbindgen.toml")).unwrap();
        let bindings = cbindgen::generate_with_config(crate_dir(), config).unwrap();
        let mut text = Vec::new();
        bindings.write(&mut text);
        groups::with_headings(&String::from_utf8(text).unwrap())
    })
}

/// Whether this run is to bring up to date what it compares.
fn updating() -> bool {
    std::env::var_os("ECHOLOOP_UPDATE_HEADER").is_some() || abi::accepting()
}

/// Names and texts of the functions that a header declares, in its order.
fn prototypes(header: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = header;
    while !rest.is_empty() {
        let line = rest.lines().next().unwrap_or_default();
        let mut used = line.len();
        let before = line.split_once('(').map_or("", |(before, _)| before);
        let name = before.rsplit([' ', '*']).next().unwrap_or_default();
        let is_code = line.starts_with(|c: char| c.is_ascii_lowercase());
        if let (true, true, Some(end)) = (is_code, name.starts_with("echoloop_"), rest.find(';')) {
            found.push((name, &rest[..end]));
            used = end + 1;
        }
        rest = rest[used..].trim_start_matches('\n');
    }
    found
}

#[test]
fn header_is_current() {
    let now = generated();
    if updating() {
        // In one step: other tests compile it meanwhile.
        let new = header().with_extension("h.new");
        fs::write(&new, now).unwrap();
        fs::rename(new, header()).unwrap();
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
fn macros_library_and_package_have_the_same_version() {
    let source = scratch("version").join("version.c");
    fs::write(
        &source,
        r#"#include "echoloop.h"
#include <stdio.h>
#if !ECHOLOOP_VERSION_AT_LEAST(0, 1, 0) || ECHOLOOP_VERSION_AT_LEAST(99, 0, 0)
#error "the version can't be compared by the preprocessor"
#endif
int main(void)
{
    printf("%d.%d.%d %s %s\n", ECHOLOOP_VERSION_MAJOR, ECHOLOOP_VERSION_MINOR,
           ECHOLOOP_VERSION_PATCH, ECHOLOOP_VERSION, echoloop_version());
    printf("%d.%d.%d\n", echoloop_version_number() / 1000000,
           echoloop_version_number() / 1000 % 1000, echoloop_version_number() % 1000);
    return echoloop_version_number() != ECHOLOOP_VERSION_NUMBER;
}
"#,
    )
    .unwrap();
    let program = util::compile_c(&source, &[]);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        run(Command::new(program)),
        format!("{version} {version} {version}\n{version}\n")
    );
}
