/// What follows when a guest resets its machine: by port 0xCF9 or 0x92, the keyboard controller, ACPI, or a triple fault.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum OnReset {
    /// It boots anew.
    #[default]
    Restart,
    /// It is over.
    Stop,
}

impl OnReset {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Restart, Self::Stop];

    /// The word for it on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Stop => "stop",
        }
    }
}
