//! The real client, where there is one, and the command to try it by hand.

use std::path::PathBuf;

use tokio::process::Command;

use super::{
    Result, say,
    stage::{Stage, TOKEN},
};

/// Sends the demo's folder with the client of `$ASCP` or on PATH; says so when there is none.
pub(super) async fn try_it(stage: &Stage) -> Result<()> {
    let Some(program) = find() else {
        say("\n10. The real client: no `ascp` in $ASCP or on PATH, so this step is left out");
        return Ok(());
    };
    say(format_args!("\n10. The real client: {}", program.display()));
    let status = Command::new(&program)
        .args(arguments(stage))
        .env("ASPERA_SCP_TOKEN", TOKEN)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .status()
        .await?;
    if !status.success() {
        return Err(format!("ascp failed: {status}").into());
    }
    say("   exit status 0");
    Ok(())
}

/// How to try it oneself.
pub(super) fn invite(stage: &Stage) {
    say("Your turn, with the real client (a fallback by HTTPS, forced by -y F):\n");
    say(format_args!("   export ASPERA_SCP_TOKEN={TOKEN}"));
    say(format_args!("   ascp {}", arguments(stage).join(" ")));
    say("\nThe gateway stays until Ctrl-C.");
}

fn arguments(stage: &Stage) -> Vec<String> {
    let file = |name: &str| stage.dir.path().join(name).display().to_string();
    let mut all: Vec<String> = ["-y", "F", "-t"].map(String::from).into();
    all.push(stage.https.port().to_string());
    all.extend(["-I".into(), file("client.crt"), "-Y".into(), file("client.key")]);
    all.extend(["--mode=send", "--user=demo"].map(String::from));
    all.extend([format!("--host={}", stage.https.ip()), stage.photos.display().to_string(), "/".into()]);
    all
}

fn find() -> Option<PathBuf> {
    let named = std::env::var_os("ASCP").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    named.into_iter().chain(std::env::split_paths(&path).map(|dir| dir.join("ascp"))).find(|p| p.is_file())
}
