//! `fallgate doctor`: which path to a server works, from a client's seat.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use super::{FAILED, OK, USAGE, complain, print};
use crate::{
    config::units::{UnitError, parse_duration},
    doctor::{self, LONGEST, Place, Question, Verdict},
    net::probe::{Secret, SecretError},
};

/// No path works.
const NONE: u8 = 3;

/// Which server, and by which ways.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Options {
    #[command(subcommand)]
    about: Option<About>,
    /// The server: a name or an IPv4 address.
    ///
    /// As ascp is told it.
    #[arg(long, required = true, value_name = "HOST", value_parser = host)]
    host: Option<String>,
    /// Its control port (SSH over TCP).
    #[arg(long, value_name = "PORT", default_value_t = 33001)]
    ssh_port: u16,
    /// Its data port (UDP).
    #[arg(long, value_name = "PORT", default_value_t = 33001)]
    udp_port: u16,
    /// Its fallback port with TLS.
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    https_port: u16,
    /// Its fallback port in the clear.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    http_port: u16,
    /// A forward proxy to try as well.
    ///
    /// As ascp takes it: no scheme, no user, no IPv6 address.
    #[arg(long, value_name = "HOST:PORT", value_parser = place)]
    proxy: Option<Place>,
    /// A transfer token to try: a file with one line.
    ///
    /// A session is opened with it and ended at once.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The secret that a gateway shares: its file.
    ///
    /// The same as the gateway's `doctor.secret_file`. Only with it UDP can be told, and what stands on the way of requests.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// The transfer user that a session_start names.
    #[arg(long, value_name = "NAME", default_value = "xfer")]
    user: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// How long to wait in silence; ascp waits 20s.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration)]
    timeout: Duration,
    /// How long silence and idle must last.
    ///
    /// A request on which the far end works in silence, and a connection between two requests; told with the secret alone.
    /// At most 2m. ascp itself gives up after 20s in which it hears nothing.
    #[arg(long, value_name = "TIME", default_value = "25s", value_parser = idle)]
    idle: Duration,
}

#[derive(Debug, clap::Subcommand)]
enum About {
    /// Tell what an error number of ascp means and what helps.
    Code {
        /// The number, as the management port or a log shows it.
        number: u32,
    },
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
enum DoctorError {
    #[error("cannot read {path}: {source}")]
    Token { path: String, source: std::io::Error },
    #[error("{path} {source}")]
    Secret { path: String, source: SecretError },
    #[error("cannot start: {0}")]
    Runtime(#[source] std::io::Error),
}

pub(super) fn doctor(options: Options) -> u8 {
    if let Some(About::Code { number }) = options.about {
        return code(number);
    }
    let json = options.json;
    match examine(options) {
        Ok(report) => {
            let text = if json { format!("{}\n", doctor::json(&report)) } else { doctor::lines(&report) };
            match print(&text) {
                OK => status(report.verdict),
                failed => failed,
            }
        }
        Err(error) => {
            complain(&error);
            USAGE
        }
    }
}

fn status(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Nominal => OK,
        Verdict::Some => FAILED,
        Verdict::None => NONE,
    }
}

fn examine(options: Options) -> Result<doctor::Report, DoctorError> {
    let token = |path: &PathBuf| {
        let told = |source| DoctorError::Token { path: path.display().to_string(), source };
        std::fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(told)
    };
    let secret = |path: &PathBuf| {
        Secret::read(path).map_err(|source| DoctorError::Secret { path: path.display().to_string(), source })
    };
    let question = Question {
        token: options.token_file.as_ref().map(token).transpose()?,
        secret: options.secret_file.as_ref().map(secret).transpose()?,
        // Only `code` goes without it.
        host: options.host.unwrap_or_default(),
        ssh_port: options.ssh_port,
        udp_port: options.udp_port,
        https_port: options.https_port,
        http_port: options.http_port,
        proxy: options.proxy,
        user: options.user,
        timeout: options.timeout,
        idle: options.idle,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DoctorError::Runtime)?;
    let report = runtime.block_on(doctor::examine(&question));
    // The system's resolver may still wait for name servers that nobody waits for any more.
    runtime.shutdown_background();
    Ok(report)
}

fn code(number: u32) -> u8 {
    if let Some(known) = doctor::code_of(number) {
        return print(&format!("{}: {}\ncauses: {}\ncures: {}\n", known.code, known.text, known.causes, known.cures));
    }
    let known = doctor::CODES.iter().map(|known| format!("{:>3}  {}\n", known.code, known.text)).collect::<String>();
    print(&format!("{number} is not known; these are:\n{known}"));
    FAILED
}

/// A duration with its unit, above zero.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = parse_duration(text).map_err(|error: UnitError| format!("{error}; {}", error.hint()))?;
    if parsed.is_zero() { Err("must be above zero".to_owned()) } else { Ok(parsed) }
}

/// What stands behind `--host` of ascp, and not a URL.
pub(super) fn host(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(bare.to_owned());
    }
    let is_of_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let is_sound = !text.is_empty() && text.bytes().all(is_of_name);
    let wrong =
        || "a name or an IPv4 address, without a scheme, a user or a port; ports have options of their own".to_owned();
    if is_sound { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// Such a duration that a far end still waits for.
fn idle(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| if time > LONGEST { Err("must be 2m at most".to_owned()) } else { Ok(time) })
}

fn place(text: &str) -> Result<Place, String> {
    let wrong = || "a proxy is HOST:PORT, without a scheme or a user; ascp takes no IPv6 address".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    let sound = !host.is_empty() && !host.contains(['/', '@', ':', '[']);
    let sound = sound && host.parse::<IpAddr>().map_or(true, |ip| ip.is_ipv4());
    if sound { Ok(Place { host: host.to_owned(), port }) } else { Err(wrong()) }
}
