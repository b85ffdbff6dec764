//! MSR values that the operator gives for dumps without them.

use cpu_policy::{ARCH_CAPABILITIES, Dump, DumpError};

/// Values for hosts whose dump does not have them: `cpuid -r` reads no MSRs.
#[derive(clap::Args)]
pub(crate) struct Supplied {
    /// IA32_ARCH_CAPABILITIES (MSR 10A) of hosts whose dump does not tell; on Linux `rdmsr 0x10a` prints it.
    #[arg(long, value_name = "HEX", value_parser = hex)]
    arch_capabilities: Option<u64>,
    /// The same of any other MSR, such as those of VMX from 480 to 493.
    #[arg(long, value_name = "INDEX=HEX", value_parser = msr)]
    msr: Vec<(u32, u64)>,
}

impl Supplied {
    /// Adds what the dump does not tell.
    ///
    /// # Errors
    /// Too many MSRs.
    pub(crate) fn to(&self, dump: &mut Dump) -> Result<(), DumpError> {
        let named = self.arch_capabilities.map(|value| (ARCH_CAPABILITIES, value));
        named
            .into_iter()
            .chain(self.msr.iter().copied())
            .try_for_each(|(index, value)| dump.supply_msr(index, value))
    }
}

fn hex(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let value = if is_hex { u64::from_str_radix(digits, 16).ok() } else { None };
    value.ok_or_else(|| format!("{text} is no hexadecimal number of 64 bits"))
}

fn msr(text: &str) -> Result<(u32, u64), String> {
    let (index, value) = text.split_once('=').ok_or("INDEX=HEX is expected, both hexadecimal")?;
    let number = u32::try_from(hex(index)?).map_err(|_| format!("{index} is no number of an MSR"))?;
    Ok((number, hex(value)?))
}
