//! `fallgate demo`: a gateway, two nodes and real transfers on loopback, step by step.

mod ascp;
mod files;
mod next;
mod nominal;
mod screen;
mod stage;
mod steps;

use std::time::Instant;

use super::{FAILED, OK, complain, run::Stop, say};
use screen::Screen;

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
    let screen = Screen::of_stdout();
    match runtime.block_on(show(screen, options)) {
        Ok(()) => OK,
        Err(error) => {
            screen.wipe();
            complain(error.as_ref());
            FAILED
        }
    }
}

async fn show(screen: Screen, options: &Options) -> Result<()> {
    let (start, mut stop) = (Instant::now(), Stop::new()?);
    let mut stage = stage::Stage::set(screen).await?;
    tokio::select! {
        played = play(&mut stage) => played?,
        // The stage is cleared all the same.
        () = stop.recv() => return Err("ended before all was shown".into()),
    }
    screen.good(format_args!("All good, in {:.1} s.", start.elapsed().as_secs_f64()));
    next::tell(&stage, options.once);
    if !options.once {
        stop.recv().await;
        say("");
    }
    let at_once = tokio_util::sync::CancellationToken::new();
    at_once.cancel();
    stage.gateway.drain(at_once).await;
    Ok(())
}

async fn play(stage: &mut stage::Stage) -> Result<()> {
    steps::all(stage).await?;
    ascp::try_it(stage).await
}
