//! Every number of the header by its name: statuses, events, reasons, flags.
//!
//! The rule: `abi/numbers.txt` only grows. ECHOLOOP_UPDATE_HEADER=1 adds what is new; a line that is no longer true
//! fails with every setting, since programs were compiled with that number. A number that is withdrawn stays in the
//! file by hand, under its old name with `retired` in front, so that it is never given again.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::OnceLock;

use crate::util::{compile_c, crate_dir, run, scratch};
use crate::{generated, updating};

#[test]
fn no_number_has_changed_or_is_unrecorded() {
    let path = crate_dir().join("abi/numbers.txt");
    let mut recorded = parsed(&fs::read_to_string(&path).unwrap_or_default());
    let now = numbers().clone();
    for (name, number) in &recorded {
        let kept = name.starts_with("retired ") || now.get(name) == Some(number);
        assert!(
            kept,
            "{name} was {number}, and is {:?}; programs were compiled with it. If that is \
             meant all the same, change abi/numbers.txt by hand",
            now.get(name)
        );
    }
    if updating() {
        recorded.extend(now);
        let lines = recorded
            .iter()
            .map(|(name, number)| format!("{name} {number}\n"));
        return fs::write(&path, lines.collect::<String>()).unwrap();
    }
    let new: Vec<_> = now
        .keys()
        .filter(|name| !recorded.contains_key(*name))
        .collect();
    assert!(
        new.is_empty(),
        "not in abi/numbers.txt: {new:?}; run this test with ECHOLOOP_UPDATE_HEADER=1"
    );
}

#[test]
fn no_number_has_two_meanings() {
    let recorded = fs::read_to_string(crate_dir().join("abi/numbers.txt")).unwrap_or_default();
    let mut taken = BTreeMap::new();
    for (name, number) in numbers().clone().into_iter().chain(parsed(&recorded)) {
        let plain = name.trim_start_matches("retired ");
        // Flags, limits and the like may be equal.
        let groups = ["ECHOLOOP_EVENT_", "ECHOLOOP_CLOSE_", "ECHOLOOP_REFUSED_"];
        let group = groups.into_iter().find(|group| plain.starts_with(group));
        if let Some(group) = group.or((number < 0).then_some("status")) {
            let other = taken.insert((group, number), name.clone());
            let alone = other.as_ref().is_none_or(|other| *other == name);
            assert!(alone, "{name} is {number}, as {other:?}");
        }
    }
    assert!(taken.len() > 30, "{taken:?}");
}

/// The numbers that the macros of the header stand for, as a C compiler has them.
fn numbers() -> &'static BTreeMap<String, i64> {
    static NUMBERS: OnceLock<BTreeMap<String, i64>> = OnceLock::new();
    NUMBERS.get_or_init(|| {
        let upper = |c: char| c == '_' || c.is_ascii_uppercase() || c.is_ascii_digit();
        let macros = generated()
            .lines()
            .filter_map(|line| line.strip_prefix("#define ")?.split_once(' '))
            .map(|(name, _)| name)
            .filter(|name| name.chars().all(upper) && !name.ends_with("_INIT"))
            .filter(|name| !name.starts_with("ECHOLOOP_VERSION"));
        let prints: String = macros
            .map(|name| format!("    printf(\"{name} %lld\\n\", (long long)({name}));\n"))
            .collect();
        let source = scratch("numbers").join("numbers.c");
        fs::write(source.with_file_name("echoloop.h"), generated()).unwrap();
        let includes = "#include \"echoloop.h\"\n#include <stdio.h>\n";
        let program = format!("{includes}int main(void)\n{{\n{prints}    return 0;\n}}\n");
        fs::write(&source, program).unwrap();
        parsed(&run(Command::new(compile_c(&source, &[]))))
    })
}

fn parsed(lines: &str) -> BTreeMap<String, i64> {
    let pairs = lines.lines().filter_map(|line| line.rsplit_once(' '));
    pairs
        .map(|(name, number)| (name.to_owned(), number.parse().unwrap()))
        .collect()
}
