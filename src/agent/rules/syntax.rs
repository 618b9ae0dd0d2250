//! Reads an expression character by character, telling code from text, before any parser sees it.
use std::fmt;

/// Characters of one expression. A screenful; the parser's work grows with it.
pub const EXPRESSION_CHARS_MAX: usize = 4096;

/// How deep operators and brackets may nest. People need less than 20; parsing and evaluating call themselves once or more per
/// level, and this many levels fit several times into the 2 MiB stack of a worker thread.
pub const EXPRESSION_DEPTH_MAX: usize = 24;

/// What is wrong with a text, and at which character (from 0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    pub at: usize,
    pub detail: String,
}

impl Flaw {
    pub fn new(at: usize, detail: impl fmt::Display) -> Self {
        Self { at, detail: detail.to_string() }
    }

    /// The same flaw of an expression that begins at character `start` of a longer text.
    pub fn shifted(mut self, start: usize) -> Self {
        self.at += start;
        self
    }

    /// `column 7: …`, or `line 2, column 7: …` where the text has several lines. Both count from 1.
    pub fn in_words(&self, text: &str) -> String {
        let before: Vec<char> = text.chars().take(self.at).collect();
        let line = before.iter().filter(|c| **c == '\n').count() + 1;
        let column = before.iter().rev().take_while(|c| **c != '\n').count() + 1;
        if text.contains('\n') {
            format!("line {line}, column {column}: {}", self.detail)
        } else {
            format!("column {column}: {}", self.detail)
        }
    }
}

/// Walks the code of an expression and steps over its text literals and comments.
#[derive(Debug)]
pub struct Scanner<'a> {
    chars: &'a [char],
    next: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(chars: &'a [char], start: usize) -> Self {
        Self { chars, next: start }
    }

    /// The next character of code and where it stands; a text literal counts as its opening quote. `None` at the end.
    ///
    /// # Errors
    /// A literal that is not closed or holds an unknown escape: a lexer would go on reading its inside as code, unseen by the
    /// depth check.
    pub fn advance(&mut self) -> Result<Option<(usize, char)>, Flaw> {
        while self.rest().starts_with(&['/', '/']) {
            self.next += self.rest().iter().take_while(|c| **c != '\n').count();
        }
        let at = self.next;
        let Some(&c) = self.chars.get(at) else { return Ok(None) };
        self.next += 1;
        match c {
            '"' | '\'' => self.skip_literal(at, c)?,
            // Inside such a name `//` is no comment, and the language of rules does without them.
            '`' => return Err(Flaw::new(at, "` is not used here; write input[\"a name\"]")),
            _ => {}
        }
        Ok(Some((at, c)))
    }

    fn rest(&self) -> &'a [char] {
        self.chars.get(self.next..).unwrap_or_default()
    }

    fn skip_literal(&mut self, at: usize, quote: char) -> Result<(), Flaw> {
        let raw = self.is_raw(at);
        let triple = self.rest().starts_with(&[quote, quote]);
        let close = vec![quote; if triple { 3 } else { 1 }];
        self.next += close.len() - 1;
        loop {
            let Some(&c) = self.chars.get(self.next).filter(|c| triple || **c != '\n') else {
                return Err(Flaw::new(at, "this text is not closed"));
            };
            if self.rest().starts_with(&close) {
                self.next += close.len();
                return Ok(());
            }
            self.next += 1;
            if c == '\\' && !raw {
                self.skip_escape()?;
            }
        }
    }

    /// Whether the literal is `r"…"` or `br"…"`, in which a backslash is just a backslash.
    fn is_raw(&self, at: usize) -> bool {
        let word: String = self.chars[..at].iter().rev().take_while(|c| is_word(**c)).collect();
        matches!(word.to_ascii_lowercase().as_str(), "r" | "rb")
    }

    fn skip_escape(&mut self) -> Result<(), Flaw> {
        let at = self.next - 1;
        let unknown = || Flaw::new(at, "this \\ begins no known escape; write \\\\ for a backslash");
        let kind = *self.rest().first().ok_or_else(unknown)?;
        let (digits, radix) = match kind {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' | '?' | '"' | '\'' | '`' => (0, 16),
            'x' | 'X' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='3' => (2, 8),
            _ => return Err(unknown()),
        };
        self.next += 1;
        let tail = self.rest().get(..digits).ok_or_else(unknown)?;
        if !tail.iter().all(|c| c.is_digit(radix)) {
            return Err(unknown());
        }
        self.next += digits;
        Ok(())
    }
}

/// How deep the syntax tree is of what was read since a bracket opened; an upper bound.
#[derive(Default)]
struct Level {
    /// Of the list elements or arguments that are complete.
    elements: usize,
    /// `? :` in this element; each holds the next.
    conditionals: usize,
    /// `&&` and `||` in this element; chains of them become balanced trees.
    logicals: usize,
    /// Of the operands of `&&`, `||` and `? :` that are complete.
    terms: usize,
    /// Other operators in this term; each holds the one before.
    operators: usize,
    /// Of the operands in this term that are complete.
    operands: usize,
    /// Of the operand being read: selections, calls and brackets around each other.
    operand: usize,
}

impl Level {
    fn depth(&self) -> usize {
        let balanced = self.logicals.min(2 * (usize::BITS - self.logicals.leading_zeros()) as usize);
        self.elements.max(self.conditionals + balanced + self.term().max(self.terms))
    }

    fn term(&self) -> usize {
        self.operators + self.operands.max(self.operand)
    }

    fn end_operand(&mut self) {
        self.operands = self.operands.max(std::mem::take(&mut self.operand));
    }

    fn end_term(&mut self) {
        self.terms = self.terms.max(self.term());
        (self.operators, self.operands, self.operand) = (0, 0, 0);
    }

    fn end_element(&mut self) {
        *self = Self { elements: self.depth(), ..Self::default() };
    }
}

/// Refuses an expression that is too long or nests too deeply, before a recursive parser meets it.
pub fn check_depth(source: &str) -> Result<(), Flaw> {
    let chars: Vec<char> = source.chars().collect();
    if chars.len() > EXPRESSION_CHARS_MAX {
        let detail = format!("the expression has {} characters; at most {EXPRESSION_CHARS_MAX} are read", chars.len());
        return Err(Flaw::new(EXPRESSION_CHARS_MAX, detail));
    }
    let mut scanner = Scanner::new(&chars, 0);
    let mut outer: Vec<Level> = Vec::new();
    let mut level = Level::default();
    while let Some((at, c)) = scanner.advance()? {
        match c {
            '(' | '[' | '{' => outer.push(std::mem::take(&mut level)),
            ')' | ']' | '}' => {
                let inner = level.depth() + 1;
                level =
                    outer.pop().ok_or_else(|| Flaw::new(at, format!("nothing is open that this {c} could close")))?;
                // The bracket may be a call or an index, which holds what it is applied to beside what is in it.
                level.operand = (level.operand + 1).max(inner);
            }
            _ => step(&mut level, &chars, at, c),
        }
        if outer.len().max(level.depth()) > EXPRESSION_DEPTH_MAX {
            let detail = format!("nested or chained too deeply here; at most {EXPRESSION_DEPTH_MAX} levels are read");
            return Err(Flaw::new(at, detail));
        }
    }
    Ok(())
}

fn step(level: &mut Level, chars: &[char], at: usize, c: char) {
    let follows = |first: &[char]| at > 0 && first.contains(&chars[at - 1]);
    match c {
        ',' => level.end_element(),
        '&' | '|' => {
            level.end_term();
            level.logicals += usize::from(!follows(&[c]));
        }
        '?' | ':' => {
            level.end_term();
            level.conditionals += usize::from(c == '?');
        }
        '.' | '!' => level.operand += 1,
        // The second half of an operator.
        '=' if follows(&['=', '<', '>']) => {}
        '+' | '-' | '*' | '/' | '%' | '<' | '>' | '=' => {
            level.end_operand();
            level.operators += 1;
        }
        'i' if is_the_word_in(chars, at) => {
            level.end_operand();
            level.operators += 1;
        }
        _ => {}
    }
}

fn is_the_word_in(chars: &[char], at: usize) -> bool {
    let begins = at == 0 || !is_word(chars[at - 1]);
    let ends = chars.get(at + 2).is_none_or(|c| !is_word(*c));
    begins && ends && chars.get(at + 1) == Some(&'n')
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flaw_is_placed_by_column_and_in_longer_texts_by_line() {
        assert_eq!(Flaw::new(2, "x").in_words("äöü"), "column 3: x");
        assert_eq!(Flaw::new(4, "x").in_words("ab\ncd"), "line 2, column 2: x");
    }

    #[test]
    fn brackets_in_texts_and_comments_do_not_nest() {
        let quoted = format!("'{0}' + \"{0}\" + r'{0}\\' + '''{0}''' // {0}", "(".repeat(300));
        assert_eq!(check_depth(&quoted), Ok(()));
    }

    #[test]
    fn a_text_cannot_smuggle_brackets_past_the_depth_check() {
        let deep = "(".repeat(300);
        for source in [
            format!("'\\q{deep}'"),
            format!("'{deep}"),
            format!("'\n{deep}'"),
            format!("a.`//`{deep}"),
            format!("'\\u12{deep}'"),
        ] {
            assert!(check_depth(&source).is_err(), "{source:.20}");
        }
    }

    #[test]
    fn operators_around_brackets_add_up() {
        let nested = |times: usize| format!("{}1{}", "(".repeat(times), "+1+1+1)".repeat(times));
        assert_eq!(check_depth(&nested(EXPRESSION_DEPTH_MAX / 4)), Ok(()));
        assert!(check_depth(&nested(EXPRESSION_DEPTH_MAX / 4 + 1)).is_err());
    }

    #[test]
    fn everyday_chains_are_not_deep() {
        let long = vec!["input.customer.address.country in ['AT', 'DE']"; 80].join(" && ");
        assert_eq!(check_depth(&long), Ok(()));
    }
}
