//! Task runner behind scripts/.

fn main() {}
