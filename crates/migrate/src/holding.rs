//! What one end sent against what the other holds.

use crate::body::Holding;
use crate::reason::Reason;

/// Compares what was sent with what is held.
pub(crate) fn differs(sent: &Holding, held: &Holding) -> Result<(), Reason> {
    let pairs = [
        ("pages", sent.pages, held.pages),
        ("zero pages", sent.zero, held.zero),
        ("fill pages", sent.fill, held.fill),
        ("memory records", sent.memory_records, held.memory_records),
        ("state records", sent.state_records, held.state_records),
        ("digests", sent.digest, held.digest),
    ];
    let ram = sent.ram != held.ram;
    match pairs.into_iter().find(|(_, sent, held)| sent != held) {
        Some((what, sent, held)) => Err(Reason::Differs { what, sent, held }),
        None if ram => Err(Reason::Differs {
            what: "digests of RAM",
            sent: sent.ram.unwrap_or_default(),
            held: held.ram.unwrap_or_default(),
        }),
        None => Ok(()),
    }
}
