//! The explanation as text for people, and the port table.

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};

use super::{
    Explanation,
    clients::Call,
    nodes::Settings,
    openings::{Opening, Wall, Way},
    pretty,
};

/// Everything, chapter by chapter.
pub(super) fn whole(all: &Explanation, file: &Path) -> serde_json::Result<String> {
    let mut text = format!("What goes with {}\n", name(file));
    chapter(&mut text, "Transfer specs");
    for spec in &all.specs {
        let _ = writeln!(text, "to the nodes of {}:\n{}", spec.upstream, pretty(&Value::Object(spec.keys.clone()))?);
    }
    if all.specs.is_empty() {
        text.push_str("none: no listener with a port that can be told leads to nodes\n");
    }
    chapter(&mut text, "ascp, its token in ASPERA_SCP_TOKEN");
    all.calls.iter().for_each(|call| text.push_str(&self::call(call)));
    chapter(&mut text, "What an application must do");
    text.push_str(&list(&all.session));
    chapter(&mut text, "The nodes");
    all.nodes.iter().for_each(|settings| text.push_str(&self::settings(settings)));
    if all.nodes.is_empty() {
        text.push_str("none\n");
    }
    chapter(&mut text, "Ports");
    text.push_str(&ports(&all.openings));
    let site = all.site();
    for (title, rules) in [
        ("nftables, the outer firewall (--part outer)", site.firewall(Wall::Outer)),
        ("nftables, the inner firewall (--part inner)", site.firewall(Wall::Inner)),
        ("nftables, the gateway's host (--part host)", site.host()),
    ] {
        chapter(&mut text, title);
        text.push_str(&rules);
    }
    Ok(text)
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}

fn chapter(text: &mut String, title: &str) {
    let _ = write!(text, "\n# {title}\n\n");
}

/// A line for each.
pub(super) fn list(lines: &[String]) -> String {
    lines.iter().map(|line| format!("- {line}\n")).collect()
}

fn call(call: &Call) -> String {
    let mut text = format!(
        "{} ({}):\n  ascp {} --user=USER --mode=send FILE /\n",
        call.what,
        call.listeners.join(", "),
        call.flags.join(" ")
    );
    for note in &call.notes {
        let _ = writeln!(text, "  # {note}");
    }
    text
}

fn settings(settings: &Settings) -> String {
    let mut text = format!("{}, on {}:\n", settings.upstream, settings.nodes.join(", "));
    for line in &settings.asconfigurator {
        let _ = writeln!(text, "  {line}");
    }
    for line in &settings.aspera_conf {
        let _ = writeln!(text, "  aspera.conf: {line}");
    }
    for line in &settings.sshd_config {
        let _ = writeln!(text, "  sshd_config: {line}");
    }
    for note in &settings.notes {
        let _ = writeln!(text, "  # {note}");
    }
    text
}

/// The port table as Markdown.
pub(super) fn ports(openings: &[Opening]) -> String {
    let mut text = "| firewall | from | to | protocol | port | for |\n|---|---|---|---|---|---|\n".to_owned();
    for opening in openings {
        let row = row(opening);
        let cell = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default().replace('|', "\\|");
        let cells = ["firewall", "from", "to", "protocol", "port", "for"].map(cell);
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

/// A row of the port table.
pub(super) fn row(opening: &Opening) -> Value {
    let (peer, gateway) = (opening.peer.text(), "the gateway".to_owned());
    let [from, to] = if opening.way == Way::In { [peer, gateway] } else { [gateway, peer] };
    let port = if opening.ports.is_empty() { "any".to_owned() } else { opening.ports.join(", ") };
    json!({
        "firewall": opening.wall,
        "from": from,
        "to": to,
        "protocol": opening.transport,
        "port": port,
        "for": format!("{} ({})", opening.why, opening.name),
    })
}
