//! Writes anew the seeds that the crates themselves can make: after a change of a format.

use std::fs;

fn main() -> std::io::Result<()> {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");
    for (target, name, bytes) in flexvisor_fuzz::made_seeds() {
        fs::create_dir_all(format!("{corpus}/{target}"))?;
        fs::write(format!("{corpus}/{target}/{name}"), bytes)?;
    }
    Ok(())
}
