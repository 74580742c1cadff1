//! Tables of ratios, as Markdown.

use std::fmt;

use super::rounds::Measured;

/// The lines of one case.
pub(crate) struct Table {
    title: String,
    unit: &'static str,
    lines: Vec<Line>,
}

struct Line {
    name: String,
    goal: Option<f64>,
    measured: Measured,
}

impl Table {
    /// A table of one case; `unit` is that of the absolute figure of fallgate.
    pub(crate) fn new(title: &str, unit: &'static str) -> Table {
        Table { title: title.to_owned(), unit, lines: Vec::new() }
    }

    /// Adds a line; `goal` is the highest good ratio of fallgate to the best other proxy.
    pub(crate) fn add(&mut self, name: &str, goal: Option<f64>, measured: Measured) {
        self.lines.push(Line { name: name.to_owned(), goal, measured });
    }
}

impl Line {
    /// The other proxy that did best.
    fn best(&self) -> Option<usize> {
        let m = &self.measured;
        let others = (0..m.names.len()).filter(|i| matches!(m.names[*i].as_str(), "HAProxy" | "nginx"));
        others.min_by(|a, b| m.median(*a).total_cmp(&m.median(*b)))
    }

    fn verdict(&self) -> String {
        let (Some(goal), Some(best)) = (self.goal, self.best()) else {
            return "-".to_owned();
        };
        let [low, middle, high] = self.measured.ratio(0, best);
        let word = match () {
            () if middle > goal && low <= goal => "missed, within noise",
            () if middle > goal => "missed",
            () if high > goal => "met, within noise",
            () => "met",
        };
        format!("{word} (<= {goal:.2})")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.lines.first() else {
            return Ok(());
        };
        let others = first.measured.names.get(1..).unwrap_or_default();
        writeln!(f, "\n### {}\n", self.title)?;
        write!(f, "| line | {}, {} |", first.measured.names[0], self.unit)?;
        others.iter().try_for_each(|name| write!(f, " to {name} |"))?;
        writeln!(f, " goal | rounds |")?;
        writeln!(f, "|---|---|{}---|---|", "---|".repeat(others.len()))?;
        for line in &self.lines {
            let m = &line.measured;
            write!(f, "| {} | {:.3} |", line.name, m.median(0))?;
            for other in 1..m.names.len() {
                let [low, middle, high] = m.ratio(0, other);
                write!(f, " **{middle:.2}** ({low:.2}-{high:.2}) |")?;
            }
            let rounds = m.values[0].len();
            let unsure = if m.unsure { ", busy machine" } else { "" };
            writeln!(f, " {} | {rounds}{unsure} |", line.verdict())?;
        }
        Ok(())
    }
}
