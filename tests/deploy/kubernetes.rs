//! The manifests for Kubernetes and the chart: what `kubectl kustomize` and Helm make of them, judged by the schemas of the
//! API, by the gateway itself, and one beside the other. There is no cluster here.

mod alerts;
mod chart;
mod gateway;
mod manifests;
mod ports;
mod rendered;

/// Where all of it is.
const FOLDER: &str = "deploy/kubernetes";

/// The folders that are whole: what is to be applied.
const WHOLE: [&str; 8] = [
    "base",
    "overlays/aws",
    "overlays/azure",
    "overlays/gke",
    "overlays/ha",
    "overlays/metallb",
    "overlays/metallb-split",
    "site",
];

/// Those in which something is left to be filled in.
const TO_FILL_IN: [&str; 2] = ["overlays/metallb-split", "site"];
