//! Findings and advice as people read them, and as programs do. Pure.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Report, advice::Works, diagnosis::State};

/// Lines for a terminal.
pub fn lines(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    for finding in &report.findings {
        let diagnosis = finding.diagnosis;
        let (path, state, word) = (finding.path.as_str(), diagnosis.state().as_str(), diagnosis.as_str());
        let _ = write!(out, "{path:<11} {state:<7} {word}: {}", finding.seen);
        if diagnosis.state() != State::Good {
            let _ = write!(out, ". {} -> {}", diagnosis.meaning(), diagnosis.cure());
        }
        out.push('\n');
    }
    out.push('\n');
    for (number, advice) in report.advice.iter().enumerate() {
        let works = match advice.works {
            Works::Yes => "works",
            Works::Maybe => "may work",
            Works::No => "does not work",
        };
        let _ = writeln!(out, "{}. {} {works}", number + 1, advice.path);
        if advice.works != Works::No {
            let _ = writeln!(out, "   ascp {}", advice.flags.join(" "));
            if !advice.spec.is_empty() {
                let _ = writeln!(out, "   {}", Value::Object(advice.spec.clone()));
            }
        }
    }
    out
}

/// One JSON object.
pub fn json(report: &Report) -> Value {
    let finding = |f: &super::Finding| {
        json!({
            "path": f.path, "state": f.diagnosis.state(), "diagnosis": f.diagnosis.as_str(), "seen": f.seen,
            "meaning": f.diagnosis.meaning(), "cure": f.diagnosis.cure(),
        })
    };
    json!({
        "host": report.host,
        "verdict": report.verdict,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "advice": report.advice,
    })
}
