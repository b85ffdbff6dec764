//! The pool and its keys.

use super::args::{HOST, JSON, KEY, MEMBER};
use crate::command::{Command, PoolCommand};
use crate::table::Spec;

pub(super) const ROWS: &[Spec] = &[
    Spec {
        words: &["pool", "show"],
        args: &[JSON],
        summary: "Show the pool: members, level, their cost.",
        details: "The level is what all members can give, computed by each of them from the same policies; equal fingerprints \
                  mean that they agree.",
        dangerous: false,
        build: |v| Command::Pool(PoolCommand::Show, v.output),
    },
    Spec {
        words: &["pool", "join"],
        args: &[HOST],
        summary: "Join the pool that a host is in.",
        details: "Running VMs keep what they were told. Those that a member cannot take are named before and after. \
                  The host is a member until its next boot: `pool=` and `peers=` on the command line make it one for good.",
        dangerous: false,
        build: |v| Command::Pool(PoolCommand::Join(v.host), v.output),
    },
    Spec {
        words: &["pool", "leave"],
        args: &[],
        summary: "Leave the pool.",
        details: "Changes nothing for running VMs.",
        dangerous: false,
        build: |v| Command::Pool(PoolCommand::Leave, v.output),
    },
    Spec {
        words: &["pool", "preview"],
        args: &[HOST, JSON],
        summary: "Say what would follow if a host joined.",
        details: "The level before and after, and the VMs that the host could not take. Nothing is changed.",
        dangerous: false,
        build: |v| Command::Pool(PoolCommand::Preview(v.host), v.output),
    },
    Spec {
        words: &["pool", "forget"],
        args: &[MEMBER],
        summary: "Count a lost member no more.",
        details: "A member that is lost still counts for the level. One that is gone for good is forgotten here, and by \
                  that on all members. If it comes back, it is a member again.",
        dangerous: false,
        build: |v| Command::Pool(PoolCommand::ForgetMember(v.subject(0)), v.output),
    },
    Spec {
        words: &["pool", "key"],
        args: &[KEY],
        summary: "Set the pool key that links are made with.",
        details: "64 hexadecimal digits from `flexctl keygen`. It is not shown again, and passphrases are refused. It is \
                  kept until the next boot: `key=` on the command line, or a `pool-key` module, keeps it for good.",
        dangerous: false,
        build: |v| Command::Pool(PoolCommand::Key(v.secret), v.output),
    },
    Spec {
        words: &["pool", "keys"],
        args: &[JSON],
        summary: "List the static keys of the hosts.",
        details: "A host's key is pinned when it is first met; another key from the same address is refused.",
        dangerous: false,
        build: |v| Command::Pool(PoolCommand::Keys, v.output),
    },
    Spec {
        words: &["pool", "keys", "forget"],
        args: &[HOST],
        summary: "Forget the key pinned for a host.",
        details: "For a host that was set up anew. Its next key is pinned in turn.",
        dangerous: false,
        build: |v| Command::Pool(PoolCommand::Forget(v.host), v.output),
    },
];
