//! The text bodies: session start, session end, and the message about a missing source. Nothing in them is escaped.

use std::fmt::Write;

/// What a session start says.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub(super) session: &'a str,
    pub(super) upload: bool,
    pub(super) token: &'a str,
    pub(super) sources: &'a [Vec<u8>],
    pub(super) destination: &'a [u8],
    pub(super) must_be_dir: bool,
    pub(super) tls: bool,
    pub(super) resume: bool,
    pub(super) user: &'a str,
}

/// What "no limit" looks like, in bytes per second.
const NO_LIMIT: u64 = (1 << 61) - 1;

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

fn line(out: &mut Vec<u8>, tag: &str, value: &[u8]) {
    out.extend_from_slice(format!("  <{tag}>").as_bytes());
    out.extend_from_slice(value);
    out.extend_from_slice(format!("</{tag}>\n").as_bytes());
}

/// The body of `session_start`.
pub(super) fn start(s: &Start<'_>) -> Vec<u8> {
    let mut out = b"<session>\n\n".to_vec();
    line(&mut out, "id", s.session.as_bytes());
    line(&mut out, "operation", if s.upload { b"put" } else { b"get" });
    out.push(b'\n');
    line(&mut out, "token", s.token.as_bytes());
    out.push(b'\n');
    for source in s.sources {
        line(&mut out, "source", source);
    }
    line(&mut out, "destination", s.destination);
    out.push(b'\n');
    line(&mut out, "createdir", b"no");
    if s.upload {
        line(&mut out, "mustbedir", yes(s.must_be_dir).as_bytes());
    }
    line(&mut out, "client_encrypt", b"none");
    line(&mut out, "encryption", if s.tls { b"Yes" } else { b"No" });
    out.push(b'\n');
    line(&mut out, "allow_resume", yes(s.resume).as_bytes());
    line(&mut out, "overwrite", b"yes");
    out.push(b'\n');
    line(&mut out, "user", s.user.as_bytes());
    let rest = format!(
        "\n  <rate>\n    <limit>{NO_LIMIT}</limit>\n  </rate>\n\n  <license></license>\n\n  <pretransfer>\n    \
         <precalculate>no</precalculate>\n  </pretransfer>\n\n  <chunk_size>1</chunk_size>\n</session>\n"
    );
    out.extend_from_slice(rest.as_bytes());
    out
}

/// The counts a session ends with.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) sources: u64,
    pub(super) found: u64,
    pub(super) attempted: u64,
    pub(super) files: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
    pub(super) bytes: u64,
}

/// The body of `session_end`.
pub(super) fn end(reason: &str, code: u32, description: &str, t: &Totals) -> Vec<u8> {
    let mut out = format!("<session>\n\n  <reason>{reason}</reason>\n  <code>{code}</code>\n");
    let mut add = |text: &str| out.push_str(text);
    if !description.is_empty() {
        add(&format!("  <error_desc>{description}</error_desc>\n"));
    }
    add("\n  <stats>\n    <aggregate>\n");
    for (tag, value) in [
        ("files_attempted", t.attempted),
        ("files", t.files),
        ("files_failed", t.failed),
        ("files_noxfer", t.skipped),
        ("bytes", t.bytes),
    ] {
        add(&format!("       <{tag}>{value}</{tag}>\n"));
    }
    add("    </aggregate>\n  </stats>\n  <manifest>\n");
    for (tag, value) in [
        ("src_args_scan_attempted", t.sources),
        ("src_args_scan_completed", t.sources),
        ("src_paths_scan_attempted", t.found),
        ("src_paths_scan_failed", 0),
        ("src_paths_scan_irreg_skipped", 0),
        ("src_paths_scan_excluded", 0),
        ("src_dirs_scan_completed", 0),
        ("src_files_scan_completed", t.found),
        ("src_dirs_xfer_attempted", 0),
        ("src_dirs_xfer_fail", 0),
        ("src_dirs_xfer_pass", 0),
        ("src_files_xfer_attempted", t.attempted),
        ("src_files_xfer_fail", t.failed),
        ("src_files_xfer_pass", t.files),
        ("src_files_xfer_noxfer", t.skipped),
        ("src_bytes_xfer_done", 0),
    ] {
        add(&format!("       <{tag}>{value}</{tag}>"));
    }
    add("  </manifest>\n\n</session>\n");
    out.into_bytes()
}

/// The text of `mgmt_msg` for a source that does not exist.
pub(super) fn missing(session: &str, source: &[u8]) -> Vec<u8> {
    let mut out = b"FASPMGR 2\nType: FILEERROR\nFile: ".to_vec();
    out.extend_from_slice(source);
    let mut rest =
        String::from("\nSize: 0\nLoss: 0\nCode: 4\nDescription: Source: No such file or directory\nElapsedusec: 0\n");
    // Writing to a string cannot fail.
    let _ = write!(
        rest,
        "SessionId: {session}\nTransferBytes: 0\nFileBytes: 0\nDelay: 0\n\
         FaspFileID: 00000000-00000000-00000000-00000000-00000000\n\n"
    );
    out.extend_from_slice(rest.as_bytes());
    out
}
