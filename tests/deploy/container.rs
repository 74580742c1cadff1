//! The image, and what `compose.yaml` puts around it.
