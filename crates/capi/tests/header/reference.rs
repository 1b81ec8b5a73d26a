//! The reference that doxygen makes: nothing in the header is without its comment, and no comment is ill-formed.

use std::fs;
use std::process::{Command, Output};

use crate::generated;
use crate::util::{crate_dir, run, scratch, tool};

#[test]
fn every_function_type_and_constant_is_documented() {
    if tool("doxygen").is_none() {
        return;
    }
    let folder = scratch("reference");
    let mut make = Command::new("make");
    make.args(["-C", "../..", "doc"])
        .arg(format!("DOC={}", folder.display()))
        .current_dir(crate_dir());
    run(make);
    let page = fs::read_to_string(folder.join("index.html")).unwrap();
    for text in [
        "WHAT IS LEGAL WHERE",
        env!("CARGO_PKG_VERSION"),
        "echoloop_new",
    ] {
        assert!(page.contains(text), "the first page has {text}");
    }
}

#[test]
fn what_has_no_comment_is_an_error() {
    if tool("doxygen").is_none() {
        return;
    }
    let good = generated();
    assert!(doxygen(good).status.success());
    let end = good.rfind("#ifdef __cplusplus").unwrap();
    for (name, code) in [
        ("echoloop_bare", "int echoloop_bare(struct echoloop *loop);"),
        ("ECHOLOOP_BARE", "#define ECHOLOOP_BARE 1"),
        (
            "echoloop_bare",
            "typedef struct echoloop_bare echoloop_bare;",
        ),
        (
            "member",
            "/** One. */\nstruct echoloop_bare { int member; };",
        ),
    ] {
        let bare = format!("{}{code}\n\n{}", &good[..end], &good[end..]);
        let outcome = doxygen(&bare);
        let said = String::from_utf8_lossy(&outcome.stderr);
        assert!(!outcome.status.success(), "{code}");
        assert!(
            said.contains(name) && said.contains("not documented"),
            "{code}: {said}"
        );
    }
}

/// An adapter shows what has a comment of two stars; whatever its first comment names is to be among that.
#[test]
fn every_function_that_an_adapter_speaks_of_is_documented() {
    let folder = crate_dir().join("../../include/echoloop/adapters");
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let own = format!("echoloop_{}_", path.file_stem().unwrap().to_str().unwrap());
        let (manual, code) = text.split_once("*/").unwrap();
        let named = manual.match_indices(&own).map(|(at, _)| &manual[at..]);
        for name in named.filter_map(|rest| rest.split_once('(').map(|(name, _)| name)) {
            if name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()) {
                let place = path.display();
                assert!(
                    has_comment(code, name),
                    "{place}: {name} has no comment of two stars"
                );
            }
        }
    }
}

/// Whether a comment of two stars ends on the line before one that declares this function.
fn has_comment(code: &str, name: &str) -> bool {
    let call = format!("{name}(");
    let mut places = code.match_indices(&call).map(|(at, _)| &code[..at]);
    places.any(|before| {
        let (lines, line) = before.rsplit_once('\n').unwrap_or_default();
        let declares = line.starts_with(|c: char| c.is_ascii_alphabetic());
        let comment = lines.rfind("/*").map_or("", |at| &lines[at..]);
        declares && lines.ends_with("*/") && comment.starts_with("/**")
    })
}

/// What doxygen says of a header, with the settings that `make doc` has.
fn doxygen(header: &str) -> Output {
    let folder = scratch("reference-bare");
    let input = folder.join("include");
    fs::create_dir_all(&input).unwrap();
    fs::write(input.join("echoloop.h"), header).unwrap();
    let settings = fs::read_to_string(crate_dir().join("Doxyfile")).unwrap();
    let settings = format!(
        "{settings}\nINPUT = {}\nGENERATE_HTML = NO\nGENERATE_XML = YES\n",
        input.display()
    );
    let file = folder.join("Doxyfile");
    fs::write(&file, settings).unwrap();
    let mut command = Command::new("doxygen");
    command
        .arg(&file)
        .env("VERSION", env!("CARGO_PKG_VERSION"))
        .env("OUT", &folder)
        .current_dir(crate_dir().join("../.."));
    command.output().unwrap()
}
