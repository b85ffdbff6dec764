//! One operator's conversation with the host: command lines in, answers out. It knows nothing of the transport, so
//! that a serial port and a link run the same commands.

use alloc::string::String;
use core::fmt::Write;
use core::task::Poll;
use shell::{Code, Command, Failure, Folded, TermSettings};

use super::answer::{Attachment, Done, Job};
use super::out::Out;
use super::{commands, migrate};
use crate::ended::Ended;
use crate::meter::{self, Part};
use crate::migration::Migrations;
use crate::pool;
use hw::arch::tsc;

/// How often the live line is rewritten, in microseconds.
const LIVE_US: u64 = 500_000;

/// Who says that a [`Job`] has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    /// [`Migrations::poll`].
    Migration,
    /// [`crate::pool::poll`].
    Pool,
}

/// How a line was taken.
pub(crate) enum Step {
    /// It was blank: no answer.
    Nothing,
    /// It was answered. How it ended is for the transport to say: on a terminal by [`finish`].
    Answered(Result<(), Failure>),
    /// Its end follows, by [`Session::poll`] or [`Session::ended`].
    Waits,
    /// The transport is a guest's now, until it says [`finish`].
    Attach(Attachment),
    /// The transport is asked to show what terminal it is, or to change that, and then to say [`finish`].
    Term(TermSettings),
    /// The session is to end; a console that is always there stays.
    Exit,
}

/// The state of one conversation.
#[derive(Default)]
pub(crate) struct Session {
    /// What a command began and the prompt waits for.
    job: Option<Job>,
    /// When the live line was printed last, in host TSC ticks.
    shown: u64,
}

impl Session {
    /// Whether a command has not ended: another one must wait.
    pub(crate) fn waits(&self) -> bool {
        self.job.is_some()
    }

    /// Runs one line. The answer goes to `out`.
    pub(crate) fn run(&mut self, line: &str, migrations: &mut Migrations, out: &mut Out<'_>) -> Step {
        meter::doing(Part::Command);
        let done = match shell::parse(line) {
            Ok(Command::Empty) => return Step::Nothing,
            Ok(command) => commands::execute(command, migrations, out),
            Err(error) => Err(error.into()),
        };
        match done {
            Ok(Done::Now) => Step::Answered(Ok(())),
            Ok(Done::Later(job)) => {
                self.job = Some(job);
                Step::Waits
            }
            Ok(Done::Attach(attachment)) => Step::Attach(attachment),
            Ok(Done::Term(settings)) => Step::Term(settings),
            Ok(Done::Exit) => Step::Exit,
            Err(failure) => Step::Answered(Err(failure)),
        }
    }

    /// Goes on with what a command began. How it ended, where that ended it.
    pub(crate) fn poll(
        &mut self,
        migrations: &mut Migrations,
        out: &mut Out<'_>,
    ) -> Option<Result<(), Failure>> {
        match &mut self.job {
            Some(Job::Task(task)) => {
                let Poll::Ready(result) = task.poll(migrations, out) else { return None };
                self.job = None;
                Some(result)
            }
            Some(Job::Migration { live: true }) => {
                let now = tsc::read();
                if now.saturating_sub(self.shown) >= tsc::ticks(LIVE_US)
                    && let Some(report) = migrations.report()
                {
                    self.shown = now;
                    migrate::live(&report, out);
                }
                None
            }
            Some(Job::Pool) => {
                let _ = Folded::new(out).write_str(&pool::take_answer());
                None
            }
            Some(Job::Migration { live: false }) | None => None,
        }
    }

    /// Ctrl-C: ends what a command began, where it can be ended.
    pub(crate) fn interrupt(&mut self, migrations: &mut Migrations, out: &mut Out<'_>) {
        match &mut self.job {
            Some(Job::Migration { .. }) => {
                if let Err(why) = migrations.cancel(None) {
                    let _ = writeln!(out, "{}", why.text);
                }
            }
            Some(Job::Task(task)) => task.interrupt(),
            Some(Job::Pool) | None => {}
        }
    }

    /// Whoever asked is gone: a task ends, and nobody hears how. Migrations and the pool's work go on by themselves.
    pub(crate) fn abandon(&mut self, migrations: &mut Migrations) {
        if let Some(Job::Task(mut task)) = self.job.take() {
            task.interrupt();
            let _ = task.poll(migrations, &mut Out::new(&mut String::new()));
        }
    }

    /// A byte that was typed meanwhile; false where it is to be kept.
    pub(crate) fn key(&mut self, byte: u8) -> bool {
        match &mut self.job {
            Some(Job::Task(task)) => task.key(byte),
            _ => false,
        }
    }

    /// Whether what is to come stops at the end of a screen.
    pub(crate) fn is_paged(&self) -> bool {
        match &self.job {
            Some(Job::Task(task)) => task.is_paged(),
            _ => false,
        }
    }

    /// Whether Ctrl-C means something to what is going on.
    pub(crate) fn can_interrupt(&self) -> bool {
        matches!(self.job, Some(Job::Migration { .. } | Job::Task(_)))
    }

    /// What a command may have begun is over. How the command ended, where it was this session's.
    pub(crate) fn ended(
        &mut self,
        work: Work,
        ended: &Ended,
        out: &mut Out<'_>,
    ) -> Option<Result<(), Failure>> {
        // One that goes on behind the prompt says in the log how it ended.
        let own = |job: &mut Job| match job {
            Job::Migration { .. } => work == Work::Migration,
            Job::Pool => work == Work::Pool,
            Job::Task(_) => false,
        };
        self.job.take_if(own)?;
        if work == Work::Pool {
            let _ = Folded::new(out).write_str(&pool::take_answer());
        }
        Some(match ended {
            Ended::Done => Ok(()),
            Ended::Refused(why) => Err(Failure::new(Code::Refused, why.as_str())),
            Ended::Failed(why) => Err(Failure::new(Code::Failed, why.as_str())),
        })
    }
}

/// The line that ends each command.
pub(crate) fn finish(result: Result<(), Failure>, out: &mut Out<'_>) {
    let _ = match result {
        Ok(()) => out.write_str("ok\n"),
        Err(failure) => writeln!(out, "{failure}"),
    };
}
