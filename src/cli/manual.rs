//! `fallgate man`: one manual page, which has the help of every command.

use std::io::{self, Write as _};

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::{Cli, EXIT_STATUS, FAILED, complain, print};

/// What the page ends with: where more is told.
const FILES: &str = ".SH FILES
.TP
/etc/fallgate/fallgate.yaml
The config of the Debian package.
.TP
/usr/share/doc/fallgate
README.md, which tells of every key of the config, of metrics and of operating it, and examples.
";

pub(super) fn manual() -> u8 {
    match page() {
        Ok(text) => print(&text),
        Err(error) => {
            complain(&error);
            FAILED
        }
    }
}

fn page() -> io::Result<String> {
    let mut program = Cli::command();
    program.build();
    let whole = Man::new(program.clone()).manual("fallgate");
    let mut page = Vec::new();
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    whole.render_description_section(&mut page)?;
    whole.render_options_section(&mut page)?;
    for command in program.get_subcommands() {
        page.extend(chapter(command, command.get_name())?.bytes());
        for below in command.get_subcommands() {
            page.extend(chapter(below, &format!("{} {}", command.get_name(), below.get_name()))?.bytes());
        }
    }
    write!(page, ".SH \"EXIT STATUS\"\n{EXIT_STATUS} The doctor has its own.\n{FILES}")?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// A command as a chapter: what would be sections of a page of its own are sections of that.
fn chapter(command: &Command, name: &str) -> io::Result<String> {
    let mut text = Vec::new();
    let man = Man::new(command.clone());
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let sections = text.split_inclusive('\n').map(|line| match line.strip_prefix(".SH ") {
        Some(title) => format!(".SS {title}"),
        None => line.to_owned(),
    });
    Ok(format!(".SH \"fallgate {name}\"\n") + &sections.collect::<String>())
}
