//! A terminal: what a person sees of the bytes of a serial line.

/// How much the terminal understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// CR, LF, BS and BEL; the ESC character is garbage on its screen.
    Dumb,
    /// Also the ECMA-48 sequences for moving the cursor and erasing.
    Ansi,
}

/// A screen of a fixed width whose rows are never forgotten.
#[derive(Clone, Debug)]
pub struct Terminal {
    kind: Kind,
    columns: usize,
    /// A character with its marks in each cell; an empty one behind a wide character.
    rows: Vec<Vec<String>>,
    row: usize,
    column: usize,
    /// Bytes of an ESC sequence, or of an unfinished character.
    escape: Option<String>,
    partial: Vec<u8>,
    /// How often the bell rang.
    pub bells: usize,
    /// What this terminal does not understand.
    pub garbage: Vec<String>,
    /// Characters that did not fit their row and went on in the next one.
    pub wrapped: usize,
}

/// Columns of the characters that the tests use.
fn columns(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{200d}' | '\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{3041}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{1f300}'..='\u{1f64f}' => 2,
        _ => 1,
    }
}

/// Columns of a text.
pub fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

impl Terminal {
    /// An empty screen.
    pub fn new(kind: Kind, columns: usize) -> Self {
        Self {
            kind,
            columns,
            rows: vec![Vec::new()],
            row: 0,
            column: 0,
            escape: None,
            partial: Vec::new(),
            bells: 0,
            garbage: Vec::new(),
            wrapped: 0,
        }
    }

    /// Takes bytes as they come.
    pub fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.partial.push(*byte);
            match std::str::from_utf8(&self.partial) {
                Ok(text) => {
                    let c = text.chars().next();
                    self.partial.clear();
                    c.into_iter().for_each(|c| self.put(c));
                }
                Err(error) if error.error_len().is_none() => {}
                Err(_) => {
                    self.partial.clear();
                    self.put(char::REPLACEMENT_CHARACTER);
                }
            }
        }
    }

    /// Takes text.
    pub fn show(&mut self, text: &str) {
        text.chars().for_each(|c| self.put(c));
    }

    fn put(&mut self, c: char) {
        if let Some(mut sequence) = self.escape.take() {
            sequence.push(c);
            let over = !matches!(c, '[' | '0'..='9' | ';' | '?');
            if !over {
                self.escape = Some(sequence);
            } else if self.kind == Kind::Dumb || !self.obey(&sequence) {
                self.garbage.push(sequence);
            }
            return;
        }
        match c {
            '\r' => self.column = 0,
            '\n' => {
                self.row += 1;
                if self.row == self.rows.len() {
                    self.rows.push(Vec::new());
                }
            }
            '\x08' => self.column = self.column.saturating_sub(1),
            '\x07' => self.bells += 1,
            '\x1b' => self.escape = Some(String::new()),
            c if c.is_control() => self.garbage.push(c.escape_default().to_string()),
            c => self.print(c),
        }
    }

    fn print(&mut self, c: char) {
        let wide = columns(c);
        if wide == 0 {
            let at = (0..self.column).rev().find(|at| !self.cell(*at).is_empty());
            if let Some(at) = at {
                self.rows[self.row][at].push(c);
            }
            return;
        }
        if self.column + wide > self.columns {
            self.wrapped += 1;
            self.column = 0;
            self.row += 1;
            if self.row == self.rows.len() {
                self.rows.push(Vec::new());
            }
        }
        let row = &mut self.rows[self.row];
        if row.len() < self.column + wide {
            row.resize(self.column + wide, " ".to_string());
        }
        // Half of a wide character does not stay.
        if row[self.column].is_empty() && self.column > 0 {
            row[self.column - 1] = " ".to_string();
        }
        if row.get(self.column + wide).is_some_and(String::is_empty) {
            row[self.column + wide] = " ".to_string();
        }
        row[self.column] = c.to_string();
        if wide == 2 {
            row[self.column + 1] = String::new();
        }
        self.column += wide;
    }

    fn cell(&self, at: usize) -> &str {
        self.rows[self.row].get(at).map_or(" ", String::as_str)
    }

    fn obey(&mut self, sequence: &str) -> bool {
        let Some(body) = sequence.strip_prefix('[') else { return false };
        let (digits, command) = body.split_at(body.len() - 1);
        let Ok(number) = (if digits.is_empty() { Ok(0) } else { digits.parse::<usize>() }) else {
            return false;
        };
        match command {
            "C" => self.column = (self.column + number.max(1)).min(self.columns - 1),
            "D" => self.column = self.column.saturating_sub(number.max(1)),
            "K" if number == 0 => self.rows[self.row].truncate(self.column),
            "H" if digits.is_empty() => (self.row, self.column) = (0, 0),
            "J" if number == 2 => self.rows = vec![Vec::new()],
            _ => return false,
        }
        true
    }

    /// The row of the cursor, without blanks at its end.
    pub fn line(&self) -> String {
        self.rows[self.row].concat().trim_end().to_string()
    }

    /// The cursor's column.
    pub const fn column(&self) -> usize {
        self.column
    }

    /// What stands to the right of the cursor, or to its left.
    pub fn beside_cursor(&self, right: bool) -> String {
        if right {
            return self.cell(self.column).to_string();
        }
        let before = (0..self.column).rev().map(|at| self.cell(at)).find(|cell| !cell.is_empty());
        before.unwrap_or_default().to_string()
    }

    /// All rows, without blanks at their ends.
    pub fn rows(&self) -> Vec<String> {
        self.rows.iter().map(|row| row.concat().trim_end().to_string()).collect()
    }

    /// All rows as one text.
    pub fn text(&self) -> String {
        self.rows().join("\n")
    }
}
