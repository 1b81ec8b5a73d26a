//! The chapters for C readers name nothing that the header does not have.

use std::fs;

use super::util::{crate_dir, header};

#[test]
fn every_name_in_the_chapters_is_in_the_header() {
    let header = fs::read_to_string(header()).unwrap();
    let known: Vec<&str> = names(&header).collect();
    let mut read = 0;
    for chapter in fs::read_dir(crate_dir().join("doc")).unwrap() {
        let path = chapter.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let unknown: Vec<&str> = names(&text).filter(|name| !known.contains(name)).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", path.display());
        read += names(&text).count();
    }
    assert!(read > 50, "only {read} names");
}

/// Words that begin as names of the library do.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(move |c| !word(c))
        .filter(|name| name.to_ascii_lowercase().starts_with("echoloop_"))
}
