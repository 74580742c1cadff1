//! The units, and the sysctl file beside them.
