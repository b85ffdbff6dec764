//! Every way that a run can go: whoever has a choice asks for it, and the run is repeated until all were made.

use std::cell::RefCell;

#[derive(Default)]
pub(crate) struct Choices {
    /// What was chosen, of how many.
    made: RefCell<Vec<(usize, usize)>>,
    at: RefCell<usize>,
}

impl Choices {
    /// One of `0..of`.
    pub(crate) fn pick(&self, of: usize) -> usize {
        assert!(of > 0);
        let (mut made, mut at) = (self.made.borrow_mut(), self.at.borrow_mut());
        if *at == made.len() {
            made.push((0, of));
        }
        assert_eq!(made[*at].1, of, "the run is not a function of its choices");
        *at += 1;
        made[*at - 1].0
    }

    /// Goes on to the next run; false after the last one.
    fn next(&self) -> bool {
        *self.at.borrow_mut() = 0;
        let mut made = self.made.borrow_mut();
        while let Some((chosen, of)) = made.pop() {
            if chosen + 1 < of {
                made.push((chosen + 1, of));
                return true;
            }
        }
        false
    }
}

/// Runs `run` for all choices, or until one answers false. Returns how many runs there were, and whether that was so.
pub(crate) fn explore(run: impl Fn(&Choices) -> bool) -> (u64, bool) {
    let choices = Choices::default();
    let mut runs = 0;
    loop {
        runs += 1;
        if !run(&choices) {
            return (runs, true);
        }
        if !choices.next() {
            return (runs, false);
        }
    }
}
