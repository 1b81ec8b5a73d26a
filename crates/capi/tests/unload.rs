//! Runs tests/unload.c: a program that lets the shared library go.

mod util;

use std::process::Command;

use util::{compile_c, crate_dir, library_dir, run_within};

#[test]
fn nothing_falls_when_the_library_is_closed() {
    let source = crate_dir().join("tests/unload.c");
    // It links to the library too, by `compile_c`; a name that is used by nothing does not load it.
    let program = compile_c(&source, &["-D_DEFAULT_SOURCE", "-Wl,--as-needed", "-ldl"]);
    let mut command = Command::new(program);
    command.arg(library_dir().join("libecholoop.so"));
    assert_eq!(run_within(60, command), "all is well\n");
}
