//! The manifests for Kubernetes.
