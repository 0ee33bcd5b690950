//! Nothing. Without a build script, cargo leaves out the dependencies of build scripts.

fn main() {}
