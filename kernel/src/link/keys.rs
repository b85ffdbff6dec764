//! Where this host's keys come from, and whether it may have links at all.

use alloc::string::{String, ToString};

use cmdline::{Secret, Secrets};
use entropy::{Generator, NotEnough};
use secure_link::{HostKey, PoolKey, Security};

use crate::entropy as host_entropy;

/// How to get a key, said wherever there is none.
const CURE: &str = "give this host key= or a boot module `pool-key`, or say `pool key HEX64` (`flexctl keygen` makes one); \
                    `insecure` does without";

/// This host's links: how they are secured, or why there are none.
pub(super) fn choose(insecure: bool, secrets: &Secrets, module: Option<&[u8]>) -> Result<Security, String> {
    let from_module = match module {
        None => None,
        Some(bytes) => Some(read_module(bytes)?),
    };
    if secrets.key.is_some() && from_module.is_some() {
        log::warn!(target: "link", "key= and a module `pool-key`: the boot line's key counts");
    }
    match secrets.key.as_ref().or(from_module.as_ref()) {
        Some(key) => {
            if insecure {
                log::warn!(target: "link", "`insecure` is ignored: this host has a pool key");
            }
            keyed(key, secrets.host_key.as_ref())
        }
        None if insecure => Ok(Security::Insecure),
        None => Err(alloc::format!("no pool key: {CURE}")),
    }
}

/// The pool key and this host's own, made anew where it has none.
pub(super) fn keyed(key: &Secret, host_key: Option<&Secret>) -> Result<Security, String> {
    let pool = PoolKey::new(*key.bytes()).map_err(|why| alloc::format!("the pool key: {why}"))?;
    // Every link needs a one-time key: a host that cannot make one is told now.
    let mut generator = host_entropy::generator().map_err(|why| why.to_string())?;
    let private = host_key.map_or_else(|| generator.key(), |key| *key.bytes());
    let host = HostKey::new(private).map_err(|why| alloc::format!("hostkey=: {why}"))?;
    Ok(Security::Keyed { pool, host })
}

/// A module's text: 64 hexadecimal digits, blanks around them.
fn read_module(bytes: &[u8]) -> Result<Secret, String> {
    let text = core::str::from_utf8(bytes).ok().map(|text| text.trim_matches(['\0', ' ', '\t', '\r', '\n']));
    text.and_then(Secret::from_hex).ok_or_else(|| "module `pool-key`: not 64 hexadecimal digits".into())
}

/// The numbers for one link. An insecure one needs none.
pub(super) fn generator(security: &Security) -> Result<Generator, NotEnough> {
    match security {
        Security::Keyed { .. } => host_entropy::generator(),
        Security::Insecure => Ok(Generator::from_secret([0; 32])),
    }
}
