//! The one table that says what an operator may do in which phase of a migration, of a reset, of a VM's end.

use alloc::format;
use alloc::string::String;
use core::fmt::{self, Write};

use super::{Command, Phase, State};

/// What becomes of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ruling {
    /// It is carried out.
    Allowed,
    /// It waits for the phase's end, and is carried out where the VM runs here then.
    Queued,
    /// Nothing is done.
    Refused(Code),
}

/// How a refusal begins: a word of the console's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// Another operation on the same VM is under way.
    Busy,
    /// The VM's state does not allow it.
    State,
}

/// Why a command is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// How it begins.
    pub code: Code,
    /// Which phase or state, and what helps.
    pub text: String,
}

const A: Ruling = Ruling::Allowed;
const Q: Ruling = Ruling::Queued;
/// Refused for the sake of what goes on.
const B: Ruling = Ruling::Refused(Code::Busy);
/// Refused for the VM's state: it may run elsewhere, or there is nothing of the kind to do.
const S: Ruling = Ruling::Refused(Code::State);

/// States of a VM with which nothing goes on.
const RUNNING: &[State] = &[State::Running];
const PAUSED: &[State] = &[State::Paused];
const AT_REST: &[State] = &[State::Paused, State::Stopped];
const OWNED: &[State] = &[State::Running, State::Paused, State::Stopped];
const ANY: &[State] = &State::ALL;
const NEVER: &[State] = &[];

/// Where nothing goes on: the states that a command takes. Else: a ruling for each phase.
const fn row(command: Command) -> (&'static [State], [Ruling; 10]) {
    match command {
        //                           reset destroy setup memory still commit in-doubt arriving ready held
        Command::Pause => (RUNNING, [B, B, B, B, B, B, S, B, B, S]),
        Command::Resume => (PAUSED, [B, B, B, B, B, B, S, B, B, S]),
        Command::Start => (AT_REST, [B, B, B, B, B, B, S, B, B, S]),
        // The guest that powers off ends its migration.
        Command::Stop => (RUNNING, [B, B, A, A, B, B, S, B, B, S]),
        Command::Reset => (OWNED, [B, B, B, B, B, B, S, B, B, S]),
        // A reset of a terabyte, or one that waits for a CPU, need not be waited for.
        Command::Destroy => (OWNED, [A, B, B, B, B, B, S, B, B, S]),
        // Both hosts know the VM by the name that it had at the start.
        Command::Rename => (OWNED, [A, B, B, B, B, B, S, B, B, S]),
        Command::Inspect | Command::Dirty | Command::Check => (OWNED, [B, B, B, B, B, B, S, B, B, S]),
        Command::Audit => (OWNED, [B, B, A, A, B, B, S, B, B, S]),
        Command::Move => (RUNNING, [B, B, B, B, B, B, S, B, B, S]),
        Command::Cancel => (NEVER, [S, S, A, A, A, B, S, B, B, S]),
        Command::Resolve => (NEVER, [S, S, S, S, S, S, A, S, S, A]),
        // The UART's state goes along with the VM: what is typed after that waits.
        Command::Type => (ANY, [Q, Q, A, A, Q, Q, Q, Q, Q, Q]),
        Command::Look => (ANY, [A, A, A, A, A, A, A, A, A, A]),
    }
}

/// What becomes of a command on a VM.
#[must_use]
pub const fn ruling(command: Command, state: State, phase: Phase) -> Ruling {
    // Who takes bytes for a guest knows the VM and not its migration: the state says enough.
    if matches!(
        (command, state),
        (Command::Type, State::Leaving | State::Given | State::Unknown | State::Incoming)
    ) {
        return Q;
    }
    let (states, phases) = row(command);
    match phase.with(state) {
        Phase::None if takes(states, state) => A,
        Phase::None => S,
        phase => phases[phase as usize - 1],
    }
}

const fn takes(states: &[State], state: State) -> bool {
    let mut at = 0;
    while at < states.len() {
        if states[at] as u8 == state as u8 {
            return true;
        }
        at += 1;
    }
    false
}

/// Judges a command on the VM `name`, whose guest has `begun` or never run. True where it waits for the phase's end.
///
/// # Errors
/// It is refused: code, phase or state, and what helps.
pub fn judge(command: Command, name: &str, state: State, begun: bool, phase: Phase) -> Result<bool, Refusal> {
    if matches!((command, state, phase), (Command::Start, State::Paused, Phase::None)) && begun {
        let text = format!("vm {name} is paused: `vm resume {name}` lets it go on");
        return Err(Refusal { code: Code::State, text });
    }
    match ruling(command, state, phase) {
        Ruling::Allowed => Ok(false),
        Ruling::Queued => Ok(true),
        Ruling::Refused(code) => Err(Refusal { code, text: why(command, name, state, phase) }),
    }
}

fn why(command: Command, name: &str, state: State, phase: Phase) -> String {
    let phase = phase.with(state);
    let at = phase.name();
    let cancel = format!("`migrate cancel {name}`");
    let advice = match (command, phase) {
        (Command::Resolve | Command::Cancel, Phase::None | Phase::Reset | Phase::Destroy)
        | (Command::Resolve, _) => {
            let verb = if command == Command::Cancel { "cancel" } else { "resolve" };
            return format!("vm {name} is {}: there is nothing to {verb}", state.name());
        }
        (Command::Start, Phase::None) if state == State::Running => {
            return format!("vm {name} is running: `vm reset {name} --force` boots it anew");
        }
        (Command::Resume, Phase::None) if state == State::Stopped => {
            return format!("vm {name} is stopped, not paused: `vm start {name}` boots it anew");
        }
        (_, Phase::None) => {
            return format!("vm {name} is {}, not {}", state.name(), Or(row(command).0));
        }
        (_, Phase::Reset) => {
            return format!("vm {name} is being reset (phase {at}): say it again once it runs");
        }
        (_, Phase::Destroy) => return format!("vm {name} is being destroyed (phase {at})"),
        (_, Phase::InDoubt | Phase::Held) => {
            let resolve = format!("migrate resolve {name}");
            return format!("vm {name} is unknown ({at}): say `{resolve} run-here` or `{resolve} discard`");
        }
        (_, Phase::Setup | Phase::Memory | Phase::Still) => format!("{cancel} ends it"),
        (_, Phase::Commit) => "it is handed over, and that ends by itself".into(),
        (_, Phase::Arriving) => format!("{cancel} on its source ends it"),
        (_, Phase::Ready) => "its source decides".into(),
    };
    format!("vm {name} is in a migration (phase {at}): {advice}")
}

/// States, as a list in a sentence.
struct Or(&'static [State]);

impl fmt::Display for Or {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, state) in self.0.iter().enumerate() {
            let joint = match place {
                0 => "",
                _ if place + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(f, "{joint}{}", state.name())?;
        }
        Ok(())
    }
}

/// The table in Markdown, as `docs/migration.md` has it.
#[must_use]
pub fn table() -> String {
    let mut text = String::from("| | none |");
    let phases = || Phase::ALL.into_iter().skip(1);
    // Writing to a String cannot fail.
    let _ = phases().try_for_each(|phase| write!(text, " {} |", phase.name()));
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(Phase::ALL.len()));
    text.push('\n');
    for command in Command::ALL {
        let states = row(command).0;
        let none = match states.len() {
            0 => "`state`".into(),
            len if len == State::ALL.len() => String::from("yes"),
            _ if command == Command::Start => String::from("paused (and never run), or stopped"),
            _ => format!("{}", Or(states)),
        };
        let _ = write!(text, "| {} | {none} |", command.words());
        for phase in phases() {
            let cell = match ruling(command, State::Running, phase) {
                Ruling::Allowed => "yes",
                Ruling::Queued => "waits",
                Ruling::Refused(Code::Busy) => "`busy`",
                Ruling::Refused(Code::State) => "`state`",
            };
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ownership::Change;

    /// What a command would change by itself, where it is carried out.
    fn change(command: Command) -> Option<Change> {
        match command {
            Command::Pause | Command::Inspect => Some(Change::Pause),
            Command::Resume | Command::Start => Some(Change::Run),
            Command::Reset => Some(Change::Reset),
            _ => None,
        }
    }

    #[test]
    fn nothing_that_starts_or_ends_a_vm_is_allowed_in_a_migration() {
        for command in Command::ALL {
            for phase in Phase::ALL.into_iter().skip(1) {
                let allowed = ruling(command, State::Running, phase) == A;
                assert!(!allowed || change(command).is_none(), "{command:?} in {phase:?}");
                let resets = phase == Phase::Reset;
                assert!(!allowed || resets || command != Command::Destroy, "destroyed in {phase:?}");
            }
        }
    }

    #[test]
    fn a_refusal_names_code_phase_and_cure() {
        let said = |command, state, phase| judge(command, "web", state, true, phase).unwrap_err();
        let busy = said(Command::Resume, State::Leaving, Phase::Still);
        assert_eq!(busy.code, Code::Busy);
        assert_eq!(busy.text, "vm web is in a migration (phase still): `migrate cancel web` ends it");
        for command in Command::ALL {
            for phase in Phase::ALL.into_iter().skip(1) {
                if let Err(refusal) = judge(command, "web", State::Leaving, true, phase) {
                    let nothing = matches!(command, Command::Resolve | Command::Cancel);
                    let named = refusal.text.contains(phase.name()) || nothing;
                    assert!(named && refusal.text.starts_with("vm web is "), "{}", refusal.text);
                }
            }
        }
        for (command, state, text) in [
            (Command::Pause, State::Paused, "vm web is paused, not running"),
            (Command::Start, State::Running, "vm web is running: `vm reset web --force` boots it anew"),
            (Command::Start, State::Paused, "vm web is paused: `vm resume web` lets it go on"),
            (Command::Resume, State::Stopped, "vm web is stopped, not paused: `vm start web` boots it anew"),
            (Command::Cancel, State::Running, "vm web is running: there is nothing to cancel"),
            (Command::Resolve, State::Running, "vm web is running: there is nothing to resolve"),
        ] {
            let refusal = said(command, state, Phase::None);
            assert_eq!((refusal.code, refusal.text.as_str()), (Code::State, text));
        }
        // What was made with `paused` has not run: that is what `vm start` is for.
        assert_eq!(judge(Command::Start, "web", State::Paused, false, Phase::None), Ok(false));
        assert_eq!(judge(Command::Resume, "web", State::Paused, true, Phase::None), Ok(false));
        let doubt = said(Command::Destroy, State::Unknown, Phase::Held);
        let text =
            "vm web is unknown (held): say `migrate resolve web run-here` or `migrate resolve web discard`";
        assert_eq!((doubt.code, doubt.text.as_str()), (Code::State, text));
    }

    /// Whoever judges need not know of resets: the state says it.
    #[test]
    fn a_reset_is_a_phase() {
        let said = |command| judge(command, "web", State::Resetting, true, Phase::None);
        for command in [Command::Start, Command::Reset, Command::Move, Command::Pause, Command::Dirty] {
            let refusal = said(command).unwrap_err();
            assert_eq!(refusal.code, Code::Busy);
            assert_eq!(refusal.text, "vm web is being reset (phase reset): say it again once it runs");
        }
        assert_eq!([said(Command::Destroy), said(Command::Type)], [Ok(false), Ok(true)]);
        assert_eq!(
            said(Command::Cancel).unwrap_err().text,
            "vm web is resetting: there is nothing to cancel"
        );
        for command in Command::ALL {
            let refused = judge(command, "web", State::Ending, true, Phase::None).is_err();
            assert_eq!(refused, !matches!(command, Command::Type | Command::Look), "{command:?}");
        }
    }

    #[test]
    fn rows_and_columns_are_places() {
        for (place, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, place);
        }
        assert_eq!(table().lines().count(), 2 + Command::ALL.len());
    }
}
