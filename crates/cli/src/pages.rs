//! `echoloop completions` and `echoloop man`: what a shell and man(1) want to know of the command line.
//!
//! The rule: both are made of the very definition that parses the command line, so they can't drift
//! from it. Only the layout of a page's end, examples and exit codes, is made here.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::exit::{self, Failure};

const COMPLETIONS: &str = "\
Examples:
  echoloop completions bash > ~/.local/share/bash-completion/completions/echoloop
  echoloop completions zsh > ~/.zfunc/_echoloop
  echoloop completions fish > ~/.config/fish/completions/echoloop.fish";

const MAN: &str = "\
Examples:
  echoloop man | man -l -
  echoloop man /usr/local/share/man/man1";

/// Prints what a shell needs to complete the command line.
#[derive(ClapArgs)]
#[command(after_help = exit::help(COMPLETIONS))]
pub(crate) struct Completions {
    /// For which shell.
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// Prints the manual page, or writes all of them to a folder.
#[derive(ClapArgs)]
#[command(after_help = exit::help(MAN))]
pub(crate) struct Pages {
    /// Write echoloop.1 and a page for each subcommand here; the folder must be there.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn completions(args: &Completions, mut command: Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "echoloop", &mut script);
    print(&script)
}

pub(crate) fn man(args: &Pages, command: Command) -> Result<(), Failure> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let Some(dir) = &args.dir else {
        return print(&page(&command)?);
    };
    write(dir, &command)?;
    for subcommand in command.get_subcommands() {
        write(dir, subcommand)?;
    }
    Ok(())
}

fn write(dir: &Path, command: &Command) -> Result<(), Failure> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let path = dir.join(format!("{name}.1"));
    let page = page(command)?;
    let written = File::create(&path).and_then(|mut file| file.write_all(&page));
    written.map_err(|e| Failure::failed(format!("{} can't be written: {e}", path.display())))
}

fn print(text: &[u8]) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout());
    exit::printed(out.write_all(text).and_then(|()| out.flush()))
}

/// One page, in roff(7).
fn page(command: &Command) -> Result<Vec<u8>, Failure> {
    let man = Man::new(command.clone())
        .source(concat!("echoloop ", env!("CARGO_PKG_VERSION")))
        .manual("echoloop");
    let mut page = Vec::new();
    let rendered = man
        .render_title(&mut page)
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| man.render_synopsis_section(&mut page))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| man.render_options_section(&mut page))
        .and_then(|()| match command.has_subcommands() {
            true => man.render_subcommands_section(&mut page),
            false => Ok(()),
        })
        .and_then(|()| end(command).to_writer(&mut page));
    rendered.map_err(|e| Failure::failed(format!("a page can't be made: {e}")))?;
    Ok(page)
}

/// The sections that `--help` has at its end: a line that ends with a colon is a heading, indented
/// lines are shown as they are.
fn end(command: &Command) -> Roff {
    let mut roff = Roff::new();
    let text = command.get_after_help().map(ToString::to_string);
    let mut as_it_is = false;
    for line in text.unwrap_or_default().lines() {
        let indented = line.starts_with("  ");
        if indented != as_it_is {
            roff.control(if indented { "nf" } else { "fi" }, []);
            as_it_is = indented;
        }
        match line {
            "Exit codes:" => drop(roff.control("SH", ["EXIT STATUS"])),
            "" => drop(roff.control("PP", [])),
            line => match line.strip_suffix(':') {
                Some(heading) if !indented => drop(roff.control("SH", [&*heading.to_uppercase()])),
                _ => drop(roff.text([roman(line)])),
            },
        }
    }
    if as_it_is {
        roff.control("fi", []);
    }
    roff
}
