//! The groups of the header's functions: a heading before the first of each, so that people find their way.
//!
//! The order is that of the modules in `lib.rs`. Manual page and reference have the same headings
//! (`install/manual.awk`, `install/reference.awk`).

use crate::{generated, prototypes};

/// The first function of each group, and what the group is called.
const GROUPS: &[(&str, &str)] = &[
    ("echoloop_new", "Loops"),
    ("echoloop_listener_addr", "Listeners"),
    ("echoloop_conn_send", "Connections"),
    ("echoloop_pipe", "Connections that are joined, come or go"),
    ("echoloop_timer_new", "Timers"),
    ("echoloop_remote_new", "Other threads"),
    ("echoloop_udp_bind", "Datagrams"),
    ("echoloop_resolve", "Names"),
    ("echoloop_signal_watch", "Signals"),
    ("echoloop_watch_new", "Descriptors"),
    ("echoloop_fd", "Nesting, forking"),
    ("echoloop_server_new", "Servers"),
    (
        "echoloop_workers_new",
        "Workers: one server on several threads",
    ),
    ("echoloop_set_log", "Log, counters, times"),
    ("echoloop_last_error", "Errors and texts"),
    ("echoloop_version", "Versions"),
];

/// The header with its headings.
pub(crate) fn with_headings(header: &str) -> String {
    let mut text = header.to_owned();
    for (first, heading) in GROUPS {
        let at = text.find(&format!("{first}(struct"));
        let at = at.or_else(|| text.find(&format!("{first}(const")));
        let at = at.or_else(|| text.find(&format!("{first}(int")));
        let at = at.or_else(|| text.find(&format!("{first}(void")));
        let declaration = at.unwrap_or_else(|| panic!("{first} is declared"));
        let comment = text[..declaration].rfind("\n/**\n").unwrap() + 1;
        text.insert_str(comment, &format!("/* == {heading} == */\n\n"));
    }
    text
}

/// The functions of one kind of object stand together.
#[test]
fn no_group_is_torn_apart() {
    let names: Vec<&str> = prototypes(generated())
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    for kind in [
        "conn", "listener", "timer", "remote", "udp", "lookup", "signal", "watch", "selector",
        "server", "workers",
    ] {
        let prefix = format!("echoloop_{kind}_");
        let places: Vec<usize> = (0..names.len())
            .filter(|&i| names[i].starts_with(&prefix))
            .collect();
        assert!(!places.is_empty(), "{prefix}");
        let span = places[places.len() - 1] - places[0] + 1;
        assert!(span <= places.len() + 2, "{prefix}... is in several places");
    }
}

/// The lines of a chapter of the header's manual page that are indented: its table.
fn table(heading: &str) -> Vec<&'static str> {
    let (_, text) = generated()
        .split_once(&format!("\n * {heading}\n"))
        .unwrap();
    let ends = |line: &&str| {
        let text = line.strip_prefix(" * ").unwrap_or_default();
        text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.bytes().all(|b| b == b' ' || b.is_ascii_uppercase())
    };
    text.lines()
        .take_while(|line| !ends(line))
        .filter_map(|line| line.strip_prefix(" *     "))
        .collect()
}

/// Words as names of C have them, each with what stands behind it.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let in_name = |c: char| c == '_' || c == '.' || c.is_ascii_alphanumeric();
    line.split(move |c| !in_name(c))
        .filter(|word| !word.is_empty())
}

#[test]
fn the_manual_says_where_every_function_is() {
    let names: Vec<&str> = prototypes(generated())
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let mut left: Vec<&str> = names
        .iter()
        .map(|name| &name["echoloop_".len()..])
        .collect();
    let all = left.clone();
    for line in table("ALL FUNCTIONS") {
        let listed = line.get(14..).unwrap_or_default();
        for entry in listed
            .split([',', ';', ':'])
            .map(|part| words(part).last().unwrap_or_default())
        {
            match entry.strip_suffix("...") {
                Some(prefix) => {
                    assert!(all.iter().any(|name| name.starts_with(prefix)), "{entry}");
                    left.retain(|name| !name.starts_with(prefix));
                }
                None => left.retain(|name| *name != entry),
            }
        }
    }
    assert!(
        left.is_empty(),
        "not in the chapter of all functions: {left:?}"
    );
}

#[test]
fn the_manual_says_which_hook_each_event_has() {
    let text = table("EVENTS").join("\n");
    let told: Vec<&str> = words(&text)
        .map(|word| word.trim_end_matches('.'))
        .collect();
    let constants = generated()
        .lines()
        .filter_map(|line| line.strip_prefix("#define ECHOLOOP_EVENT_"))
        .filter_map(|line| line.split_once(' '));
    let hooks = generated()
        .lines()
        .filter_map(|line| line.trim_start().split_once("(*on_"))
        .filter_map(|(_, rest)| rest.split_once(')'))
        .map(|(name, _)| format!("on_{name}"));
    let names: Vec<String> = constants
        .map(|(name, _)| name.to_owned())
        .chain(hooks)
        .collect();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        assert!(
            told.contains(&name.as_str()),
            "{name} is not in the chapter"
        );
    }
}
