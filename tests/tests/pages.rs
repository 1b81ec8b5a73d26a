//! What the command line says of itself: `--help`, the manual pages, the completions of shells.

use std::env;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use echoloop_tests::commands::{echoloop, start};
use echoloop_tests::patience::PATIENCE;
use echoloop_tests::{Process, artifacts, tools};

const SUBCOMMANDS: [&str; 6] = ["serve", "proxy", "connect", "bench", "completions", "man"];

#[test]
fn every_help_has_an_example_and_the_exit_codes() {
    for subcommand in SUBCOMMANDS {
        let help = said(&[subcommand, "--help"]);
        assert!(help.contains("Examples:\n  echoloop"), "{help}");
        assert!(help.contains("Exit codes:"), "{help}");
    }
    let help = said(&["--help"]);
    for subcommand in SUBCOMMANDS {
        assert!(help.contains(&format!("\n  {subcommand} ")), "{help}");
    }
}

#[test]
fn examples_are_understood() {
    for subcommand in SUBCOMMANDS {
        let help = said(&[subcommand, "--help"]);
        let examples = help
            .lines()
            .filter_map(|l| l.trim().split_once("echoloop "));
        let examples = examples.filter(|(before, _)| before.is_empty() || before.ends_with("| "));
        for (_, example) in examples {
            let words = example
                .split_whitespace()
                .take_while(|w| !["<", ">", "|"].contains(w));
            // Whatever else is wrong with a command line, help is not asked for in vain.
            let words: Vec<&str> = words.collect();
            let mut asked = start(&[&words[..], &["--no-such-option"]].concat());
            assert_eq!(asked.wait(PATIENCE).code(), Some(2), "{example}");
            let answer = asked.stderr().join("\n");
            assert!(answer.contains("'--no-such-option'"), "{example}: {answer}");
        }
    }
}

#[test]
fn completions_are_scripts_that_their_shells_understand() {
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = said(&["completions", shell]);
        for subcommand in SUBCOMMANDS {
            assert!(script.contains(subcommand), "{shell} knows {subcommand}");
        }
        assert!(script.contains("max-connections"), "{shell} knows options");
        // Of three shells one is enough to have.
        let path = env::var_os("PATH").unwrap_or_default();
        if env::split_paths(&path).any(|folder| folder.join(shell).is_file()) {
            let mut command = Command::new(shell);
            command.arg(check);
            fed(command, &script);
        }
    }
    for shell in ["elvish", "powershell"] {
        assert!(
            said(&["completions", shell]).contains("max-connections"),
            "{shell}"
        );
    }
}

#[test]
fn bash_completes_subcommands_and_options() {
    let script = said(&["completions", "bash"]);
    // As bash calls it: the command, the word to complete, the word before.
    let ask = |words: &str, last: &str| {
        let n = words.split(' ').count();
        format!(
            "{script}\nCOMP_WORDS=({words} {last}); COMP_CWORD={n}\n\
             _echoloop echoloop {last} x; echo \"${{COMPREPLY[@]}}\""
        )
    };
    let mut bash = Command::new("bash");
    bash.args(["-c", &ask("echoloop", "ser")]);
    assert_eq!(Process::run(bash, PATIENCE).stdout(), ["serve"]);
    let mut bash = Command::new("bash");
    bash.args(["-c", &ask("echoloop serve", "--max-c")]);
    assert_eq!(Process::run(bash, PATIENCE).stdout(), ["--max-connections"]);
}

#[test]
fn each_subcommand_has_a_page_without_faults_of_layout() {
    let folder = artifacts::scratch().join(format!("man-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the target folder can be written");
    let path = folder.to_str().expect("a path of plain letters");
    let mut man = start(&["man", path]);
    assert!(man.wait(PATIENCE).success());
    let mut names = vec!["echoloop.1".to_owned()];
    names.extend(SUBCOMMANDS.map(|name| format!("echoloop-{name}.1")));
    for name in &names {
        let page = folder.join(name);
        let text = fs::read_to_string(&page).unwrap_or_else(|e| panic!("{name}: {e}"));
        for section in ["NAME", "SYNOPSIS", "EXAMPLES", "EXIT STATUS"] {
            let heading = [format!(".SH {section}"), format!(".SH \"{section}\"")];
            assert!(
                heading.iter().any(|h| text.contains(h)),
                "{name} has {section}"
            );
        }
        if tools::tool("man").is_some() {
            let mut reader = Command::new("man");
            reader
                .args(["--warnings=w", "-l"])
                .arg(&page)
                .env("LC_ALL", "C.UTF-8");
            let mut reader = Process::run(reader, PATIENCE);
            assert!(reader.wait(PATIENCE).success());
            assert_eq!(reader.stderr(), [""; 0], "{name}");
        }
    }
    assert_eq!(
        fs::read_dir(&folder).expect("made above").count(),
        names.len()
    );
    fs::remove_dir_all(&folder).expect("made above");
    // To standard output without a folder, and one line where there is none.
    assert!(said(&["man"]).contains("echoloop\\-serve(1)"));
    let mut man = start(&["man", "/nonexistent"]);
    assert_eq!(man.wait(PATIENCE).code(), Some(1));
    assert_eq!(man.stderr().len(), 1);
}

#[track_caller]
fn said(arguments: &[&str]) -> String {
    let mut process = Process::run(echoloop(arguments), PATIENCE);
    assert!(process.wait(PATIENCE).success(), "{arguments:?}");
    process.stdout().join("\n")
}

/// Gives a script to a shell, which must have nothing to say.
#[track_caller]
fn fed(mut shell: Command, script: &str) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    shell
        .stdin(reader)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = Process::spawn_as_is(shell);
    writer.write_all(script.as_bytes()).expect("it reads");
    drop(writer);
    assert!(process.wait(PATIENCE).success());
    assert_eq!(process.stderr(), [""; 0]);
}
