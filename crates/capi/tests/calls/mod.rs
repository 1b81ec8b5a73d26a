//! Every exported function as a call of its own, in C, made of the header.
//!
//! What it makes is included by fuzz.c and by legal.c: for each function a `call_NAME()` that asks the program for one
//! value after another, by the kind of the argument (`in_...`, `out_...`), calls, and tells the program what came of
//! it. The rule: an argument of a kind that is not known here fails the test that makes the calls, and so does an
//! exported function that the header does not declare, so none is left out.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test program uses its own part of this"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use crate::util::{crate_dir, header, scratch};

/// One function of the header.
pub struct Function {
    pub name: String,
    returns: String,
    /// Types and names.
    parameters: Vec<(String, String)>,
}

/// What the header says.
pub struct Header {
    pub functions: Vec<Function>,
    /// The types of handles, `echoloop_conn`.
    handles: Vec<String>,
    /// Structs that begin with their size, and their members that are pointers.
    sized: BTreeMap<String, Vec<String>>,
}

impl Header {
    /// Reads the committed header, which has to have what `abi/symbols.txt` says is exported.
    pub fn read() -> Self {
        let text = without_comments(&fs::read_to_string(header()).unwrap());
        let functions = functions(&text);
        let exported = fs::read_to_string(crate_dir().join("abi/symbols.txt")).unwrap();
        let exported: BTreeSet<&str> = exported.lines().collect();
        let declared = functions.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(exported, declared, "exported, and found in the header");
        Self {
            functions,
            handles: handles(&text),
            sized: sized(&text),
        }
    }

    /// Writes kinds.h and calls.h for the C programs and returns its folder.
    pub fn write_calls(&self, test: &str, more: &str) -> PathBuf {
        let folder = scratch(test);
        let mut kinds = String::from("enum kind { NO_KIND");
        for handle in &self.handles {
            write!(kinds, ", K_{handle}").unwrap();
        }
        kinds.push_str(", KINDS };\n");
        for (name, pointers) in &self.sized {
            let cleared: String = pointers
                .iter()
                .map(|pointer| format!("    it->{pointer} = NULL;\n"))
                .collect();
            writeln!(
                kinds,
                "static inline void no_pointers_{name}({name} *it)\n{{\n    (void)it;\n{cleared}}}"
            )
            .unwrap();
        }
        fs::write(folder.join("kinds.h"), kinds).unwrap();
        let mut out = String::from("/* Made by tests/calls/mod.rs of include/echoloop.h. */\n");
        let unknown: Vec<String> = self
            .functions
            .iter()
            .filter_map(|function| self.call(function, &mut out).err())
            .collect();
        assert!(
            unknown.is_empty(),
            "arguments that tests/calls/mod.rs does not know: {unknown:#?}"
        );
        out.push_str("static const struct function functions[] = {\n");
        for function in &self.functions {
            let name = &function.name;
            writeln!(out, "    {{ \"{name}\", call_{name} }},").unwrap();
        }
        out.push_str("};\n");
        out.push_str(more);
        fs::write(folder.join("calls.h"), out).unwrap();
        folder
    }

    /// The C function that calls one function.
    fn call(&self, function: &Function, out: &mut String) -> Result<(), String> {
        let name = &function.name;
        let parameters = &function.parameters;
        let mut lines = String::new();
        let mut i = 0;
        while i < parameters.len() {
            let (ctype, parameter) = &parameters[i];
            let length = parameters.get(i + 1).filter(|next| next.0 == "size_t");
            let pointee = ctype.trim_start_matches("const ").trim_end_matches(" *");
            let array = ctype.ends_with('*') && self.handle(pointee).is_none();
            let value = match length {
                // A pointer and how much there is behind it.
                Some((_, length)) if array => {
                    writeln!(lines, "    size_t a{} = in_length(\"{length}\");", i + 1).unwrap();
                    let value = self.array(ctype, i + 1);
                    writeln!(lines, "    {} a{i} = {value};", ctype).unwrap();
                    i += 2;
                    continue;
                }
                _ => self.value(ctype, parameter),
            };
            let value = value.ok_or_else(|| format!("{name}: {ctype} {parameter}"))?;
            writeln!(lines, "    {} a{i} = {value};", ctype).unwrap();
            i += 1;
        }
        let arguments: Vec<String> = (0..parameters.len()).map(|i| format!("a{i}")).collect();
        let call = format!("{name}({})", arguments.join(", "));
        let finish = match function.returns.as_str() {
            "int" | "int64_t" | "uint64_t" => format!("leave(&frame, (int64_t){call})"),
            "const char *" => format!("leave_text(&frame, {call})"),
            handle => {
                let kind = self.handle(handle.trim_end_matches(" *"));
                let kind = kind.ok_or_else(|| format!("{name} returns {handle}"))?;
                format!("leave_handle(&frame, {kind}, (uint64_t)(uintptr_t){call})")
            }
        };
        write!(
            out,
            "static int64_t call_{name}(void)\n{{\n    struct frame frame;\n    enter(&frame, \"{name}\");\n    {{\n{}\
             \x20   if (!ready(&frame))\n        return leave(&frame, SKIPPED);\n    return {finish};\n    }}\n}}\n\n",
            lines
        )
        .unwrap();
        Ok(())
    }

    /// The expression for an array whose length is argument `length`.
    fn array(&self, ctype: &str, length: usize) -> String {
        match ctype {
            "const void *" => format!("in_bytes(a{length})"),
            "char *" | "void *" => format!("out_bytes(a{length})"),
            "int *" => format!("in_descriptors(a{length})"),
            "struct echoloop_pollfd *" => format!("in_pollfds(a{length})"),
            other => {
                let item = other.trim_start_matches("const ").trim_end_matches(" *");
                let way = if other.starts_with("const ") {
                    "in_array"
                } else {
                    "out_array"
                };
                format!("{way}(sizeof({item}), a{length})")
            }
        }
    }

    /// The expression for one argument.
    fn value(&self, ctype: &str, name: &str) -> Option<String> {
        let plain = ctype
            .trim_start_matches("const ")
            .trim_end_matches('*')
            .trim();
        let handle = self.handle(plain);
        Some(match (ctype, handle) {
            (_, Some(kind)) if ctype.ends_with("**") => {
                format!("({ctype})out_handle({kind})")
            }
            (_, Some(kind)) => format!("({ctype})(uintptr_t)in_handle({kind})"),
            ("void *", _) => "in_user()".to_owned(),
            ("const char *", _) => format!("in_text(\"{name}\")"),
            ("int", _) => format!("in_int(\"{name}\")"),
            ("int64_t", _) => format!("in_i64(\"{name}\")"),
            ("uint64_t", _) => "in_u64()".to_owned(),
            ("size_t", _) => "in_index()".to_owned(),
            _ if ctype.ends_with("_fn") => format!("in_{ctype}()"),
            _ if ctype.ends_with("**") => "out_plain(sizeof(void *))".to_owned(),
            _ if ctype.starts_with("const struct ") => {
                format!("in_{}()", plain.trim_start_matches("struct "))
            }
            _ if ctype.starts_with("struct ") => {
                let sized = self.sized.contains_key(plain.trim_start_matches("struct "));
                let way = if sized { "out_sized" } else { "out_plain" };
                format!("{way}(sizeof({plain}))")
            }
            ("int64_t *" | "uint64_t *" | "int *" | "size_t *", _) => {
                format!("out_plain(sizeof({plain}))")
            }
            _ => return None,
        })
    }

    fn handle(&self, ctype: &str) -> Option<String> {
        let name = ctype.trim_start_matches("struct ");
        let known = self.handles.iter().any(|handle| handle == name);
        known.then(|| format!("K_{name}"))
    }
}

fn without_comments(text: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    while let Some((before, after)) = rest.split_once("/*") {
        out.push_str(before);
        rest = after.split_once("*/").map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out
}

fn functions(text: &str) -> Vec<Function> {
    let begin = text.find("extern \"C\" {").unwrap();
    let mut found = Vec::new();
    for statement in text[begin..].split(';') {
        let statement: String = statement
            .lines()
            .filter(|line| !line.starts_with(['#', 'e']) || line.starts_with("echoloop"))
            .collect::<Vec<_>>()
            .join(" ");
        let statement = statement.split_whitespace().collect::<Vec<_>>().join(" ");
        let Some((before, parameters)) = statement.split_once('(') else {
            continue;
        };
        let (returns, name) = split_name(before);
        let parameters = parameters.trim_end_matches(')');
        found.push(Function {
            name,
            returns,
            parameters: parameters
                .split(',')
                .filter(|parameter| *parameter != "void")
                .map(split_name)
                .collect(),
        });
    }
    found
}

/// `const char *addr`: the type, `const char *`, and the name.
fn split_name(text: &str) -> (String, String) {
    let text = text.trim();
    let at = text.rfind([' ', '*']).map_or(0, |at| at + 1);
    (text[..at].trim().to_owned(), text[at..].to_owned())
}

fn handles(text: &str) -> Vec<String> {
    let names = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("typedef struct ")?;
        let (first, second) = rest.strip_suffix(';')?.split_once(' ')?;
        (first == second).then(|| first.to_owned())
    });
    names.collect()
}

fn sized(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for part in text.split("typedef struct ").skip(1) {
        let Some((name, body)) = part.split_once('{') else {
            continue;
        };
        let body = body.split_once("\n}").map_or(body, |(body, _)| body);
        if body.trim_start().starts_with("size_t size;") {
            let pointers = body.split(';').filter(|member| is_pointer(member));
            let names = pointers.map(|member| match member.split_once("(*") {
                Some((_, rest)) => rest.split(')').next().unwrap_or_default().to_owned(),
                None => split_name(member).1,
            });
            found.insert(name.trim().to_owned(), names.collect());
        }
    }
    found
}

/// Whether a member of a struct is an address, of data or of a function.
fn is_pointer(member: &str) -> bool {
    member.contains('*') || member.contains("_fn ")
}
