//! The real client, where there is one.

use std::path::PathBuf;

use tokio::process::Command;

use super::{
    Result,
    stage::{Stage, TOKEN},
};

/// Sends the demo's folder with the client of `$ASCP` or on PATH; says so when there is none.
pub(super) async fn try_it(stage: &Stage) -> Result<()> {
    let Some(program) = find() else {
        stage.screen.step("10. The real client: no `ascp` in $ASCP or on PATH, so this step is left out");
        stage.screen.aside("To have it, in the repository: ASCP=$(tests/get-ascp) scripts/demo");
        return Ok(());
    };
    stage.screen.step(format_args!("10. The real client: {}", program.display()));
    let status = Command::new(&program)
        .args(arguments(stage))
        .env("ASPERA_SCP_TOKEN", TOKEN)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .status()
        .await?;
    if !status.success() {
        return Err(format!("ascp failed: {status}").into());
    }
    stage.screen.proof("It sent the folder `photos` and ended with exit status 0.");
    Ok(())
}

/// What it is told: a fallback over HTTPS, forced by `-y F`, of the folder `photos`.
pub(super) fn arguments(stage: &Stage) -> Vec<String> {
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
