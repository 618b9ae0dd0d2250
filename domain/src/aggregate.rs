//! What the machinery needs of an aggregate beyond cqrs-es, and the macro that registers the aggregates side by side.
use uuid::Uuid;

/// What the caller can do about a refused command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// There is nothing under this id.
    Absent,
    /// A rule forbids it, whoever comes first.
    Rule,
    /// Somebody else was faster, or the result came too late.
    Late,
}

/// Implemented by each aggregate's error.
pub trait Refuse: std::error::Error {
    fn kind(&self) -> RefusalKind;
    /// Names the broken rule in snake_case. Stable, unlike the words: programs tell refusals apart by it.
    fn code(&self) -> &'static str;
}

/// A refused command: which rule, why, in words for the caller, and what the caller can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    pub kind: RefusalKind,
    /// The broken rule; see [`Refuse::code`].
    pub code: &'static str,
    pub reason: String,
}

impl<E: Refuse> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self { kind: error.kind(), code: error.code(), reason: error.to_string() }
    }
}

/// An aggregate that can say whose personal text its events hold.
pub trait Rooted: cqrs_es::Aggregate {
    /// The person under whose key the personal parts of this stream are sealed; `id` is the stream's own id.
    fn subject(&self, id: Uuid) -> Option<Uuid>;
}

/// Registers aggregates: one line each gives the variants of `AggregateKind`, `Event`, `Command` and `State`.
#[macro_export]
macro_rules! aggregates {
    ($($name:ident($state:ty, $command:ty, $event:ty);)+) => {
        /// The kinds of aggregate.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum AggregateKind { $($name),+ }

        impl AggregateKind {
            pub const ALL: &'static [AggregateKind] = &[$(AggregateKind::$name),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => <$state as cqrs_es::Aggregate>::TYPE),+ }
            }

            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
            }
        }

        /// Any event of any aggregate.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Event { $($name($event)),+ }

        impl Event {
            /// The type within its aggregate, past tense: `completed`.
            pub fn event_type(&self) -> &'static str {
                match self { $(Self::$name(event) => $crate::event::Recorded::event_type(event)),+ }
            }

            pub fn version(&self) -> u16 {
                match self { $(Self::$name(event) => $crate::event::Recorded::version(event)),+ }
            }

            pub fn kind(&self) -> AggregateKind {
                match self { $(Self::$name(_) => AggregateKind::$name),+ }
            }

            /// The facts as the JSON that is stored.
            pub fn facts(&self) -> Vec<u8> {
                match self { $(Self::$name(event) => $crate::event::Recorded::facts(event)),+ }
            }

            /// The personal part as stored: none where the type has none or the part is erased.
            pub fn personal(&self) -> Option<Vec<u8>> {
                match self { $(Self::$name(event) => $crate::event::Recorded::personal(event)),+ }
            }

            /// Whether this event's type has a personal part and it can no longer be read.
            pub fn is_erased(&self) -> bool {
                match self { $(Self::$name(event) => $crate::event::Recorded::is_erased(event)),+ }
            }

            /// Forgets the personal part, as an event of an erased person reads.
            pub fn erase(&mut self) {
                match self { $(Self::$name(event) => $crate::event::Recorded::erase(event)),+ }
            }

            /// Reads a stored event, of an older version by way of its [upcasters](crate::upcast); `personal` is none when the
            /// part is erased or the type has none.
            ///
            /// # Errors
            /// `Unknown` for a type or version this program does not know, `Malformed` for bytes that do not fit the type.
            pub fn decode(
                kind: AggregateKind, event_type: &str, version: u16, facts: &[u8], personal: Option<&[u8]>,
            ) -> Result<Self, $crate::DecodeError> {
                match kind {
                    $(AggregateKind::$name =>
                        <$event as $crate::event::Recorded>::decode(event_type, version, facts, personal).map(Self::$name)),+
                }
            }
        }

        /// Any command to any aggregate.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Command { $($name($command)),+ }

        impl Command {
            pub fn kind(&self) -> AggregateKind {
                match self { $(Self::$name(_) => AggregateKind::$name),+ }
            }
        }

        $(impl From<$command> for Command {
            fn from(command: $command) -> Self { Self::$name(command) }
        })+

        /// What any aggregate remembers for its decisions.
        #[derive(Debug, Clone)]
        pub enum State { $($name($state)),+ }

        impl State {
            /// The state before the first event.
            pub fn new(kind: AggregateKind) -> Self {
                match kind { $(AggregateKind::$name => Self::$name(<$state>::default())),+ }
            }

            /// Folds one event in. An event of another aggregate is a programming error of the log's reader and is ignored.
            pub fn apply(&mut self, event: Event) {
                match (self, event) {
                    $((Self::$name(state), Event::$name(event)) => cqrs_es::Aggregate::apply(state, event),)+
                    _ => debug_assert!(false, "an event was applied to another aggregate"),
                }
            }

            pub fn subject(&self, id: uuid::Uuid) -> Option<uuid::Uuid> {
                match self { $(Self::$name(state) => $crate::Rooted::subject(state, id)),+ }
            }

            /// Decides a command and applies what it decided; an empty answer means that it was satisfied already.
            ///
            /// # Errors
            /// The aggregate's refusal. The state may then be used no further: decide on a clone.
            pub async fn handle(&mut self, command: Command) -> Result<Vec<Event>, $crate::Refusal> {
                match (self, command) {
                    $((Self::$name(state), Command::$name(command)) => {
                        let sink = cqrs_es::event_sink::EventSink::default();
                        cqrs_es::Aggregate::handle(state, command, &(), &sink).await?;
                        Ok(sink.collect().await.into_iter().map(Event::$name).collect())
                    })+
                    _ => Err($crate::Refusal {
                        kind: $crate::RefusalKind::Absent,
                        code: "wrong_aggregate",
                        reason: "the command is for another kind of aggregate".into(),
                    }),
                }
            }
        }

        $(impl<'a> TryFrom<&'a State> for &'a $state {
            type Error = ();
            fn try_from(state: &'a State) -> Result<Self, ()> {
                match state { State::$name(state) => Ok(state), #[allow(unreachable_patterns)] _ => Err(()) }
            }
        })+
    };
}
