//! `make install` as packagers and C programmers use it: into a folder of the test's own, and from there on without a
//! look at the repository.
//!
//! The library is built once, into `target/install`. What pkg-config is asked about is where it was installed for; what
//! CMake is asked about was put elsewhere by DESTDIR, so it proves as well that the tree can be moved.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use echoloop_tests::artifacts;
use echoloop_tests::installed::{Tree, files, ran};
use echoloop_tests::tools::tool;

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn all_is_installed_under_destdir_and_uninstall_removes_it_and_nothing_else() {
    let tree = Tree::new("files", "/opt/echoloop");
    // Elsewhere than usual, as Debian's packages have it.
    let settings = [
        "LIBDIR=/opt/echoloop/lib/x86_64-linux-gnu",
        "MANDIR=/opt/man",
    ];
    tree.make("install", &settings);

    let lib = "opt/echoloop/lib/x86_64-linux-gnu";
    let mut expected = BTreeSet::from([
        format!("{lib}/libecholoop.so.{VERSION}"),
        format!("{lib}/libecholoop.so.0"),
        format!("{lib}/libecholoop.so"),
        format!("{lib}/libecholoop.a"),
        format!("{lib}/pkgconfig/echoloop.pc"),
        format!("{lib}/cmake/echoloop/echoloopConfig.cmake"),
        format!("{lib}/cmake/echoloop/echoloopConfigVersion.cmake"),
        "opt/echoloop/include/echoloop.h".into(),
        "opt/man/man3/echoloop.3".into(),
    ]);
    for adapter in files(&artifacts::root().join("include/echoloop")) {
        expected.insert(format!("opt/echoloop/include/echoloop/{adapter}"));
    }
    assert_eq!(files(&tree.destdir), expected);
    for (link, file) in [(".0", VERSION), ("", "0")] {
        let link = tree.destdir.join(format!("{lib}/libecholoop.so{link}"));
        let target = fs::read_link(link).expect("a link");
        assert_eq!(target, Path::new(&format!("libecholoop.so.{file}")));
    }

    let foreign = tree
        .destdir
        .join("opt/echoloop/include/echoloop/adapters/foreign.h");
    fs::create_dir_all(foreign.parent().expect("in a folder")).expect("it can be made");
    fs::write(&foreign, "").expect("it can be written");
    tree.make("uninstall", &settings);
    let left = BTreeSet::from(["opt/echoloop/include/echoloop/adapters/foreign.h".to_owned()]);
    assert_eq!(files(&tree.destdir), left);

    fs::remove_file(&foreign).expect("written above");
    tree.make("uninstall", &settings);
    assert_eq!(files(&tree.destdir), BTreeSet::new());
    for gone in [
        &format!("{lib}/cmake/echoloop"),
        "opt/echoloop/include/echoloop",
    ] {
        assert!(!tree.destdir.join(gone).exists(), "{gone} was left behind");
    }
}

#[test]
fn no_installed_text_knows_where_it_was_built_or_put() {
    let tree = Tree::new("texts", "/opt/echoloop");
    tree.make("install", &[]);
    let texts = files(&tree.destdir)
        .into_iter()
        .filter(|name| !name.contains("/libecholoop."));
    for name in texts {
        let text = fs::read_to_string(tree.destdir.join(&name)).expect("a text");
        for path in [artifacts::root(), &artifacts::target(), &tree.destdir] {
            let path = path.to_str().expect("a path of plain letters");
            assert!(!text.contains(path), "{name} names {path}");
        }
        // `@NAME@`, as in the templates; the manual page speaks of "unix:@name".
        let mut words = text.split('@').skip(1);
        let gap = words.find(|w| !w.is_empty() && w.chars().all(|c| c.is_ascii_uppercase()));
        assert!(gap.is_none(), "{name} has a gap: {gap:?}\n{text}");
    }
}

#[test]
fn the_shared_library_has_a_name_that_outlives_versions_and_the_recorded_symbols() {
    let tree = Tree::new("soname", "/opt/echoloop");
    tree.make("install", &[]);
    let library = tree
        .installed()
        .join("lib")
        .join(format!("libecholoop.so.{VERSION}"));
    let dynamic = says("readelf", [OsStr::new("-d"), library.as_os_str()]);
    assert!(
        dynamic.contains("Library soname: [libecholoop.so.0]"),
        "{dynamic}"
    );
    let symbols = says(
        "nm",
        ["-D", "--defined-only", "-fposix"]
            .map(OsStr::new)
            .into_iter()
            .chain([library.as_os_str()]),
    );
    let exported: Vec<&str> = symbols
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let recorded = fs::read_to_string(artifacts::root().join("crates/capi/abi/symbols.txt"));
    let recorded = recorded.expect("it is there");
    assert_eq!(exported, recorded.lines().collect::<Vec<_>>());
    // What runs from the target folder is linked against a library that has no such name, and stays so.
    let plain = artifacts::release().join("libecholoop.so");
    let dynamic = says("readelf", [OsStr::new("-d"), plain.as_os_str()]);
    assert!(!dynamic.contains("soname"), "{dynamic}");
}

#[test]
fn programs_of_gcc_build_by_pkg_config_and_run() {
    programs_build_by_pkg_config("gcc", "g++");
}

#[test]
fn programs_of_clang_build_by_pkg_config_and_run() {
    programs_build_by_pkg_config("clang", "clang++");
}

#[test]
fn programs_of_gcc_build_by_cmake_and_run() {
    programs_build_by_cmake("gcc", "g++");
}

#[test]
fn programs_of_clang_build_by_cmake_and_run() {
    programs_build_by_cmake("clang", "clang++");
}

#[test]
fn the_manual_page_is_found_has_every_function_and_no_fault_of_layout() {
    let tree = Tree::new("man", "/opt/echoloop");
    tree.make("install", &[]);
    let folder = tree.installed().join("share/man");
    let page = folder.join("man3/echoloop.3");
    let text = fs::read_to_string(&page).expect("it was installed");
    assert!(text.contains(&format!("\"echoloop {VERSION}\"")), "{text}");
    for section in [
        "NAME",
        "SYNOPSIS",
        "CONVENTIONS",
        "ERRORS",
        "THREADS",
        "FUNCTIONS",
    ] {
        assert!(
            text.contains(&format!("\n.SH {section}\n")),
            "it has {section}"
        );
    }
    let header = artifacts::root().join("include/echoloop.h");
    let header = fs::read_to_string(header).expect("it is there");
    let functions = functions(&header);
    assert!(functions.len() > 40, "{functions:?}");
    for function in functions {
        assert!(
            text.contains(&format!("\\fB{function}\\fP(")),
            "it has {function}"
        );
    }
    if tool("man").is_some() {
        let found = says(
            "man",
            [
                OsStr::new("-M"),
                folder.as_os_str(),
                "-w".as_ref(),
                "echoloop".as_ref(),
            ],
        );
        assert_eq!(Path::new(found.trim()), page);
        let mut reader = Command::new("man");
        reader
            .args(["--warnings=w", "-l"])
            .arg(&page)
            .env("LC_ALL", "C.UTF-8");
        let reader = ran(reader);
        assert_eq!(reader.stderr(), [""; 0]);
        let shown = reader.stdout().join("\n");
        assert!(
            shown.contains("echoloop - one non-blocking event loop"),
            "{shown}"
        );
    }
}

#[test]
fn the_package_of_python_has_the_version_of_the_library() {
    let project = fs::read_to_string(artifacts::root().join("python/pyproject.toml"));
    let line = format!("\nversion = \"{VERSION}\"\n");
    assert!(project.expect("it is there").contains(&line));
}

/// Shared, from the static library, and with nothing shared at all, in both languages.
#[track_caller]
fn programs_build_by_pkg_config(c: &str, cpp: &str) {
    let tools = [tool(c), tool(cpp), tool("pkg-config")];
    let [Some(_), Some(_), Some(pkg_config)] = tools else {
        return;
    };
    let tree = Tree::for_its_prefix(&format!("pkg-config-{c}"));
    tree.make("install", &[]);
    let lib = tree.installed().join("lib");
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(&pkg_config);
        command
            .args(arguments)
            .arg("echoloop")
            .env("PKG_CONFIG_PATH", lib.join("pkgconfig"));
        ran(command).stdout().join(" ")
    };
    assert_eq!(ask(&["--modversion"]), VERSION);

    let shared = ask(&["--cflags", "--libs"]) + &format!(" -Wl,-rpath,{}", lib.display());
    let whole = ask(&["--cflags", "--libs", "--static"]);
    let archive = whole.replace("-lecholoop", "-l:libecholoop.a");
    let languages = [(c, "c", "-std=c99"), (cpp, "c++", "-std=c++11")];
    for (compiler, language, standard) in languages {
        for (kind, flags) in [
            ("shared", &shared),
            ("archive", &archive),
            ("static", &whole),
        ] {
            let program = tree.destdir.join(format!("{language}-{kind}"));
            let mut command = Command::new(compiler);
            command
                .args([
                    "-Wall",
                    "-Wextra",
                    "-Wpedantic",
                    "-Werror",
                    standard,
                    "-x",
                    language,
                ])
                .arg(consumer("consumer.c"))
                .args(["-x", "none", "-o"])
                .arg(&program)
                .args((kind == "static").then_some("-static"))
                .args(flags.split_whitespace());
            ran(command);
            runs(&program, kind == "shared");
        }
    }
}

#[track_caller]
fn programs_build_by_cmake(c: &str, cpp: &str) {
    let tools = [tool(c), tool(cpp), tool("cmake")];
    let [Some(_), Some(_), Some(cmake)] = tools else {
        return;
    };
    let tree = Tree::new(&format!("cmake-{c}"), "/opt/echoloop");
    tree.make("install", &[]);
    let build = tree.destdir.join("build");
    let series = VERSION.rsplit_once('.').expect("three parts").0;
    let mut configure = Command::new(&cmake);
    configure
        .arg("-S")
        .arg(consumer(""))
        .arg("-B")
        .arg(&build)
        .arg(format!(
            "-DCMAKE_PREFIX_PATH={}",
            tree.installed().display()
        ))
        .args([
            format!("-DCMAKE_C_COMPILER={c}"),
            format!("-DCMAKE_CXX_COMPILER={cpp}"),
        ])
        .args([
            format!("-DWANTED={series}"),
            format!("-DUNWANTED={series}.999"),
        ]);
    let said = ran(configure).stdout().join("\n");
    assert!(
        said.contains(&format!("found echoloop {VERSION}\n")),
        "{said}"
    );
    let mut compile = Command::new(&cmake);
    compile.arg("--build").arg(&build);
    ran(compile);
    for (program, shared) in [
        ("c_echoloop", true),
        ("cpp_echoloop", true),
        ("c_static", false),
        ("cpp_static", false),
    ] {
        runs(&build.join(program), shared);
    }
}

/// Runs a consumer, which must know the versions, and need the shared library by its lasting name or not at all.
#[track_caller]
fn runs(program: &Path, shared: bool) {
    let said = ran(Command::new(program)).stdout();
    assert_eq!(said, [format!("header {VERSION} library {VERSION}")]);
    let dynamic = says("readelf", [OsStr::new("-d"), program.as_os_str()]);
    let needed: Vec<&str> = dynamic
        .lines()
        .filter(|line| line.contains("(NEEDED)") && line.contains("echoloop"))
        .filter_map(|line| line.split(['[', ']']).nth(1))
        .collect();
    let expected: &[&str] = if shared { &["libecholoop.so.0"] } else { &[] };
    assert_eq!(needed, expected, "{}", program.display());
}

/// A file of the consumer's project.
fn consumer(file: &str) -> PathBuf {
    artifacts::root().join("tests/install").join(file)
}

/// The names of the functions that a header declares.
fn functions(header: &str) -> BTreeSet<&str> {
    let declarations = header
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    declarations
        .filter_map(|line| line.split_once('('))
        .filter_map(|(before, _)| before.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("echoloop_"))
        .collect()
}

#[track_caller]
fn says<'a>(program: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    ran(command).stdout().join("\n")
}
