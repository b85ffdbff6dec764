//! `docs/boot-options.md`, made from the tables.

use alloc::string::String;
use core::fmt::Write;

use crate::host;
use crate::module::{FOR_TABLE, VM_TABLE};
use crate::table::Spec;

const INTRO: &str = "\
# Boot options

<!-- Made from the tables in crates/cmdline; `UPDATE_DOCS=1 cargo test -p cmdline` writes it anew. -->

Every option is `name=value`, or a bare name for a switch. Blanks separate options; a value with blanks stands in
double quotes, and `\\\"` or `\\\\` stand for the character itself. A first word without `=` that contains `/` is the
path some boot loaders put there, and is passed over: give such a loader a path with a `/`.

    multiboot2 /boot/flexvisor.elf console=com1 ip=10.0.0.1/24 migrate=listen com2=vm:demo
    module2 /boot/vmlinux vm=demo mem=256 level=haswell -- console=ttyS0 quiet
    module2 /boot/initrd.img for=demo

";

const HOST: &str = "\
## The host: the boot line

An unknown option or a wrong value gives a warning in the log that names both; the option keeps its default, or the
value it was given first. An option may have `--` before it. Words behind ` -- ` are ignored.

";

const VM: &str = "
## A VM: the line of its kernel's module

A module whose line has `vm=NAME` describes a VM and is its kernel. Names of VMs and levels are up to 31 letters a-z,
digits and `-`. Everything behind ` -- ` is the guest's own command line, verbatim. An unknown option, a wrong value or
one given twice refuses that VM, by option and value; the host comes up all the same.

";

const FOR: &str = "
## What belongs to a VM: further modules

Everything behind ` -- ` is the module's string, verbatim (a Multiboot guest sees it). A fault refuses the VM.

";

const KEY: &str = "
## The pool key: a module of its own

A module whose line has the word `pool-key` holds the pool key, 64 hexadecimal digits, in place of `key=` on the boot
line. The log and the console show neither, nor `hostkey=` and `seed=`.
";

const CONFIG: &str = "
## Options in a file: a module of its own

A module whose line has the word `config`, or `config=NAME` (the name that warnings call it), is a text file of host
options: one or more a line, `#` begins a comment, at most 64 KiB. The boot line wins over it, and of more than one such
module the first. An unknown option or a wrong value gives a warning with file and line and changes nothing; a file that is
no text is ignored with an error in the log. This is how one server gives each host its own settings.

    # rack 3, host 7
    ip=10.0.3.7/24,10.0.3.1  name=rack3-7
    migrate=listen pool=rack3

`flexvisor.efi` reads such files itself, `host.cfg/MAC`, `host.cfg/UUID` and `flexvisor.cfg` beside it, and takes rows
`module FILE LINE` in them as boot modules (`boot.md`); on its boot line (load options) the same is
`module=\"FILE LINE\"`. What it finds wrong it hands over as a module whose line has the word `loader-errors`: each line of
that becomes an error in the log.
";

/// The whole text of the documentation page.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(INTRO);
    page.push_str(HOST);
    rows(&mut page, host::TABLE);
    page.push_str(VM);
    rows(&mut page, VM_TABLE);
    page.push_str(FOR);
    rows(&mut page, FOR_TABLE);
    page.push_str(KEY);
    page.push_str(CONFIG);
    page
}

fn rows<T>(page: &mut String, table: &[Spec<T>]) {
    page.push_str("| option | default | meaning |\n|---|---|---|\n");
    for spec in table {
        let equals = if spec.form.is_empty() { "" } else { "=" };
        let default = if spec.default.is_empty() { "-" } else { spec.default };
        // `|` separates cells even inside a code span.
        let form = spec.form.replace('|', "\\|");
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{}{equals}{form}` | `{default}` | {} |", spec.name, spec.help);
    }
}
