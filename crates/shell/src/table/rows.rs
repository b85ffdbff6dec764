//! The rows of the table: each command once, for parser, help and docs. A file a family.

use super::Spec;

mod args;
mod cpu;
mod general;
mod host;
mod migrate;
mod pool;
mod vm;

/// The families in the order in which `help` lists them.
const FAMILIES: [&[Spec]; 6] = [general::ROWS, vm::ROWS, cpu::ROWS, pool::ROWS, migrate::ROWS, host::ROWS];

/// Every command, in the order in which `help` lists them.
pub const COMMANDS: &[Spec] = &join();

const COUNT: usize = {
    let (mut count, mut at) = (0, 0);
    while at < FAMILIES.len() {
        count += FAMILIES[at].len();
        at += 1;
    }
    count
};

const fn join() -> [Spec; COUNT] {
    let mut all = [FAMILIES[0][0]; COUNT];
    let (mut to, mut family) = (0, 0);
    while family < FAMILIES.len() {
        let mut at = 0;
        while at < FAMILIES[family].len() {
            all[to] = FAMILIES[family][at];
            to += 1;
            at += 1;
        }
        family += 1;
    }
    all
}
