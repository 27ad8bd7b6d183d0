//! The `triggerd` command.

fn main() {}
