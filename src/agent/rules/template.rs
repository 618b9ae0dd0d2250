//! Texts and values with `{{ CEL }}` inside: split and compiled when they are configured, rendered later.
use super::expression::{Compiler, Expression, Scene};
use super::failure::Trouble;
use super::syntax::{Flaw, Scanner};
use super::value::{self, Room};
use serde_json::{Map, Value};

/// Characters of a text with expressions in it, as it is written.
pub const TEMPLATE_CHARS_MAX: usize = 16_384;

const OPEN: [char; 2] = ['{', '{'];

#[derive(Debug, Clone)]
enum Part {
    Words(String),
    Computed(Expression),
}

/// A text with expressions in it.
#[derive(Debug, Clone)]
pub(super) struct Template(Vec<Part>);

impl Template {
    /// # Errors
    /// Every expression in `text` that is wrong, or an opening `{{` that nothing closes.
    pub fn compile(text: &str, compiler: &mut Compiler) -> Result<Self, Vec<Flaw>> {
        let chars: Vec<char> = text.chars().collect();
        if chars.len() > TEMPLATE_CHARS_MAX && text.contains("{{") {
            let detail = format!("a text with expressions has at most {TEMPLATE_CHARS_MAX} characters");
            return Err(vec![Flaw::new(TEMPLATE_CHARS_MAX, detail)]);
        }
        let (mut parts, mut flaws) = (Vec::new(), Vec::new());
        let mut next = 0;
        while let Some(open) = position_of_open(&chars, next) {
            push_words(&mut parts, &chars[next..open]);
            let start = open + OPEN.len();
            match position_of_close(&chars, start).map_err(|flaw| vec![flaw]) {
                Ok(end) => {
                    let source: String = chars[start..end].iter().collect();
                    match Expression::compile(&source, compiler) {
                        Ok(expression) => parts.push(Part::Computed(expression)),
                        Err(flaw) => flaws.push(flaw.shifted(start)),
                    }
                    next = end + 2;
                }
                Err(unclosed) => {
                    flaws.extend(unclosed);
                    return Err(flaws);
                }
            }
        }
        push_words(&mut parts, &chars[next..]);
        if flaws.is_empty() { Ok(Self(parts)) } else { Err(flaws) }
    }

    /// The text with the value of each expression in its place.
    pub fn render(&self, scene: &Scene<'_>, room: &mut Room) -> Result<String, Trouble> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Words(words) => text.push_str(words),
                Part::Computed(expression) => {
                    let computed = expression.run(scene)?;
                    scene.budget.charge_deep(computed.as_ref()).map_err(|_| Trouble::too_costly())?;
                    text.push_str(&value::to_text(computed.as_ref(), room)?);
                }
            }
        }
        Ok(text)
    }

    /// The value itself where the text is nothing but one expression.
    fn render_value(&self, scene: &Scene<'_>, room: &mut Room) -> Result<Value, Trouble> {
        if let [Part::Computed(expression)] = self.0.as_slice() {
            return value::to_json(expression.run(scene)?.as_ref(), room);
        }
        let text = self.render(scene, room)?;
        room.take(text.len())?;
        Ok(Value::String(text))
    }
}

fn push_words(parts: &mut Vec<Part>, chars: &[char]) {
    if !chars.is_empty() {
        parts.push(Part::Words(chars.iter().collect()));
    }
}

fn position_of_open(chars: &[char], from: usize) -> Option<usize> {
    chars[from..].windows(OPEN.len()).position(|pair| pair == OPEN).map(|found| from + found)
}

/// Where the `}}` stands that closes the expression begun at `start`: not one inside a text literal or an inner `{…}`.
fn position_of_close(chars: &[char], start: usize) -> Result<usize, Flaw> {
    let unclosed = || Flaw::new(start - OPEN.len(), "this {{ is never closed with }}");
    let mut scanner = Scanner::new(chars, start);
    let mut open_braces = 0_usize;
    while let Some((at, c)) = scanner.advance()? {
        match c {
            '{' => open_braces += 1,
            '}' if open_braces > 0 => open_braces -= 1,
            '}' if chars.get(at + 1) == Some(&'}') => return Ok(at),
            '}' => return Err(Flaw::new(at, "this } closes nothing")),
            _ => {}
        }
    }
    Err(unclosed())
}

/// A JSON value in which any text may hold expressions; keys are taken as they are.
#[derive(Debug, Clone)]
pub(super) enum ValueTemplate {
    Fixed(Value),
    Text(Template),
    List(Vec<ValueTemplate>),
    Object(Vec<(String, ValueTemplate)>),
}

impl ValueTemplate {
    /// # Errors
    /// Every flaw with the JSON Pointer of its text, below `pointer`.
    pub fn compile(value: &Value, pointer: &str, compiler: &mut Compiler) -> Result<Self, Vec<(String, Flaw, String)>> {
        let mut flaws = Vec::new();
        let compiled = Self::collect(value, pointer, compiler, &mut flaws);
        if flaws.is_empty() { Ok(compiled) } else { Err(flaws) }
    }

    fn collect(value: &Value, pointer: &str, compiler: &mut Compiler, flaws: &mut Vec<(String, Flaw, String)>) -> Self {
        match value {
            Value::String(text) if text.contains("{{") => match Template::compile(text, compiler) {
                Ok(template) => Self::Text(template),
                Err(found) => {
                    flaws.extend(found.into_iter().map(|flaw| (pointer.to_owned(), flaw, text.clone())));
                    Self::Fixed(Value::Null)
                }
            },
            Value::Array(items) => {
                let inner = items
                    .iter()
                    .enumerate()
                    .map(|(i, item)| Self::collect(item, &format!("{pointer}/{i}"), compiler, flaws));
                Self::List(inner.collect())
            }
            Value::Object(fields) => {
                let inner = fields.iter().map(|(key, field)| {
                    let below = format!("{pointer}/{}", escape_pointer(key));
                    (key.clone(), Self::collect(field, &below, compiler, flaws))
                });
                Self::Object(inner.collect())
            }
            fixed => Self::Fixed(fixed.clone()),
        }
    }

    /// # Errors
    /// What went wrong and the place below `place` where it did.
    pub fn render(&self, scene: &Scene<'_>, room: &mut Room, place: &str) -> Result<Value, (String, Trouble)> {
        let here = |trouble| (place.to_owned(), trouble);
        match self {
            Self::Fixed(value) => {
                room.take(value.as_str().map_or(4, str::len)).map_err(here)?;
                Ok(value.clone())
            }
            Self::Text(template) => template.render_value(scene, room).map_err(here),
            Self::List(items) => {
                let inner = items.iter().enumerate().map(|(i, item)| item.render(scene, room, &format!("{place}/{i}")));
                inner.collect::<Result<_, _>>().map(Value::Array)
            }
            Self::Object(fields) => {
                let mut object = Map::new();
                for (key, field) in fields {
                    room.take(key.len()).map_err(here)?;
                    object.insert(key.clone(), field.render(scene, room, &format!("{place}/{}", escape_pointer(key)))?);
                }
                Ok(Value::Object(object))
            }
        }
    }
}

/// RFC 6901: `~` and `/` are written `~0` and `~1` within a pointer.
pub(super) fn escape_pointer(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
