//! Commands about the host itself.

use core::net::Ipv4Addr;

use super::{LogLevel, Output};

/// What is asked of the host itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostCommand {
    /// Print the version.
    Version(Output),
    /// Show the wall clock.
    Date(Output),
    /// Show how long the host has been up.
    Uptime(Output),
    /// Show how the host was booted, and what each stage took.
    Boot(Output),
    /// Show the boot options in force and where each came from.
    Config(Output),
    /// Print the command line that would keep the settings of now.
    ConfigLine,
    /// Print the log's ring, of this boot or of the one before.
    Dmesg {
        /// The one before.
        previous: bool,
        /// Times are in UTC.
        utc: bool,
        /// How to print it.
        output: Output,
    },
    /// Print the log's lines as they come.
    Follow {
        /// Times are in UTC.
        utc: bool,
    },
    /// Print what happened on the host.
    Events {
        /// And what happens from now on.
        follow: bool,
        /// Times are in UTC.
        utc: bool,
        /// How to print it; JSON has an object a line.
        output: Output,
    },
    /// List who is connected to the host.
    Sessions(Output),
    /// Show the log's levels.
    LogLevels(Output),
    /// Set the level of a sink, or of both.
    Log(Option<LogSink>, LogLevel),
    /// Show the network card and the address.
    NetShow(Output),
    /// Show the network's counters.
    NetStats(Output),
    /// Send ICMP echo requests to a host.
    NetPing(Ipv4Addr),
    /// Show the host's memory.
    Mem(Output),
    /// Show what is going on, again and again or once.
    Top {
        /// Once.
        once: bool,
        /// Forget the longest turn so far.
        anew: bool,
        /// How to print it; JSON is always once.
        output: Output,
    },
    /// Check the host, as far as that can be done while it does its work.
    Selftest(Output),
    /// Read a model-specific register.
    MsrRead {
        /// Its number.
        number: u32,
        /// How to print it.
        output: Output,
    },
    /// Write a model-specific register.
    MsrWrite {
        /// Its number.
        number: u32,
        /// The value.
        value: u64,
        /// Always wanted.
        force: bool,
    },
    /// Leave VMX operation on every CPU and reset the machine.
    Reboot {
        /// Wanted while a VM runs.
        force: bool,
    },
    /// Leave VMX operation on every CPU and switch the machine off.
    Poweroff {
        /// Wanted while a VM runs.
        force: bool,
    },
}

/// Where log lines go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogSink {
    /// The console's serial port.
    Console,
    /// The ring in memory that `dmesg` prints.
    Ring,
}
