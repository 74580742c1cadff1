//! Registers families and remembers what they are, so that the documentation can be held to them.

use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

type Result<T> = std::result::Result<T, prometheus::Error>;

/// What a family is called, labelled with and good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// The full name.
    pub name: String,
    /// The names of its labels.
    pub labels: Vec<String>,
    /// The help text.
    pub help: String,
}

/// A registry in the making.
#[derive(Debug, Default)]
pub(super) struct Families {
    pub(super) registry: Registry,
    pub(super) all: Vec<Family>,
}

impl Families {
    pub(super) fn add<C: Collector + Clone + 'static>(&mut self, family: C) -> Result<C> {
        self.all.extend(family.desc().iter().map(|d| Family {
            name: d.fq_name.clone(),
            labels: d.variable_labels.clone(),
            help: d.help.clone(),
        }));
        self.registry.register(Box::new(family.clone()))?;
        Ok(family)
    }

    pub(super) fn counters(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        self.add(IntCounterVec::new(opts(name, help), labels)?)
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) -> Result<IntCounter> {
        self.add(IntCounter::with_opts(opts(name, help))?)
    }

    pub(super) fn gauges(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(opts(name, help), labels)?)
    }

    pub(super) fn float_gauges(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
        self.add(GaugeVec::new(opts(name, help), labels)?)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Result<IntGauge> {
        self.add(IntGauge::with_opts(opts(name, help))?)
    }

    pub(super) fn float_gauge(&mut self, name: &str, help: &str) -> Result<Gauge> {
        self.add(Gauge::with_opts(opts(name, help))?)
    }

    pub(super) fn histograms(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec> {
        let opts = HistogramOpts::new(full(name), help).buckets(buckets.to_vec());
        self.add(HistogramVec::new(opts, labels)?)
    }
}

pub(super) fn opts(name: &str, help: &str) -> Opts {
    Opts::new(full(name), help)
}

fn full(name: &str) -> String {
    format!("fallgate_{name}")
}
