//! What is legal where: abi/legal.txt against the library, cell by cell, and against the header's manual page.
//!
//! The table names classes of functions by patterns. The rule: each exported function is in one class, each pattern
//! stands for a function, and the page is made of the table: ECHOLOOP_UPDATE_HEADER=1 rewrites its part of
//! cbindgen.toml, and the tests of the header then rewrite the header.

mod calls;
mod util;

use std::fmt::Write;
use std::fs;
use std::process::Command;

use util::{compile_c, crate_dir, run_within};

/// One line of columns, and the functions that it holds for.
struct Class {
    name: String,
    cells: Vec<String>,
    patterns: Vec<String>,
    /// What the page says of it.
    notes: Vec<String>,
}

fn table() -> (Vec<String>, Vec<Class>) {
    let text = fs::read_to_string(crate_dir().join("abi/legal.txt")).unwrap();
    let mut columns = Vec::new();
    let mut classes: Vec<Class> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(note) = line.trim_start().strip_prefix(": ") {
            classes.last_mut().unwrap().notes.push(note.to_owned());
            continue;
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let Some(first) = words.next() else { continue };
        if line.starts_with(' ') {
            classes.last_mut().unwrap().patterns.push(first);
        } else if first == "class" {
            columns = words.collect();
        } else {
            classes.push(Class {
                name: first,
                cells: words.collect(),
                patterns: Vec::new(),
                notes: Vec::new(),
            });
        }
    }
    assert!(
        classes
            .iter()
            .all(|class| class.cells.len() == columns.len())
    );
    (columns, classes)
}

/// How well a pattern fits a function; `None` if it does not.
fn fit(pattern: &str, function: &str) -> Option<usize> {
    match pattern.strip_suffix('*') {
        Some(start) => function.starts_with(start).then_some(start.len()),
        None => (pattern == function).then_some(usize::MAX),
    }
}

fn class_of<'a>(classes: &'a [Class], function: &str) -> (&'a Class, &'a str) {
    let fits = classes.iter().flat_map(|class| {
        let patterns = class.patterns.iter();
        patterns.filter_map(move |p| Some((fit(p, function)?, class, p.as_str())))
    });
    let (_, class, pattern) = fits
        .max_by_key(|fit| fit.0)
        .unwrap_or_else(|| panic!("{function} is in no class of abi/legal.txt"));
    (class, pattern)
}

#[test]
fn every_call_gets_what_the_table_says_in_every_place() {
    let header = calls::Header::read();
    let (columns, classes) = table();
    let expected = "outside callback slow log thread fork freed theirs";
    assert_eq!(columns.join(" "), expected, "the columns of legal.c");
    let mut rows = String::from("static const struct row rows[] = {\n");
    for function in &header.functions {
        let (class, _) = class_of(&classes, &function.name);
        let cells = class.cells.iter().map(|cell| match cell.as_str() {
            "yes" => "YES".to_owned(),
            "-" => "NOT_THERE".to_owned(),
            code => format!("ECHOLOOP_{code}"),
        });
        let cells = cells.collect::<Vec<_>>().join(", ");
        writeln!(rows, "    {{ \"{}\", {cells} }},", function.name).unwrap();
    }
    rows.push_str("};\n");
    let folder = header.write_calls("legal", "");
    fs::write(folder.join("legal.h"), rows).unwrap();
    let include = format!("-I{}", folder.display());
    let program = compile_c(
        &crate_dir().join("tests/legal.c"),
        &["-D_GNU_SOURCE", "-Wstrict-prototypes", &include],
    );
    println!("{}", run_within(300, Command::new(program)));
}

#[test]
fn every_class_and_pattern_stands_for_a_function() {
    let header = calls::Header::read();
    let (_, classes) = table();
    let used: Vec<&str> = header
        .functions
        .iter()
        .map(|function| class_of(&classes, &function.name).1)
        .collect();
    for class in &classes {
        for pattern in &class.patterns {
            assert!(
                used.contains(&pattern.as_str()),
                "{}: {pattern}",
                class.name
            );
        }
    }
}

/// Where the page begins and ends in cbindgen.toml.
const BEGIN: &str = " * WHAT IS LEGAL WHERE\n";
const END: &str = " */\n\"\"\"\n";

#[test]
fn the_page_says_what_the_table_says() {
    let path = crate_dir().join("cbindgen.toml");
    let text = fs::read_to_string(&path).unwrap();
    let begin = text.find(BEGIN).unwrap();
    let end = begin + text[begin..].find(END).unwrap();
    let page = page();
    assert!(page.lines().all(|line| line.len() <= 100), "{page}");
    if std::env::var_os("ECHOLOOP_UPDATE_HEADER").is_some() {
        fs::write(path, [&text[..begin], &page, &text[end..]].concat()).unwrap();
        return;
    }
    assert!(
        text[begin..end] == page,
        "the manual page is not what abi/legal.txt says; run this test, then that of the header, with \
         ECHOLOOP_UPDATE_HEADER=1"
    );
}

/// The part of the manual page.
fn page() -> String {
    let (columns, classes) = table();
    let mut page = format!("{BEGIN} *\n");
    wrap(&mut page, "", INTRODUCTION);
    let row = |first: &str, cells: &[String]| {
        let mut line = format!(" *     {first:<10}");
        for (cell, width) in cells.iter().zip([11, 11, 11, 11, 14, 11, 10]) {
            write!(line, "{cell:<width$}").unwrap();
        }
        format!("{}\n", line.trim_end())
    };
    write!(page, " *\n{}", row("", &columns)).unwrap();
    for class in &classes {
        write!(page, " *\n{}", row(&class.name, &class.cells)).unwrap();
        let names: Vec<&str> = class
            .patterns
            .iter()
            .map(|pattern| pattern.trim_start_matches("echoloop_"))
            .collect();
        wrap(&mut page, "        ", &names.join(", "));
        wrap(&mut page, "          ", &class.notes.join(" "));
    }
    page
}

/// Adds a paragraph, indented.
fn wrap(page: &mut String, indent: &str, text: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if indent.len() + line.len() + word.len() > 94 {
            writeln!(page, " * {indent}{}", line.trim_end()).unwrap();
            line.clear();
        }
        write!(line, "{word} ").unwrap();
    }
    if !line.is_empty() {
        writeln!(page, " * {indent}{}", line.trim_end()).unwrap();
    }
}

const INTRODUCTION: &str = "
By classes of functions, whose names are without echoloop_ here; x_* are all whose names begin so and
that stand nowhere else. Codes are without ECHOLOOP_. The places: outside of callbacks, on the loop's
thread; in a callback of the same loop, one that echoloop_dispatch() calls among them; in the callback
for slow handlers; in that for the log, in the middle of a call on the loop; on another thread, such as
a resolver's; in the child of a fork(2), before echoloop_after_fork(); after the free of the loop, or of
the workers. After its own end every handle gets EBADHANDLE.
";
