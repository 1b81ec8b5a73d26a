//! The programs of README.md, taken out of it, built as it says and run. (The Rust one is compiled as a doc test of
//! echoloop-server.)

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use echoloop_tests::patience::PATIENCE;
use echoloop_tests::{Client, Process, artifacts};

/// The code between the fences of the first block in this language.
fn block(language: &str) -> String {
    let readme =
        fs::read_to_string(artifacts::root().join("README.md")).expect("README.md is there");
    let fence = format!("```{language}\n");
    let (_, code) = readme
        .split_once(&fence)
        .expect("README.md has such a block");
    let (code, _) = code.split_once("\n```").expect("the block ends");
    code.to_owned() + "\n"
}

/// Runs a server that takes its address as an argument, and talks to it.
fn echoes(mut program: Command) {
    program.arg("127.0.0.1:0");
    let server = Process::spawn(program);
    let line = server.says("listening on ", PATIENCE);
    let address = line.rsplit(' ').next().expect("an address");
    let client = Client::connect(address.parse().expect("an address"));
    client.echo(b"hello");
}

#[test]
fn the_c_program_builds_with_the_line_below_it_and_echoes() {
    let folder = artifacts::scratch().join("readme");
    fs::create_dir_all(&folder).expect("the target folder can be written");
    let (source, program) = (folder.join("echo.c"), folder.join("echo"));
    fs::write(&source, block("c")).expect("the target folder can be written");
    let library = artifacts::release();
    let mut cc = Command::new("cc");
    cc.args([
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Werror",
        "-I",
    ])
    .arg(artifacts::root().join("include"))
    .arg(&source)
    .arg("-o")
    .arg(&program)
    .arg(format!("-L{}", library.display()))
    .arg("-lecholoop")
    .arg(format!("-Wl,-rpath,{}", library.display()));
    let mut built = Process::spawn(cc);
    assert!(built.wait(Duration::from_secs(60)).success());
    echoes(Command::new(program));
}

#[test]
fn the_python_program_runs_after_pip_install_and_echoes() {
    let source = artifacts::scratch().join("readme_echo.py");
    fs::write(&source, block("python")).expect("the target folder can be written");
    let mut python = Command::new(artifacts::python());
    python.arg(&source);
    echoes(python);
}

#[test]
fn every_file_that_the_readme_and_the_map_point_to_is_there() {
    for page in ["README.md", "ARCHITECTURE.md", "python/README.md"] {
        let page = artifacts::root().join(page);
        let text = fs::read_to_string(&page).expect("the page is there");
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        let local = links.filter(|link| !link.starts_with("http") && !link.starts_with('#'));
        for link in local {
            let target = page.parent().unwrap_or(Path::new("")).join(link);
            assert!(target.exists(), "{} points to {link}", page.display());
        }
    }
}
