//! Arguments → telemetry → configuration → command → exit status.

fn main() {}
