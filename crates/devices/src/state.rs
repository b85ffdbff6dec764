//! Device state as records: numbered CBOR fields, checked field by field on the way in.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::LowerHex;
use minicbor::{Decode, Encode};
use vm_types::{StateError, StateRecord, decode_strict};

/// Encodes `fields` as the record of one device.
pub(crate) fn encode<T: Encode<()>>(kind: &str, instance: u16, version: u16, fields: &T) -> StateRecord {
    // Writing into a Vec cannot fail.
    let body = minicbor::to_vec(fields).unwrap_or_default();
    StateRecord { kind: kind.to_string(), instance, version, body }
}

/// Decodes a record of exactly `version`, all of it.
pub(crate) fn decode<'b, T: Decode<'b, ()> + Encode<()>>(
    record: &'b StateRecord,
    version: u16,
) -> Result<T, StateError> {
    let refuse = |why| StateError { kind: record.kind.clone(), why };
    if record.version != version {
        return Err(refuse(format!("version {} is unknown, {version} is known", record.version)));
    }
    decode_strict(&record.body).map_err(|why| refuse(format!("body: {why}")))
}

/// Refuses a field's value that the device can never hold.
pub(crate) fn ensure(ok: bool, kind: &str, field: &str, value: impl LowerHex) -> Result<(), StateError> {
    if ok {
        return Ok(());
    }
    Err(StateError { kind: kind.to_string(), why: format!("{field} = {value:#x} is out of range") })
}

/// The record of one device among those of a machine, where there is exactly one.
pub(crate) fn find<'r>(
    records: &'r [StateRecord],
    kind: &str,
    instance: u16,
) -> Result<&'r StateRecord, StateError> {
    let mut found = records.iter().filter(|record| record.kind == kind && record.instance == instance);
    match (found.next(), found.next()) {
        (Some(record), None) => Ok(record),
        (Some(_), Some(_)) => Err(refuse(kind, format!("instance {instance} is there twice"))),
        (None, _) => Err(refuse(kind, format!("instance {instance} is missing"))),
    }
}

/// The refusal of a record of this kind.
pub(crate) fn refuse(kind: &str, why: String) -> StateError {
    StateError { kind: kind.to_string(), why }
}
