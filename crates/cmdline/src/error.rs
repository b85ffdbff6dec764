//! What can be wrong with a line, said with the option's name and value.

use alloc::string::String;
use core::fmt;

/// One fault of a boot or module line.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OptionError {
    /// A word that names no option of this line.
    #[error("unknown option `{}`{}", .word.escape_debug(), Near(.near))]
    Unknown {
        /// The whole word.
        word: String,
        /// The option it resembles most, if any does.
        near: Option<&'static str>,
    },
    /// The option exists, its value does not fit.
    #[error("option {name}={}: expected {form}", .value.escape_debug())]
    BadValue {
        /// The option.
        name: &'static str,
        /// The value as given.
        value: String,
        /// The form the table asks for.
        form: &'static str,
    },
    /// `name` without `=value`.
    #[error("option {name} has no value: expected {name}={form}")]
    NoValue {
        /// The option.
        name: &'static str,
        /// The form the table asks for.
        form: &'static str,
    },
    /// A flag that was given a value.
    #[error("option {name}={}: {name} takes no value", .value.escape_debug())]
    FlagValue {
        /// The flag.
        name: &'static str,
        /// The value as given.
        value: String,
    },
    /// The option was given before on the same line.
    #[error("option {name}={} is given twice", .value.escape_debug())]
    Twice {
        /// The option.
        name: &'static str,
        /// The later value.
        value: String,
    },
    /// A needed option is missing.
    #[error("option {name} is missing")]
    Missing {
        /// The option.
        name: &'static str,
    },
    /// A value that another option must go with.
    #[error("option {name}={value} needs {needs}")]
    Needs {
        /// The option.
        name: &'static str,
        /// The value as given.
        value: &'static str,
        /// The other one, as it is to be given.
        needs: &'static str,
    },
    /// vCPUs that cannot be laid out as `topology=` says.
    #[error("option {0}")]
    Topology(vm_types::TopologyError),
    /// A `"` without its partner.
    #[error("unclosed quote in `{}`", .word.escape_debug())]
    OpenQuote {
        /// The word from its start to the end of the line.
        word: String,
    },
    /// A `module` row of a configuration file that came as a boot module itself.
    #[error("`module` rows are read by flexvisor.efi only: name the file to the boot loader")]
    ModuleRow,
    /// A serial port given to a VM that the host's own console uses.
    #[error("option {name}={}: the host's console is on {name} (move it with console=)", .value.escape_debug())]
    ConsolePort {
        /// `com1` or `com2`.
        name: &'static str,
        /// The value as given.
        value: String,
    },
}

struct Near<'a>(&'a Option<&'static str>);

impl fmt::Display for Near<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |near| write!(f, " (did you mean `{near}`?)"))
    }
}

/// A fault of the host's options: the option keeps the value it had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: {error}", .from.escape_debug())]
pub struct Warning {
    /// Where it stands: `boot line`, or a file and the number of its line.
    pub from: String,
    /// What is wrong.
    pub error: OptionError,
}

/// A fault of a module's line: the VM it belongs to cannot start.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("vm {}: refused: {error}", .vm.escape_debug())]
pub struct Refused {
    /// The VM's name as the line gives it, even where the name itself is at fault.
    pub vm: String,
    /// Why.
    pub error: OptionError,
}
