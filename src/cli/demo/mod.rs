//! `fallgate demo`: a gateway, two nodes and real transfers on loopback, step by step.

mod ascp;
mod files;
mod nominal;
mod stage;
mod steps;

use super::{FAILED, OK, complain, say};

/// What can be asked of the demo.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Stop after the transfers instead of waiting for Ctrl-C.
    #[arg(long)]
    once: bool,
}

/// Whatever goes wrong in a demo is for the person who watches it.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub(super) fn demo(options: &Options) -> u8 {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return FAILED;
        }
    };
    match runtime.block_on(show(options)) {
        Ok(()) => OK,
        Err(error) => {
            complain(error.as_ref());
            FAILED
        }
    }
}

async fn show(options: &Options) -> Result<()> {
    let mut stage = stage::Stage::set().await?;
    steps::all(&mut stage).await?;
    ascp::try_it(&stage).await?;
    say("");
    if options.once {
        say("All good. Without --once the gateway stays for you to try.");
    } else {
        ascp::invite(&stage);
        tokio::signal::ctrl_c().await?;
        say("");
    }
    let at_once = tokio_util::sync::CancellationToken::new();
    at_once.cancel();
    stage.gateway.drain(at_once).await;
    Ok(())
}
