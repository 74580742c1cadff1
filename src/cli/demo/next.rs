//! What to try after the demo.

use super::{
    ascp, say,
    stage::{Stage, TOKEN},
};

/// Commands that go on from here, and what each is for.
const COMMANDS: [(&str, &str); 5] = [
    ("fallgate demo", "the same, and the gateway stays to be tried"),
    ("fallgate check --config FILE", "what is wrong with a config of your own"),
    ("fallgate run --config FILE", "a gateway by that config"),
    ("fallgate explain --config FILE", "what clients, nodes and firewalls are told"),
    ("fallgate doctor --host NAME", "which path to a server works from here"),
];

/// Tells what to try, at this gateway where it stays.
pub(super) fn tell(stage: &Stage, is_over: bool) {
    if !is_over {
        here(stage);
    }
    stage.screen.step("What to try next");
    for (command, what) in COMMANDS.iter().skip(usize::from(!is_over)) {
        stage.screen.line(format_args!("{command:<31} {what}"));
    }
    let program = std::env::args_os().next().unwrap_or_default();
    if program.as_encoded_bytes().contains(&b'/') {
        stage.screen.aside(format_args!("`fallgate` is {}", program.display()));
    }
    if !is_over {
        say("\nThe gateway stays until Ctrl-C.");
    }
}

/// What can be done with the gateway that is there.
fn here(stage: &Stage) {
    let screen = stage.screen;
    screen.step("Your turn");
    if let Some(admin) = stage.gateway.admin_address() {
        screen.line(format_args!("Look at it:          http://{admin}/ and below it /metrics"));
    }
    screen.line(format_args!("Knock as a scanner:  curl --insecure https://{}/", stage.https));
    screen.line("Send a folder by the real client, over HTTPS (-y F forces the fallback):");
    screen.line(format_args!("   export ASPERA_SCP_TOKEN={TOKEN}"));
    let arguments = ascp::arguments(stage);
    let (options, files) = arguments.split_at(arguments.len().saturating_sub(2));
    screen.line("   ascp \\");
    for pair in options.chunks(2) {
        screen.line(format_args!("      {} \\", pair.join(" ")));
    }
    screen.line(format_args!("      {}", files.join(" ")));
    screen.line(format_args!("Read the records:    {}", stage.dir.path().join("access.log").display()));
}
