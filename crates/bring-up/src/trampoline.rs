//! What an application processor must undo before it can run on the kernel's page tables.

/// Which bits of IA32_MISC_ENABLE's upper half an application processor clears before it sets EFER.NXE: bit 34 disables
/// Execute Disable, and EFER.NXE is reserved while it is set (SDM 4, table 2-2), so that the write is a #GP that nobody
/// handles. Firmware sets it on each CPU. None where the register is not known to be there: `misc_enable` is what the
/// first CPU reads.
pub const fn misc_enable_high_clear(intel: bool, misc_enable: Option<u64>) -> u32 {
    const XD_DISABLE: u64 = 1 << 34;
    if intel && misc_enable.is_some() { (XD_DISABLE >> 32) as u32 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::misc_enable_high_clear as clear;

    /// Fault 2.3: with Execute Disable off in firmware no other CPU came up.
    #[test]
    fn execute_disable_is_given_back_where_the_register_is() {
        assert_eq!(clear(true, Some(1 << 34 | 1)), 4);
        // Firmware may have set it on one CPU and not on the first.
        assert_eq!(clear(true, Some(1)), 4);
        assert_eq!(clear(true, None), 0);
        // Elsewhere the number is another register's, or nobody's.
        assert_eq!(clear(false, Some(0)), 0);
    }

    /// The order of the trampoline itself, which no emulator here would punish.
    #[test]
    fn the_trampoline_clears_it_before_efer() {
        const TRAMPOLINE: &str = include_str!("../../../kernel/hw/src/arch/trampoline.s");
        let at = |text: &str| TRAMPOLINE.find(text).expect(text);
        assert!(at("ap_misc_enable_clear - ap_trampoline") < at("$0x1a0, %ecx"));
        assert!(at("$0x1a0, %ecx") < at("$0xc0000080, %ecx"));
    }
}
